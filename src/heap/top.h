/*
 * The top: the free chunk that ends an arena, in no bin.  Layer: heap.
 */
#ifndef CEDE_HEAP_TOP_H
#define CEDE_HEAP_TOP_H

#include "heap/extent.h"
#include "heap/heap.h"

/* The top's front, `size` bytes of it, becomes a chunk in use; it has more. */
static inline struct chunk *top_take(struct arena *a, size_t size)
{
	struct chunk *c = a->top, *top = chunk_at(c, size);
	size_t left = chunk_size(c) - size;

	if (policy_is_default())
		extent_hand_out_top(a, (uintptr_t)top);
	a->top = top;
	top->size = left | PREV_INUSE;
	c->size = size | (c->size & PREV_INUSE) | arena_bit(a);
	if (policy_is_default())
		decay_fell(&a->decay, extent_dirty_bytes(a));
	return c;
}

/* The whole pages of the top beyond `pad` bytes and a smallest chunk. */
static inline size_t top_excess(const struct arena *a, size_t pad)
{
	size_t size = chunk_size(a->top), keep = pad + MIN_CHUNK + 1;

	return keep < pad || size <= keep ? 0 : align_down(size - keep, os_page_size);
}

#endif
