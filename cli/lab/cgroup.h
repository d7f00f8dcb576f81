/*
 * A memory cgroup with a limit, version 1 or 2.  Layer: cli/lab.  The caller
 * removes what he made, once every process in it is gone.
 */
#ifndef CEDE_CLI_LAB_CGROUP_H
#define CEDE_CLI_LAB_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct cgroup {
	char path[PATH_MAX];   /* "" when there is none */
	bool is_v2;
};

/*
 * Makes a group that holds at most `limit` bytes and swaps nothing.  Returns 0;
 * or -1 with the reason, for people, in `why`.
 */
int cgroup_make(struct cgroup *group, uint64_t limit, char why[256]);

/* Moves the calling process in.  Only async-signal-safe calls. Returns 0 or -1. */
int cgroup_enter(const struct cgroup *group);

/* Processes that the kernel killed in it for want of memory. */
unsigned cgroup_oom_kills(const struct cgroup *group);

/* Waits up to a second for the last process to be gone. */
void cgroup_remove(struct cgroup *group);

#endif
