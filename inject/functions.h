/*
 * What a call of malloc_trim needs to know of the file that has it: a library, or a static
 * program with its symbols.  Layer: inject.  The file is hostile: it is read through
 * libelf and never trusted for sizes.
 */
#ifndef CEDE_INJECT_FUNCTIONS_H
#define CEDE_INJECT_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "readers/memory.h"

#define FUNCTIONS_RANGES 8

struct functions_range {
	uint64_t begin, end;
};

struct functions {
	uint64_t trim;             /* malloc_trim */
	uint64_t restorer;         /* what handlers return to: mov $15, %rax; syscall */
	uint64_t errno_offset;     /* from a thread's pointer to its errno */
	/* The code of malloc, and of what changes the heap's memory or is changed by it. */
	struct functions_range ranges[FUNCTIONS_RANGES];
	size_t range_count;
};

/* Of the file that has this address among its data.  False: `why` of `room` bytes says what
 * it lacks. */
bool functions_find(const struct memory *memory, uint64_t data, struct functions *functions,
                    char *why, size_t room);

/* Whether the word is an address in one of the ranges. */
bool functions_have(const struct functions *functions, uint64_t word);

#endif
