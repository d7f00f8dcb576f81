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

/* owner_of for all but a sound chunk of the main arena. */
struct arena *owner_elsewhere(const struct chunk *c, const char *function);

static inline bool owner_in_main(const struct chunk *c)
{
	return (const char *)c >= __atomic_load_n(&main_arena.lowest, __ATOMIC_RELAXED) &&
	       (const char *)c < __atomic_load_n(&main_arena.highest, __ATOMIC_RELAXED);
}

/*
 * The arena of an aligned chunk as the program gave it to `function` (free or
 * realloc), or NULL when the chunk is mapped by itself.  Stops the program when
 * it can be neither.
 */
static inline struct arena *owner_of(const struct chunk *c, const char *function)
{
	if (likely(owner_in_main(c))) {
		size_t size = chunk_peek(c);

		if (likely((size & (IS_MMAPPED | NON_MAIN_ARENA | ABSORBED)) == 0 &&
		           size >= MIN_CHUNK))
			return &main_arena;
	}
	return owner_elsewhere(c, function);
}

#endif
