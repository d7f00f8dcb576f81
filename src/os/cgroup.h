/*
 * Where the process's control groups are seen.  Layer: os, private to it.
 *
 * The caller owns the search: some kilobytes, of which few pages are touched, and a
 * thread's stack may be small.
 */
#ifndef CEDE_OS_CGROUP_H
#define CEDE_OS_CGROUP_H

#include "base/cgroup.h"

/* The process's group in a hierarchy, and where it is seen. */
struct cgroup_place {
	size_t path_length; /* 0: it is in none */
	size_t top;         /* bytes of `folder` that are the mount point; 0: not seen */
	char path[1024];
	char folder[2048];
};

struct cgroup_search {
	struct cgroup_place places[CGROUP_VERSIONS];
	/* A file read line by line; a line that does not fit is left out. */
	struct cgroup_reader {
		long fd;
		size_t start, end; /* of what is in `text` and not yet taken */
		char text[4096];
	} reader;
};

/* The files are /proc/self/cgroup and /proc/self/mountinfo, or stand for them. */
void cgroup_find(struct cgroup_search *search, const char *groups_file, const char *mounts_file);

/* Opens a file, "/name", of a place that is seen; a failed system call's value if not. */
long cgroup_open(struct cgroup_place *place, const char *name);

/* The line of such a file, copied; empty without one. */
struct span cgroup_value(struct cgroup_search *search, enum cgroup_version version,
                         const char *name, char copy[64]);

#endif
