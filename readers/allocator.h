/*
 * Which allocator a process has beside glibc's or in its place.  Layer: readers.
 * The files are hostile: they are read through libelf and never trusted for sizes.
 */
#ifndef CEDE_READERS_ALLOCATOR_H
#define CEDE_READERS_ALLOCATOR_H

#include "readers/memory.h"

struct allocator {
	const char *name;        /* "jemalloc", ...; NULL when none is known to be there */
	char file[256];          /* the file it is in */
	bool is_malloc;          /* it answers malloc, before glibc's */
};

/* Looks through the mapped files, by their names and their symbols. */
void allocator_find(const struct memory *memory, struct allocator *allocator);

/* Whether glibc is mapped as a library. */
bool allocator_is_glibc(const struct memory *memory);

/* 32, 64, or 0 when it cannot be told: the word size of the program. */
int allocator_word_bits(const struct memory *memory);

#endif
