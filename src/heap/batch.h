/*
 * Rows of blocks of a class between a thread's cache and the heap, many under one lock of
 * an arena.  Layer: heap.  Default policy.  With no arena's lock.
 */
#ifndef CEDE_HEAP_BATCH_H
#define CEDE_HEAP_BATCH_H

#include <stdbool.h>

struct arena;

/*
 * Up to `want` blocks of a class; returns how many.  *chunks: whether they are such, and
 * not a slab's.  None without memory, or in a handler that interrupted its thread in an
 * arena.
 */
unsigned batch_take(struct arena *a, unsigned class, void **blocks, unsigned want, bool *chunks);

/*
 * Each block goes to its own arena, those that follow one another under one lock.  Returns
 * whether the purger is to be told.
 */
bool batch_give(unsigned class, void **blocks, unsigned count);

#endif
