/*
 * The allocators that the lab compares.  Layer: cli/lab.
 */
#ifndef CEDE_CLI_LAB_ALLOCATOR_H
#define CEDE_CLI_LAB_ALLOCATOR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct allocator {
	char name[32];
	char path[PATH_MAX];    /* preloaded into the subject; "" for libc's own */
	const char *options;    /* its CEDE_OPTIONS; NULL: none */
	bool has_stats;         /* malloc_stats speaks for this allocator */
	bool is_peer;           /* neither libc's nor cede */
};

#define ALLOCATORS_MAX 16

struct allocators {
	struct allocator list[ALLOCATORS_MAX];
	size_t count;
};

/*
 * glibc, cede's two policies ("classic" and "cede"), the peers found in the
 * usual library directories, and each "name=path" of `named` (NULL-terminated,
 * or NULL).  `only`, when not NULL, is "name,name,...": the others are left out.
 * Returns 0; -1 after it said which one is missing or wrong.
 */
int allocators_find(struct allocators *allocators, char *const *named, const char *only);

#endif
