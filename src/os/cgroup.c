#include "os/cgroup.h"

#include <fcntl.h>

#include "os/syscall.h"

#define LONGEST_NAME sizeof("/cpu.cfs_period_us")

static bool reader_open(struct cgroup_reader *r, const char *path)
{
	r->fd = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	r->start = r->end = 0;
	return !sys_failed(r->fd);
}

static void reader_close(struct cgroup_reader *r)
{
	sys(SYS_close, r->fd);
}

/* Without its newline, valid until the next; start NULL: there is none. */
static struct span reader_line(struct cgroup_reader *r)
{
	bool too_long = false;

	for (;;) {
		struct span rest = { r->text + r->start, r->end - r->start };
		struct span line = span_cut(&rest, '\n');
		long n;

		if (rest.start != NULL) {
			r->start += line.length + 1;
			if (!too_long)
				return line;
			too_long = false;
			continue;
		}
		too_long |= line.length == sizeof(r->text);
		r->end = too_long ? 0 : line.length;
		memmove(r->text, r->text + r->start, r->end);
		r->start = 0;
		n = sys(SYS_read, r->fd, r->text + r->end, sizeof(r->text) - r->end);
		if (sys_failed(n) || n == 0)
			return (struct span){ NULL, 0 };
		r->end += (size_t)n;
	}
}

static void find_paths(struct cgroup_search *search, const char *file)
{
	struct span line, path;

	if (!reader_open(&search->reader, file))
		return;
	while ((line = reader_line(&search->reader)).start != NULL) {
		enum cgroup_version v = cgroup_membership(line, &path);
		struct cgroup_place *place = &search->places[v];

		if (v == CGROUP_VERSIONS || path.length > sizeof(place->path))
			continue;
		memcpy(place->path, path.start, path.length);
		place->path_length = path.length;
	}
	reader_close(&search->reader);
}

static void find_folders(struct cgroup_search *search, const char *file)
{
	struct span line, root, point;

	if (!reader_open(&search->reader, file))
		return;
	while ((line = reader_line(&search->reader)).start != NULL) {
		enum cgroup_version v = cgroup_mount(line, &root, &point);
		struct cgroup_place *place = &search->places[v];

		if (v == CGROUP_VERSIONS || place->path_length == 0 || place->top != 0)
			continue;
		place->top = cgroup_folder(place->folder, sizeof(place->folder) - LONGEST_NAME, root,
		                           point, (struct span){ place->path, place->path_length });
	}
	reader_close(&search->reader);
}

void cgroup_find(struct cgroup_search *search, const char *groups_file, const char *mounts_file)
{
	for (unsigned v = 0; v < CGROUP_VERSIONS; v++)
		search->places[v].path_length = search->places[v].top = 0;
	find_paths(search, groups_file);
	find_folders(search, mounts_file);
}

long cgroup_open(struct cgroup_place *place, const char *name)
{
	char *end = place->folder + strlen(place->folder);
	long fd;

	memcpy(end, name, strlen(name) + 1);
	fd = sys(SYS_openat, AT_FDCWD, place->folder, O_RDONLY | O_CLOEXEC);
	*end = '\0';
	return fd;
}

struct span cgroup_value(struct cgroup_search *search, enum cgroup_version version,
                         const char *name, char copy[64])
{
	struct cgroup_reader *r = &search->reader;
	struct span line = { NULL, 0 };

	r->start = r->end = 0;
	r->fd = cgroup_open(&search->places[version], name);
	if (!sys_failed(r->fd)) {
		line = reader_line(r);
		reader_close(r);
	}
	if (line.start == NULL || line.length > 64)
		line.length = 0;
	else
		memcpy(copy, line.start, line.length);
	return (struct span){ copy, line.length };
}
