/*
 * From a block that the program gives back to the arena it came from, without a
 * lock, and without trust.  Layer: heap.
 */
#ifndef CEDE_HEAP_OWNER_H
#define CEDE_HEAP_OWNER_H

#include "heap/arena.h"
#include "heap/subheap.h"

/*
 * Left in the size of a chunk that a neighbour absorbed, so that freeing it once
 * more is recognised: no size has this bit.
 */
#define ABSORBED ((size_t)8)

/* Says what is wrong with a block that is none, and stops the program. */
_Noreturn void owner_reject(const struct chunk *c, const char *function);

/*
 * The arena of an aligned chunk that is not mapped, as the program gave it to
 * `function` (free or realloc).
 */
static inline struct arena *owner_of(const struct chunk *c, const char *function)
{
	size_t size = chunk_peek(c);

	if (unlikely((size & ABSORBED) != 0 || size < MIN_CHUNK))
		owner_reject(c, function);
	if (size & NON_MAIN_ARENA) {
		if (unlikely(!subheap_known(c)))
			owner_reject(c, function);
		return subheap_of(c)->arena;
	}
	if (unlikely((const char *)c < __atomic_load_n(&main_arena.lowest, __ATOMIC_RELAXED) ||
	             (const char *)c >= __atomic_load_n(&main_arena.highest, __ATOMIC_RELAXED)))
		owner_reject(c, function);
	return &main_arena;
}

#endif
