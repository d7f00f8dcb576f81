#include "lab/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Returns 0, or -1 with errno. */
static int file_write(const struct cgroup *group, const char *name, const char *value)
{
	char path[PATH_MAX + 64];
	int fd, result;

	snprintf(path, sizeof(path), "%s/%s", group->path, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	result = write(fd, value, strlen(value)) < 0 ? -1 : 0;
	close(fd);
	return result;
}

static int limit_set(const struct cgroup *group, uint64_t limit)
{
	char value[32];

	snprintf(value, sizeof(value), "%llu", (unsigned long long)limit);
	if (file_write(group, group->is_v2 ? "memory.max" : "memory.limit_in_bytes", value) != 0)
		return -1;
	/* Without this a machine with swap would swap where it should kill.  A
	 * kernel that does not account swap has no such file. */
	if (file_write(group, group->is_v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
	               group->is_v2 ? "0" : value) != 0 && errno != ENOENT)
		return -1;
	return 0;
}

static int group_try(struct cgroup *group, const char *parent, bool is_v2, uint64_t limit,
                     char why[256])
{
	group->is_v2 = is_v2;
	if (snprintf(group->path, sizeof(group->path), "%s/cede-lab-%d", parent, (int)getpid()) >=
	    (int)sizeof(group->path)) {
		snprintf(why, 256, "the cgroup's path is too long");
	} else if (mkdir(group->path, 0755) != 0) {
		snprintf(why, 256, "no memory cgroup can be made in %.150s: %s", parent, strerror(errno));
	} else if (limit_set(group, limit) != 0) {
		snprintf(why, 256, "a cgroup in %.150s takes no memory limit: %s", parent,
		         errno == ENOENT ? "its memory controller is not enabled" : strerror(errno));
		rmdir(group->path);
	} else {
		return 0;
	}
	group->path[0] = '\0';
	return -1;
}

/* Tells a hierarchy that can limit memory: v1 with the controller, or v2. */
static bool mount_parse(char *line, char **directory, bool *is_v2)
{
	char *type, *options, *rest = line;

	strsep(&rest, " ");
	*directory = strsep(&rest, " ");
	type = strsep(&rest, " ");
	options = strsep(&rest, " ");
	if (!options)
		return false;
	*is_v2 = !strcmp(type, "cgroup2");
	return *is_v2 || (!strcmp(type, "cgroup") && strstr(options, "memory"));
}

/* Where this process is in the hierarchy, from "ID:CONTROLLERS:PATH". */
static bool own_place(const char *mount, bool is_v2, char place[PATH_MAX])
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *rest = line, *controllers, *path;

		strsep(&rest, ":");
		controllers = strsep(&rest, ":");
		path = rest;
		if (!path || (is_v2 ? *controllers != '\0' : !strstr(controllers, "memory")))
			continue;
		path[strcspn(path, "\n")] = '\0';
		found = snprintf(place, PATH_MAX, "%s%s", mount, path) < PATH_MAX;
	}
	if (file)
		fclose(file);
	return found;
}

int cgroup_make(struct cgroup *group, uint64_t limit, char why[256])
{
	FILE *mounts = fopen("/proc/mounts", "re");
	char line[PATH_MAX], place[PATH_MAX], *directory, *slash;
	int result = -1;
	bool is_v2;

	snprintf(why, 256, "no cgroup hierarchy with a memory controller is mounted");
	group->path[0] = '\0';
	while (mounts && result != 0 && fgets(line, sizeof(line), mounts)) {
		if (!mount_parse(line, &directory, &is_v2))
			continue;
		result = group_try(group, directory, is_v2, limit, why);
		/* Where the top is not ours, our own place may have been delegated; in v2
		 * a group with processes has no limited children, so beside it. */
		if (result != 0 && own_place(directory, is_v2, place)) {
			slash = strrchr(place, '/');
			if (is_v2 && slash > place + strlen(directory))
				*slash = '\0';
			result = group_try(group, place, is_v2, limit, why);
		}
	}
	if (mounts)
		fclose(mounts);
	return result;
}

int cgroup_enter(const struct cgroup *group)
{
	return file_write(group, "cgroup.procs", "0");
}

unsigned cgroup_oom_kills(const struct cgroup *group)
{
	char path[PATH_MAX + 64], name[64];
	unsigned long long value;
	unsigned kills = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", group->path,
	         group->is_v2 ? "memory.events" : "memory.oom_control");
	file = fopen(path, "re");
	while (file && fscanf(file, "%63s %llu", name, &value) == 2)
		if (!strcmp(name, "oom_kill"))
			kills = (unsigned)value;
	if (file)
		fclose(file);
	return kills;
}

void cgroup_remove(struct cgroup *group)
{
	const struct timespec tenth = { 0, 100000000 };

	for (int tries = 0; *group->path && rmdir(group->path) != 0 && errno == EBUSY && tries < 10;
	     tries++)
		nanosleep(&tenth, NULL);
	group->path[0] = '\0';
}
