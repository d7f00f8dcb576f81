/*
 * Walks a glibc heap from chunk to chunk and puts each into the model.
 * Layer: readers.  The process must be stopped.
 *
 * A chunk is told free by the one after it, and in a list of a free kind only by
 * that list: what the walk leaves as live may still be in a fast bin or a cache.
 */
#ifndef CEDE_READERS_GLIBC_WALK_H
#define CEDE_READERS_GLIBC_WALK_H

#include "readers/glibc_state.h"

#define GLIBC_REGION_MOST (4ul << 40)    /* its pages alone take us 1 GiB */

/* The regions of all arenas, with their blocks and pages. */
enum glibc_copied glibc_walk(struct glibc_state *state);

/* The chunks that are mappings of their own: as many as malloc says there are. */
enum glibc_copied glibc_walk_mapped(struct glibc_state *state);

#endif
