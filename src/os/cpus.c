/*
 * How many processors there are for this process.
 *
 * The buffers are static, because a thread's stack may be small, and none of their
 * pages is touched in a program that never asks.
 */
#include <fcntl.h>
#include <limits.h>

#include "base/bits.h"
#include "base/cgroup.h"
#include "os/os.h"
#include "os/syscall.h"

#define MASK_WORDS 128 /* 8192 CPUs */

/* A file read line by line; a line that does not fit is left out. */
static struct {
	long fd;
	size_t start, end; /* of what is in `text` and not yet taken */
	char text[4096];
} reader;

/* The process's group in a hierarchy, and where it is seen. */
static struct group {
	size_t path_length; /* 0: it is in none */
	size_t top;         /* bytes of `folder` that are the mount point; 0: not seen */
	char path[1024];
	char folder[2048];
} groups[CGROUP_VERSIONS];

static bool reader_open(const char *path)
{
	reader.fd = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	reader.start = reader.end = 0;
	return !sys_failed(reader.fd);
}

static void reader_close(void)
{
	sys(SYS_close, reader.fd);
}

/* Without its newline, valid until the next; start NULL: there is none. */
static struct span reader_line(void)
{
	bool too_long = false;

	for (;;) {
		struct span rest = { reader.text + reader.start, reader.end - reader.start };
		struct span line = span_cut(&rest, '\n');
		long n;

		if (rest.start != NULL) {
			reader.start += line.length + 1;
			if (!too_long)
				return line;
			too_long = false;
			continue;
		}
		too_long |= line.length == sizeof(reader.text);
		reader.end = too_long ? 0 : line.length;
		memmove(reader.text, reader.text + reader.start, reader.end);
		reader.start = 0;
		n = sys(SYS_read, reader.fd, reader.text + reader.end,
		        sizeof(reader.text) - reader.end);
		if (sys_failed(n) || n == 0)
			return (struct span){ NULL, 0 };
		reader.end += (size_t)n;
	}
}

static void find_paths(const char *file)
{
	struct span line, path;

	if (!reader_open(file))
		return;
	while ((line = reader_line()).start != NULL) {
		enum cgroup_version v = cgroup_membership(line, &path);

		if (v == CGROUP_VERSIONS || path.length > sizeof(groups[v].path))
			continue;
		memcpy(groups[v].path, path.start, path.length);
		groups[v].path_length = path.length;
	}
	reader_close();
}

#define LONGEST_NAME sizeof("/cpu.cfs_period_us")

static void find_folders(const char *file)
{
	struct span line, root, point;

	if (!reader_open(file))
		return;
	while ((line = reader_line()).start != NULL) {
		enum cgroup_version v = cgroup_mount(line, &root, &point);
		struct group *group = &groups[v];

		if (v == CGROUP_VERSIONS || group->path_length == 0 || group->top != 0)
			continue;
		group->top = cgroup_folder(group->folder, sizeof(group->folder) - LONGEST_NAME, root,
		                           point, (struct span){ group->path, group->path_length });
	}
	reader_close();
}

/* The line of a file in the group's folder, copied; empty without one. */
static struct span read_value(struct group *group, const char *name, char copy[64])
{
	char *end = group->folder + strlen(group->folder);
	struct span line = { NULL, 0 };

	memcpy(end, name, strlen(name) + 1);
	if (reader_open(group->folder)) {
		line = reader_line();
		reader_close();
	}
	*end = '\0';
	if (line.start == NULL || line.length > 64)
		line.length = 0;
	else
		memcpy(copy, line.start, line.length);
	return (struct span){ copy, line.length };
}

static unsigned group_quota(struct group *group, enum cgroup_version version)
{
	char quota[64], period[64];

	if (version == CGROUP_V2)
		return cgroup_cpus_v2(read_value(group, "/cpu.max", quota));
	return cgroup_cpus_v1(read_value(group, "/cpu.cfs_quota_us", quota),
	                      read_value(group, "/cpu.cfs_period_us", period));
}

unsigned os_cpu_quota(const char *groups_file, const char *mounts_file)
{
	size_t least = UINT_MAX;

	for (unsigned v = 0; v < CGROUP_VERSIONS; v++)
		groups[v].path_length = groups[v].top = 0;
	find_paths(groups_file);
	find_folders(mounts_file);
	for (unsigned v = 0; v < CGROUP_VERSIONS; v++) {
		if (groups[v].top == 0)
			continue;
		do
			least = size_min(least, group_quota(&groups[v], v));
		while (cgroup_ascend(groups[v].folder, groups[v].top));
	}
	return (unsigned)least;
}

/* Adds the calling thread's CPUs to the mask; returns how many it then has. */
static unsigned add_affinity(unsigned long mask[MASK_WORDS])
{
	unsigned long own[MASK_WORDS];
	long bytes = sys(SYS_sched_getaffinity, 0, sizeof(own), own);
	unsigned count = 0;

	for (unsigned i = 0; i < MASK_WORDS; i++) {
		if (!sys_failed(bytes) && i < (size_t)bytes / sizeof(own[0]))
			mask[i] |= own[i];
		count += (unsigned)__builtin_popcountl(mask[i]);
	}
	return count != 0 ? count : 1;
}

unsigned os_cpu_affinity(void)
{
	unsigned long mask[MASK_WORDS] = { 0 };

	return add_affinity(mask);
}

unsigned os_cpu_count(void)
{
	static unsigned long mask[MASK_WORDS];
	static unsigned quota; /* 0: not read yet */
	unsigned count = add_affinity(mask);

	if (count > 1 && quota == 0)
		quota = os_cpu_quota("/proc/self/cgroup", "/proc/self/mountinfo");
	return count == 1 ? 1 : (unsigned)size_min(count, quota);
}
