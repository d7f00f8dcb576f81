#include "heap/claim.h"

#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/slab_claim.h"

/* Takes at most `room` dirty bytes of a dirty chunk aside; returns how many. */
static size_t take_chunk(struct claim *claim, struct arena *a, struct dirty_chunk *d, size_t room)
{
	struct chunk *c = &d->tree.chunk;
	size_t size = chunk_size(c);
	struct extent e;
	uintptr_t end;

	bin_unlink(a, c);
	e = extent_take(a, c, size);
	end = e.hi - e.lo > room ? e.lo + room : e.hi;
	/* The rest, from the first page not taken, stays free; it is dirty only as
	 * far as the extent went. */
	(void)alloc_split(a, c, size, end < e.hi ? (size_t)(end - (uintptr_t)c) : size, e);
	claim->ranges[claim->count] = (struct os_range){ (void *)e.lo, end - e.lo };
	claim->chunks[claim->count] = c;
	claim->chunks_count = ++claim->count;
	a->claimed_bytes += chunk_size(c);
	return end - e.lo;
}

/* The same of the top's end; the program goes on at its start. */
static size_t take_top(struct claim *claim, struct arena *a, size_t room)
{
	struct extent e = extent_of_top(a);
	size_t size = chunk_size(a->top);
	uintptr_t end = (uintptr_t)a->top + size;

	if (e.lo >= e.hi || a->top_claimed != 0)
		return 0;
	if (e.hi - e.lo > room)
		e.lo = e.hi - room;
	a->top_claimed = end - e.lo;
	a->top->size = (size - a->top_claimed) | PREV_INUSE;
	a->top_dirty_hi = e.lo;
	claim->ranges[claim->count++] = (struct os_range){ (void *)e.lo, e.hi - e.lo };
	return e.hi - e.lo;
}

size_t claim_take(struct claim *claim, struct arena *a, size_t want)
{
	size_t taken = 0;

	want = size_min(want & -os_page_size, CLAIM_BYTES);
	claim->arena = a;
	lock_acquire(&a->lock);
	claim->of_slabs = false;
	claim->count = claim->chunks_count = 0;
	while (taken < want && a->dirty_oldest != NULL && claim->count < OS_DISCARD_RANGES)
		taken += take_chunk(claim, a, a->dirty_oldest, want - taken);
	if (taken < want && claim->count < OS_DISCARD_RANGES)
		taken += take_top(claim, a, want - taken);
	decay_fell(&a->decay, extent_dirty_bytes(a));
	lock_release(&a->lock);
	return taken;
}

void claim_return_top(struct claim *claim, bool clean)
{
	const struct os_range *range = &claim->ranges[claim->chunks_count];
	uintptr_t start = (uintptr_t)range->start;
	struct arena *a = claim->arena;

	if (claim->of_slabs || claim->count == claim->chunks_count)
		return;
	claim->count = claim->chunks_count;
	CHECK((char *)a->top + chunk_size(a->top) == (char *)range->start);
	a->top->size += a->top_claimed;
	a->top_claimed = 0;
	if (!clean)
		extent_add_to_top(a, (struct extent){ start, start + range->size });
}

void claim_return(struct claim *claim, bool clean)
{
	struct arena *a = claim->arena;

	lock_acquire(&a->lock);
	if (claim->of_slabs)
		slab_claim_return(claim, clean);
	claim_return_top(claim, clean);
	for (unsigned i = 0; i < claim->chunks_count; i++) {
		a->claimed_bytes -= chunk_size(claim->chunks[i]);
		free_merge(a, claim->chunks[i], clean);
	}
	claim->count = 0;
	lock_release(&a->lock);
}
