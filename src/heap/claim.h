/*
 * Free pages taken aside while the system takes them back.  Layer: heap.
 * Default policy.
 *
 * The system call runs without the arena's lock, so the pages must not be handed
 * out meanwhile: a claimed chunk looks in use to its neighbours, and a claimed
 * end of the top is simply not part of the top.  Of a large chunk only the front
 * is claimed, so that the program keeps the rest.  Blocks of a slab look in use, and
 * free units are not in their segment.
 *
 * I1: while a->top_claimed is not 0, the top's end does not move (grow_arena,
 *     grow_trim_main and subheap_trim see to that).
 * Asserted by claim_return().
 */
#ifndef CEDE_HEAP_CLAIM_H
#define CEDE_HEAP_CLAIM_H

#include "heap/arena.h"
#include "os/os.h"

/* What one claim may hold: bounds the time under the lock and in the system. */
#define CLAIM_BYTES ((size_t)8 << 20)

struct claim {
	struct arena *arena;
	unsigned count;                          /* 0: nothing is claimed */
	bool of_slabs;                           /* pages of slabs and of free units, or: */
	unsigned chunks_count;                   /* ranges of chunks; then one of the top */
	struct os_range ranges[OS_DISCARD_RANGES];
	struct chunk *chunks[OS_DISCARD_RANGES];
};

/*
 * Takes aside up to `want` bytes of dirty pages, oldest first, the top last;
 * returns how many.  Takes the arena's lock itself, as claim_return does.
 */
size_t claim_take(struct claim *claim, struct arena *a, size_t want);
/* Puts all back as free, and clean if the pages are known to be gone. */
void claim_return(struct claim *claim, bool clean);
/* Only the top's end, with the arena's lock. */
void claim_return_top(struct claim *claim, bool clean);

#endif
