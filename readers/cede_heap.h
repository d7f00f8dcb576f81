/*
 * The heap of a stopped process that runs on cede.  Layer: readers.
 *
 * Its chunks lie as glibc's do, so that what walks those walks them: here struct
 * glibc_state is filled for it, and what glibc has not is put into the model (slabs, what
 * describes them, spares, caches in arrays, what the purger holds).
 *
 * No thread may be at work in the heap meanwhile: each lock and each cache tells whose it
 * is, and these threads are let go on until they have left it.
 *
 * struct cede_heap owns its array until cede_heap_free.  All that is read is hostile.
 */
#ifndef CEDE_READERS_CEDE_HEAP_H
#define CEDE_READERS_CEDE_HEAP_H

#include <cede/descriptor.h>

#include "readers/gather.h"
#include "readers/glibc_state.h"

/* What cede counts of an arena, to be compared with what is found. */
struct cede_counts {
	uint64_t binned, slab_live, slab_units;
	uint64_t found_live, found_units;
};

/* Free pages that the purger has taken aside. */
struct cede_claim {
	uint64_t arena;
	uint32_t count;
	struct range ranges[1024];
};

struct cede_heap {
	const struct cede_descriptor *descriptor;
	const struct memory *memory;
	struct glibc_layout layout;
	bool classic;
	struct cede_counts *counts;      /* by arena */
	uint64_t window, segment_bytes;  /* 0: there is no window */
	uint64_t records, bits;          /* where they begin, by segment: regions of the model */
	struct cede_claim claim;
	struct range own[4];      /* variables whose addresses lead to no block */
	pid_t purger;                    /* its thread, or 0 */
};

/* Prepares for one look; `glibc` stands for what glibc_find would have found. */
void cede_heap_begin(struct cede_heap *heap, const struct memory *memory, struct glibc *glibc);
void cede_heap_free(struct cede_heap *heap);

/*
 * Lets threads that are at work in the heap leave it, in at most so many steps; returns as
 * stop_step does.  *at_work: whether any still is.
 */
int cede_heap_settle(const struct cede_heap *heap, struct stop *stop, unsigned steps,
                     bool *at_work);

/* Copies what is needed of the stopped process into the state and its model. */
enum glibc_copied cede_heap_copy(struct cede_heap *heap, struct glibc_state *state);

/* Afterwards, with the finished model: what blocks are, and whether all agrees. */
enum glibc_copied cede_heap_complete(struct cede_heap *heap, struct glibc_state *state);

/* ---- cede_slabs.c ---- */

/* The regions of slabs, with their figures in the arenas, and of what describes them. */
enum glibc_copied cede_slabs_walk(struct cede_heap *heap, struct glibc_state *state);

/* What is claimed of them is free; and what describes segments without a live block. */
void cede_slabs_claimed(struct model *model, const struct range *range);
enum glibc_copied cede_slabs_complete(const struct cede_heap *heap, struct glibc_state *state);

/* ---- both ---- */

/* Ends the region that was begun last, with its pages. */
enum glibc_copied cede_region_end(const struct cede_heap *heap, struct glibc_state *state,
                                  uint64_t begin, uint64_t end);

#endif
