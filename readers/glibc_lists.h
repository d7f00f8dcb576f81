/*
 * Follows a glibc heap's lists in what was copied, and so completes what its blocks
 * are; tells whether lists and blocks agree.  Layer: readers.  The process runs on
 * meanwhile.
 */
#ifndef CEDE_READERS_GLIBC_LISTS_H
#define CEDE_READERS_GLIBC_LISTS_H

#include "readers/glibc_state.h"

/*
 * The model, finished, must hold the walked blocks.  Afterwards fast, cached and
 * internal blocks are told from live ones, and the arenas' and caches' figures are
 * filled in.  GLIBC_BROKEN when a list leads elsewhere than to blocks of its kind,
 * or a free block is in none.
 */
enum glibc_copied glibc_lists_follow(struct glibc_state *state);

/* Parts of it: the tops' figures, and the blocks in caches. */
void glibc_lists_measure_tops(struct glibc_state *state);
enum glibc_copied glibc_lists_follow_caches(struct glibc_state *state);

#endif
