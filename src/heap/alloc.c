/*
 * Allocation, in ptmalloc's order: the fast bin of the size, its small bin,
 * consolidation for large requests, the unsorted bin, the best fit of the large
 * bin, the larger bins by the bin map, the top, consolidation again, the system.
 */
#include <string.h>

#include "heap/bins.h"
#include "heap/misuse.h"
#include "heap/subheap.h"
#include "heap/top.h"
#include "os/os.h"

/* At most so many unsorted chunks are sorted in one call. */
#define SORT_LIMIT 10000

/* From here on it is worth asking which pages are there before clearing all. */
#define LOOK_LEAST ((size_t)512 << 10)

static inline struct chunk *mark_inuse(struct arena *a, struct chunk *c, size_t size)
{
	chunk_set_prev_inuse(chunk_at(c, size));
	c->size |= arena_bit(a);
	return c;
}

static inline struct chunk *take_fast(struct arena *a, size_t size)
{
	struct chunk **bin = &a->fastbins[fast_bin(size)];
	struct chunk *c = *bin;

	if (c == NULL)
		return NULL;
	if (unlikely(((uintptr_t)c & (CHUNK_ALIGN - 1)) != 0 || chunk_size(c) != size))
		misuse("malloc", chunk_to_block(c), "corrupted fast bin");
	*bin = c->fd;
	a->binned_bytes -= size;
	return c;
}

static inline struct chunk *take_small(struct arena *a, size_t size)
{
	struct chunk *head = bin_head(a, small_bin(size)), *c = head->bk;

	if (c == head)
		return NULL;
	if (unlikely(c->bk->fd != c || chunk_size(c) != size))
		misuse("malloc", chunk_to_block(c), "corrupted links of a small chunk");
	head->bk = c->bk;
	c->bk->fd = head;
	a->binned_bytes -= size;
	return mark_inuse(a, c, size);
}

struct chunk *alloc_split(struct arena *a, struct chunk *c, size_t have, size_t size,
                          struct extent e)
{
	size_t left = have - size;
	struct chunk *rest;

	if (left < MIN_CHUNK) {
		c->size = have | (c->size & PREV_INUSE) | arena_bit(a);
		chunk_set_prev_inuse(chunk_at(c, have));
	} else {
		rest = chunk_at(c, size);
		c->size = size | (c->size & PREV_INUSE) | arena_bit(a);
		rest->size = left | PREV_INUSE;
		chunk_set_foot(rest, left);
		bin_insert_unsorted(a, rest, left);
		if (size_is_small(size))
			a->last_remainder = rest;
		if (policy_is_default())
			extent_put(a, rest, left, e);
	}
	if (policy_is_default())
		decay_fell(&a->decay, extent_dirty_bytes(a));
	return c;
}

/* Takes a free chunk that is out of its bin. */
static inline struct chunk *take_free(struct arena *a, struct chunk *c, size_t size)
{
	size_t have = chunk_size(c);
	struct extent e = EXTENT_EMPTY;

	if (policy_is_default()) {
		e = extent_take(a, c, have);
		extent_hand_out(a, c, have, (uintptr_t)c + size, e);
	}
	a->taken_hi = e.hi;
	return alloc_split(a, c, have, size, e);
}

static void check_unsorted(struct arena *a, struct chunk *head, struct chunk *c, size_t size)
{
	struct chunk *next = chunk_at(c, size);

	if (unlikely(size < MIN_CHUNK || size > a->system_bytes))
		misuse("malloc", chunk_to_block(c), "corrupted size of an unsorted chunk");
	if (unlikely(next->prev_size != size || chunk_prev_inuse(next)))
		misuse("malloc", chunk_to_block(c), "corrupted size of an unsorted chunk");
	if (unlikely(c->bk->fd != c || c->fd != head))
		misuse("malloc", chunk_to_block(c), "corrupted links of an unsorted chunk");
}

/*
 * Sorts the unsorted chunks, oldest first, into their bins, until one fits
 * exactly.  A small request that finds the last remainder alone takes from it,
 * so that runs of small requests lie side by side.
 */
static struct chunk *take_unsorted(struct arena *a, size_t size)
{
	struct chunk *head = bin_head(a, UNSORTED), *c;

	for (int i = 0; i < SORT_LIMIT && (c = head->bk) != head; i++) {
		size_t have = chunk_size(c);

		check_unsorted(a, head, c, have);
		if (size_is_small(size) && c == a->last_remainder && c->bk == head &&
		    have > size + MIN_CHUNK) {
			head->bk = head->fd = head;
			a->binned_bytes -= have;
			return take_free(a, c, size);
		}
		head->bk = c->bk;
		c->bk->fd = head;
		if (have == size) {
			a->binned_bytes -= have;
			return take_free(a, c, size);
		}
		bin_insert(a, c, have);
	}
	return NULL;
}

/* The best fit among the binned chunks, or NULL. */
static struct chunk *take_binned(struct arena *a, size_t size)
{
	unsigned own = bin_of_size(size), bin = size_is_small(size) ? own + 1 : own;
	struct chunk *c;

	for (;; bin++) {
		bin = binmap_next(a, bin);
		if (bin == BINS)
			return NULL;
		c = bin == own ? large_bin_best(a, bin, size) : bin_least(a, bin);
		if (c != NULL)
			break;
		/* The large bin of the request may hold smaller ones. */
		if (bin != own)
			binmap_clear(a, bin);
	}
	bin_unlink(a, c);
	return take_free(a, c, size);
}

