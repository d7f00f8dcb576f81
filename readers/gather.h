/*
 * Gathers from a stopped process the words that may be addresses in its heap: in the
 * blocks in use, and in what can lead there from outside, the roots.  Layer: readers.
 *
 * Roots are the registers of every thread, its stack from the stack pointer up, and all
 * other memory that holds data: what the program's files have for variables, threads'
 * own data, anonymous memory, and what lies between the heap's blocks but is another's.
 * No roots are the allocator's structures and its own thread, blocks that are free,
 * constants, and files that several processes write to.
 *
 * Only resident or swapped pages are read.
 */
#ifndef CEDE_READERS_GATHER_H
#define CEDE_READERS_GATHER_H

#include "model/words.h"
#include "readers/memory.h"
#include "readers/ranges.h"
#include "readers/stop.h"

struct gather {
	const struct memory *memory;
	const struct stop *stop;
	const struct model *model;     /* its regions are complete, but not finished */
	uint64_t lead;                 /* as of struct words */
	const struct range *own;  /* the allocator's structures outside the heap */
	size_t own_count;
	pid_t own_thread;              /* its thread, or 0 */
};

/* Fills `words`.  Returns whether there was memory. */
bool gather_words(const struct gather *gather, struct words *words);

#endif
