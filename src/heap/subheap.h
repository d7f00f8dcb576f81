/*
 * The memory of arenas other than the main one: heaps of at most 64 MiB, each
 * aligned to 64 MiB so that a chunk's heap is found by masking its address.
 * Layer: heap.
 *
 *   heap  -> | heap_info | arena (first heap only) | chunks ... | top | reserved |
 *                                                  size ------------> ^
 *
 * Source: ptmalloc's heap_info.  All but subheap_of and subheap_create want the
 * arena's lock.
 */
#ifndef CEDE_HEAP_SUBHEAP_H
#define CEDE_HEAP_SUBHEAP_H

#include "heap/heap.h"

#define HEAP_MAX ((size_t)64 << 20) /* twice the largest mmap threshold */
#define HEAP_MIN ((size_t)32 << 10)

/* Whole cache lines, so that an arena may follow. */
struct heap_info {
	alignas(CACHE_LINE) struct arena *arena;
	struct heap_info *prev; /* the arena's heap before this one */
	size_t size;            /* bytes in use by the heap, whole pages */
	size_t accessible;      /* bytes ever made accessible, from the start */
};

static inline struct heap_info *subheap_of(const void *address)
{
	return (struct heap_info *)((uintptr_t)address & ~(HEAP_MAX - 1));
}

/* One bit for each 64 MiB of the 47-bit address space; set while ours. */
#define KNOWN_BITS ((size_t)1 << (47 - 26))
extern uint64_t subheap_bits[KNOWN_BITS / 64] HIDDEN;

/* Whether a heap of ours lies at subheap_of(address); readable without a lock. */
static inline bool subheap_known(const void *address)
{
	size_t bit = (uintptr_t)address / HEAP_MAX;

	return bit < KNOWN_BITS &&
	       (__atomic_load_n(&subheap_bits[bit / 64], __ATOMIC_RELAXED) >> bit % 64 & 1) != 0;
}

/* Bytes from the top's start that its heap ever made accessible. */
size_t subheap_used_from(const struct chunk *top);

/* A heap with room for `size` bytes and, if it fits, `pad` more; NULL: none. */
struct heap_info *subheap_create(size_t size, size_t pad) MUST_USE;

/* Where the first chunk of a heap lies. */
struct chunk *subheap_first_chunk(struct heap_info *heap);

/* An arena in a heap of its own, or NULL. */
struct arena *subheap_new_arena(uint16_t order) MUST_USE;

/* Makes room for a chunk of `size` at the top: this heap or a new one. */
bool subheap_grow(struct arena *a, size_t size) MUST_USE;

/*
 * Gives back heaps that hold nothing but the top, then the top's end, keeping
 * `pad`, when the top reached the trim threshold (force: in any case).  Returns
 * the bytes.
 */
size_t subheap_trim(struct arena *a, size_t pad, bool force);

#endif