/* No fast or small bin had it; the unsorted bin on, as often as it takes. */
static NOINLINE struct chunk *alloc_general(struct arena *a, size_t size)
{
	struct chunk *c;

	if (unlikely(__atomic_load_n(&a->deferred, __ATOMIC_RELAXED) != NULL))
		free_deferred(a);
	if (!size_is_small(size) && a->have_fastchunks)
		free_consolidate(a);
	for (;;) {
		if ((c = take_unsorted(a, size)) != NULL)
			return c;
		if ((c = take_binned(a, size)) != NULL)
			return c;
		if (unlikely(chunk_size(a->top) > a->system_bytes))
			misuse("malloc", chunk_to_block(a->top), "corrupted top");
		if (chunk_size(a->top) >= size + MIN_CHUNK)
			return top_take(a, size);
		if (!a->have_fastchunks)
			return grow_arena(a, size);
		free_consolidate(a);
	}
}

struct chunk *alloc_chunk(struct arena *a, size_t size)
{
	struct chunk *c;

	if (size <= SETTING(mxfast) && (c = take_fast(a, size)) != NULL)
		return c;
	if (size_is_small(size) && (c = take_small(a, size)) != NULL)
		return c;
	return alloc_general(a, size);
}

/*
 * Of a free chunk, pages outside its extent read zero.  Its header's page and the
 * last, which may be another chunk's too, are no such pages.
 */
static size_t stale_of_free(const struct arena *a, struct chunk *c)
{
	uintptr_t start = (uintptr_t)chunk_to_block(c), end = start + chunk_usable(c);
	uintptr_t stale = size_max(extent_inner_start(c), a->taken_hi);
	uintptr_t tail = size_max(align_down(end, os_page_size), stale);

	if (stale >= end)
		return end - start;
	memset((void *)tail, 0, end - tail);
	return stale - start;
}

struct chunk *alloc_chunk_zero(struct arena *a, size_t size, size_t *stale)
{
	struct chunk *top = a->top, *c;
	size_t top_used = chunk_size(top);
	bool sure = policy_is_default() && !__atomic_load_n(&extent_unsure, __ATOMIC_RELAXED);

	/* What another arena's top once held may lie beyond its present end. */
	if (!arena_is_main(a))
		top_used = size_max(top_used, subheap_used_from(top));
	else if (sure)
		top_used = size_min(top_used, size_max(extent_inner_start(top), a->top_dirty_hi) -
		                              (uintptr_t)top);
	a->taken_hi = UINTPTR_MAX;
	c = alloc_chunk(a, size);
	if (c == NULL)
		return NULL;
	*stale = chunk_size(c) - SIZE_SZ;
	if (chunk_is_mapped(c))
		*stale = mapped_is_stale(c) ? chunk_usable(c) : 0;
	else if (c == top && arena_grows_zeroed(a) && top_used < *stale + SIZE_SZ)
		*stale = top_used - CHUNK_HEADER;
	else if (sure)
		*stale = stale_of_free(a, c);
	return c;
}

void alloc_clear(char *block, size_t stale)
{
	char *start = (char *)align_up((uintptr_t)block, os_page_size), *end = block + stale;
	struct os_range pages = { start, 0 };
	uint64_t calls = 0;

	if (policy_is_default() && stale >= LOOK_LEAST)
		pages.size = align_down((size_t)(end - start), os_page_size);
	/* A page that is there is sooner cleared than made. */
	if (pages.size == 0 || os_resident(start, pages.size) >= pages.size / 2 ||
	    os_discard(&pages, 1, &calls) != pages.size) {
		memset(block, 0, stale);
		return;
	}
	memset(block, 0, (size_t)(start - block));
	start += pages.size;
	memset(start, 0, (size_t)(end - start));
}

void alloc_free_tail(struct arena *a, struct chunk *c, size_t size)
{
	size_t left = chunk_size(c) - size;
	struct chunk *rest = chunk_at(c, size);

	if (left < MIN_CHUNK)
		return;
	rest->size = left | PREV_INUSE | arena_bit(a);
	c->size = size | (c->size & SIZE_BITS);
	free_chunk(a, rest);
}

static struct chunk *align_chunk(struct chunk *c, size_t alignment)
{
	return block_to_chunk((void *)align_up((uintptr_t)chunk_to_block(c), alignment));
}

/* Moves a mapped chunk's start up to a boundary within its mapping. */
static struct chunk *align_mapped(struct chunk *c, size_t alignment)
{
	struct chunk *at = align_chunk(c, alignment);
	size_t lead = (size_t)((char *)at - (char *)c);

	if (lead != 0) {
		at->prev_size = c->prev_size + lead;
		at->size = (chunk_size(c) - lead) | IS_MMAPPED;
	}
	return at;
}

struct chunk *alloc_mapped(size_t alignment, size_t size)
{
	struct chunk *c;

	if (alignment <= CHUNK_ALIGN)
		return mapped_alloc(size);
	c = mapped_alloc(size + alignment);
	return c != NULL ? align_mapped(c, alignment) : NULL;
}

struct chunk *alloc_aligned(struct arena *a, size_t alignment, size_t size)
{
	/* Room to move to the next boundary, and for a free chunk before it. */
	struct chunk *c = alloc_chunk(a, size + alignment + MIN_CHUNK), *at;
	size_t lead;

	if (c == NULL)
		return NULL;
	if (chunk_is_mapped(c))
		return align_mapped(c, alignment);
	at = align_chunk(c, alignment);
	lead = (size_t)((char *)at - (char *)c);
	if (lead != 0 && lead < MIN_CHUNK) {
		at = chunk_at(at, alignment);
		lead += alignment;
	}
	if (lead != 0) {
		at->size = (chunk_size(c) - lead) | PREV_INUSE | arena_bit(a);
		c->size = lead | (c->size & SIZE_BITS);
		free_chunk(a, c);
	}
	alloc_free_tail(a, at, size);
	return at;
}
