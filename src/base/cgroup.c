#include "base/cgroup.h"

#include <limits.h>

#include "base/bits.h"

/* Whether `word` is one of those that commas divide. */
static bool list_has(struct span list, const char *word)
{
	while (list.start != NULL)
		if (span_is(span_cut(&list, ','), word))
			return true;
	return false;
}

/* What follows the next separator; nothing when there is none. */
static struct span next(struct span *rest, char separator)
{
	return rest->start == NULL ? *rest : span_cut(rest, separator);
}

enum cgroup_version cgroup_membership(struct span line, struct span *path)
{
	struct span id = span_cut(&line, ':'), controllers = next(&line, ':');

	if (line.length == 0 || line.start[0] != '/')
		return CGROUP_VERSIONS;
	*path = line;
	if (controllers.length == 0)
		return span_is(id, "0") ? CGROUP_V2 : CGROUP_VERSIONS;
	return list_has(controllers, "cpu") ? CGROUP_V1 : CGROUP_VERSIONS;
}

/* "id parent device root point options [tag ...] - type source options" */
enum cgroup_version cgroup_mount(struct span line, struct span *root, struct span *point)
{
	struct span type;

	for (int i = 0; i < 3; i++)
		(void)next(&line, ' ');
	*root = next(&line, ' ');
	*point = next(&line, ' ');
	if (point->length == 0 || point->start[0] != '/')
		return CGROUP_VERSIONS;
	while (line.start != NULL && !span_is(span_cut(&line, ' '), "-"))
		;
	type = next(&line, ' ');
	if (type.start == NULL)
		return CGROUP_VERSIONS;
	if (span_is(type, "cgroup2"))
		return CGROUP_V2;
	(void)next(&line, ' ');
	return span_is(type, "cgroup") && list_has(line, "cpu") ? CGROUP_V1 : CGROUP_VERSIONS;
}

static bool is_octal(const char *digits)
{
	return digits[0] >= '0' && digits[0] <= '3' && digits[1] >= '0' && digits[1] <= '7' &&
	       digits[2] >= '0' && digits[2] <= '7';
}

/* Cuts the first character, which may be written "\040", off a text that has one. */
static char cut_character(struct span *escaped)
{
	const char *at = escaped->start;
	size_t length = 1;
	char c = at[0];

	if (c == '\\' && escaped->length >= 4 && is_octal(at + 1)) {
		c = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
		length = 4;
	}
	*escaped = (struct span){ at + length, escaped->length - length };
	return c;
}

/* What the path has below `root`, "" or "/..."; start NULL when it is elsewhere. */
static struct span path_below(struct span root, struct span path)
{
	static const struct span elsewhere = { NULL, 0 };

	if (span_is(path, "/"))
		path.length = 0;
	if (span_is(root, "/"))
		return path;
	while (root.length > 0) {
		if (path.length == 0 || path.start[0] != cut_character(&root))
			return elsewhere;
		path = (struct span){ path.start + 1, path.length - 1 };
	}
	return path.length == 0 || path.start[0] == '/' ? path : elsewhere;
}

/* A group outside of the process's namespace is shown as "/../..". */
static bool path_climbs(struct span path)
{
	while (path.start != NULL)
		if (span_is(span_cut(&path, '/'), ".."))
			return true;
	return false;
}

size_t cgroup_folder(char *folder, size_t size, struct span root, struct span point,
                     struct span path)
{
	struct span below = path_below(root, path);
	size_t top = 0;

	if (below.start == NULL || path_climbs(path))
		return 0;
	while (point.length > 0 && top < size)
		folder[top++] = cut_character(&point);
	if (top + below.length >= size)
		return 0;
	memcpy(folder + top, below.start, below.length);
	folder[top + below.length] = '\0';
	return top;
}

bool cgroup_ascend(char *folder, size_t top)
{
	size_t length = strlen(folder);

	if (length <= top)
		return false;
	while (length > top && folder[length - 1] != '/')
		length--;
	folder[size_max(length, top + 1) - 1] = '\0';
	return true;
}

/* v1 has -1 where there is no limit, v2 "max": no numbers. */
unsigned cgroup_cpus_v1(struct span quota, struct span period)
{
	size_t time, each;

	if (!span_number(quota, &time) || !span_number(period, &each) || each == 0)
		return UINT_MAX;
	return (unsigned)size_max(size_min(time / each + (time % each != 0), UINT_MAX), 1);
}

unsigned cgroup_cpus_v2(struct span max)
{
	struct span quota = next(&max, ' ');

	return max.start == NULL ? UINT_MAX : cgroup_cpus_v1(quota, max);
}
