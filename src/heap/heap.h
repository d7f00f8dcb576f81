/*
 * The chunk heap: what its files offer one another and the layers above.
 * Layer: heap.
 *
 * One heap a process: its settings, its arenas, its mapped chunks.  Functions
 * that take an arena want its lock held, unless they say otherwise.
 */
#ifndef CEDE_HEAP_HEAP_H
#define CEDE_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/settings.h"
#include "heap/arena.h"
#include "heap/chunk.h"

struct extent;

extern struct settings settings HIDDEN;

/* A setting that mallopt or the dynamic rule may change meanwhile. */
#define SETTING(name) __atomic_load_n(&settings.name, __ATOMIC_RELAXED)

static inline bool policy_is_default(void)
{
	return settings.policy == POLICY_DEFAULT;
}

/* Reads the settings and makes the main arena; once, from the first thread. */
void heap_start(void);

/* ---- fork.c ---- */

/* Registers what keeps the heap whole in both processes of a fork; once. */
void fork_register(void);

/* ---- alloc.c ---- */

/* A chunk of `size` bytes (request_to_size), marked in use, or NULL. */
struct chunk *alloc_chunk(struct arena *a, size_t size) MUST_USE;

/* The same; only the first *stale bytes of its block may be other than zero. */
struct chunk *alloc_chunk_zero(struct arena *a, size_t size, size_t *stale) MUST_USE;

/*
 * The same with an alignment above 16, a power of two.  size + alignment must
 * not overflow.
 */
struct chunk *alloc_aligned(struct arena *a, size_t alignment, size_t size) MUST_USE;

/* The same of a mapping of its own, whatever its size; takes no lock. */
struct chunk *alloc_mapped(size_t alignment, size_t size) MUST_USE;

/*
 * Makes the first `stale` bytes of a new block zero.  By default that brings no
 * pages in that are not there.  With no lock.
 */
void alloc_clear(char *block, size_t stale);

/*
 * Makes the first `size` of the `have` bytes at c a chunk in use; what is left,
 * when it is a chunk at all, goes into the unsorted bin with its part of `e`,
 * and is the last remainder if the request is small.
 */
struct chunk *alloc_split(struct arena *a, struct chunk *c, size_t have, size_t size,
                          struct extent e);

/* Cuts a chunk in use down to `size` and frees the end, when it is a chunk. */
void alloc_free_tail(struct arena *a, struct chunk *c, size_t size);

/* ---- free.c ---- */

/* A chunk in use becomes free: fast bin, merge, trim. */
void free_chunk(struct arena *a, struct chunk *c);

/* Merging alone.  `clean`: the chunk's whole pages were given back. */
void free_merge(struct arena *a, struct chunk *c, bool clean);

/* A handler's free of a block, when its thread was at work in the arena: for later. */
void free_defer(struct arena *a, void *block);
/* Frees what signal handlers left. */
void free_deferred(struct arena *a);
/* A block in use of this arena, chunk or of a slab, becomes free. */
static inline void free_block(struct arena *a, void *block)
{
	if (unlikely(window_has(block)))
		(void)slab_give(a, &block, 1, 0);
	else
		free_chunk(a, block_to_chunk(block));
}

/* Empties the fast bins into the unsorted bin, merging. */
void free_consolidate(struct arena *a);

/* ---- realloc.c ---- */

/* Resizes in place, or NULL: the chunk is as it was. */
struct chunk *realloc_in_place(struct arena *a, struct chunk *c, size_t size) MUST_USE;

/* ---- grow.c: the main arena's end; subheap.c: the others' ---- */

/* More memory from the system for a chunk of `size`, or NULL. */
struct chunk *grow_arena(struct arena *a, size_t size) MUST_USE;
/* Gives the top's end back, keeping `pad`; returns the bytes. */
size_t grow_trim_main(struct arena *a, size_t pad);
/* An old top, left behind: closes its end with fence posts, frees the rest. */
void grow_retire_top(struct arena *a, struct chunk *top, size_t size);
/* Whether memory that extends the top reads zero. */
static inline bool arena_grows_zeroed(const struct arena *a)
{
	return !arena_is_main(a) || a->contiguous;
}

/* ---- mapped.c: chunks mapped by themselves; take no lock ---- */

struct chunk *mapped_alloc(size_t size) MUST_USE;
/* The same for a block that realloc enlarges, with room behind it if there is any. */
struct chunk *mapped_alloc_grown(size_t size) MUST_USE;
/* P of a mapped chunk just allocated, where it has no other use: a block left it. */
#define MAPPED_STALE PREV_INUSE
static inline bool mapped_is_stale(const struct chunk *c)
{
	return (c->size & MAPPED_STALE) != 0;
}
/*
 * Spares never raise the peak: together with the mapped blocks they stay below the
 * most that these ever were.  To be called, without a lock, after mapped_alloc.
 */
void mapped_bound(void);
void mapped_free(struct chunk *c, const char *function);
/* Moves or resizes the mapping for a chunk of `size`; NULL: as it was. */
struct chunk *mapped_resize(struct chunk *c, size_t size) MUST_USE;
/* Whether a chunk of that size should be mapped now. */
bool mapped_wanted(size_t size);
/* Whether a chunk that realloc enlarges to that size should be mapped. */
bool mapped_grown_allowed(void);
static inline bool mapped_wanted_grown(size_t size)
{
	return unlikely(size >= SETTING(mmap_threshold) / 64) && mapped_grown_allowed();
}
/* Whether that is so only since it is enlarged. */
static inline bool mapped_grows(size_t old, size_t size)
{
	return mapped_wanted_grown(size) && !mapped_wanted_grown(old);
}
/* Whether a mapped chunk that realloc cuts to that size belongs into the heap. */
bool mapped_unwanted(size_t size);
/* The blocks of a mapped chunk; stops the program when it cannot be one. */
void mapped_check(const struct chunk *c, const char *function);

struct mapped_counts {
	size_t blocks, bytes, max_blocks, max_bytes; /* atomic */
};
extern struct mapped_counts mapped HIDDEN;

/* ---- trim.c ---- */

/* malloc_trim on one arena in classic; returns the bytes that went back. */
size_t trim_arena(struct arena *a, size_t pad);

#endif
