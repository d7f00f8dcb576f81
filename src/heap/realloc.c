/*
 * Resizing in place: into the top, into the free chunk behind, or by cutting the
 * end off.
 */
#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/misuse.h"

/* The top follows and has enough: it begins later. */
static struct chunk *into_top(struct arena *a, struct chunk *c, size_t size)
{
	size_t whole = chunk_size(c) + chunk_size(a->top);

	if (policy_is_default())
		extent_hand_out_top(a, (uintptr_t)c + size);
	a->top = chunk_at(c, size);
	a->top->size = (whole - size) | PREV_INUSE;
	c->size = size | (c->size & SIZE_BITS);
	if (policy_is_default())
		decay_fell(&a->decay, extent_dirty_bytes(a));
	return c;
}

struct chunk *realloc_in_place(struct arena *a, struct chunk *c, size_t size)
{
	size_t have = chunk_size(c), next_size;
	struct chunk *next = chunk_at(c, have);
	struct extent e = EXTENT_EMPTY;

	next_size = chunk_size(next);
	if (unlikely(next_size < CHUNK_HEADER || next_size >= a->system_bytes ||
	             !chunk_prev_inuse(next)))
		misuse("realloc", chunk_to_block(c), "invalid pointer, or corrupted size of the next chunk");
	if (have >= size) {
		alloc_free_tail(a, c, size);
		return c;
	}
	if (next == a->top)
		return have + next_size >= size + MIN_CHUNK ? into_top(a, c, size) : NULL;
	if (chunk_inuse_at(next, next_size) || have + next_size < size)
		return NULL;
	bin_unlink(a, next);
	if (policy_is_default()) {
		e = extent_take(a, next, next_size);
		extent_hand_out(a, next, next_size, (uintptr_t)c + size, e);
	}
	return alloc_split(a, c, have + next_size, size, e);
}
