/*
 * Freeing: the checks, the fast bins, merging both ways and into the top, and
 * what a large free sets off.
 */
#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"
#include "heap/top.h"

/* A free that leaves a chunk of this size consolidates, and may trim. */
#define LARGE_FREE ((size_t)64 << 10)

static void free_fast(struct arena *a, struct chunk *c, size_t size)
{
	struct chunk **bin = &a->fastbins[fast_bin(size)];
	size_t next_size = chunk_at(c, size)->size;

	if (unlikely(next_size <= CHUNK_HEADER || (next_size & ~SIZE_BITS) >= a->system_bytes))
		misuse("free", chunk_to_block(c), "corrupted size of the next chunk");
	if (unlikely(*bin == c))
		misuse("free", chunk_to_block(c), "double free");
	a->have_fastchunks = true;
	c->fd = *bin;
	*bin = c;
	a->binned_bytes += size;
}

static inline void check_before_merge(struct arena *a, struct chunk *c, size_t size)
{
	struct chunk *next = chunk_at(c, size);
	size_t next_size;

	if (unlikely(c == a->top))
		misuse("free", chunk_to_block(c), "double free: it is part of the top");
	if (unlikely(arena_is_main(a) && a->contiguous &&
	             (char *)next >= (char *)a->top + chunk_size(a->top) && a->top_claimed == 0))
		misuse("free", chunk_to_block(c), "double free, or corrupted size: it ends past the top");
	if (unlikely(!chunk_prev_inuse(next)))
		misuse("free", chunk_to_block(c), "double free");
	next_size = chunk_size(next);
	if (unlikely(next_size < CHUNK_HEADER || next_size >= a->system_bytes))
		misuse("free", chunk_to_block(c), "corrupted size of the next chunk");
}

/*
 * Takes a free neighbour out of its bin.  Its extent, and the pages where `upper`
 * of the two begins, join that of the merge.
 */
static inline void absorb(struct arena *a, struct chunk *c, size_t size,
                          const struct chunk *upper, struct extent *e)
{
	bin_unlink(a, c);
	if (policy_is_default())
		*e = extent_hull(extent_hull(*e, extent_boundary(upper)), extent_take(a, c, size));
}

static inline size_t merge(struct arena *a, struct chunk *c, size_t size, struct extent e)
{
	struct chunk *next = chunk_at(c, size);
	size_t other;

	if (!chunk_prev_inuse(c)) {
		struct chunk *prev = chunk_prev(c);

		other = c->prev_size;
		if (unlikely(chunk_size(prev) != other))
			misuse("free", chunk_to_block(c), "corrupted size of the previous chunk");
		absorb(a, prev, other, c, &e);
		c->size = ABSORBED;
		c = prev;
		size += other;
	}
	other = chunk_size(next);
	if (next == a->top) {
		size += other;
		next->size = ABSORBED;
		c->size = size | PREV_INUSE;
		a->top = c;
		if (policy_is_default())
			extent_add_to_top(a, extent_hull(e, extent_boundary(next)));
		return size;
	}
	if (!chunk_inuse_at(next, other)) {
		absorb(a, next, other, next, &e);
		next->size = ABSORBED;
		size += other;
	} else {
		chunk_clear_prev_inuse(next);
	}
	c->size = size | PREV_INUSE;
	chunk_set_foot(c, size);
	bin_insert_unsorted(a, c, size);
	if (policy_is_default())
		extent_put(a, c, size, e);
	return size;
}

/* The pages that a chunk in use touches: any may be resident. */
static inline struct extent extent_in_use(const struct chunk *c, size_t size)
{
	return (struct extent){ align_down((uintptr_t)c, os_page_size), (uintptr_t)c + size };
}

void free_merge(struct arena *a, struct chunk *c, bool clean)
{
	size_t size = chunk_size(c);

	(void)merge(a, c, size, clean ? EXTENT_EMPTY : extent_in_use(c, size));
}

/* In the default policy the purger gives the top back, unless told otherwise. */
static bool trims_at_once(void)
{
	return !policy_is_default() || SETTING(trim_threshold_set) || purger_is_absent();
}

static NOINLINE void after_large_free(struct arena *a)
{
	if (a->have_fastchunks)
		free_consolidate(a);
	if (!trims_at_once())
		return;
	if (!arena_is_main(a))
		(void)subheap_trim(a, SETTING(top_pad), false);
	else if (chunk_size(a->top) >= SETTING(trim_threshold) &&
	         top_excess(a, SETTING(top_pad)) != 0)
		(void)grow_trim_main(a, SETTING(top_pad));
}

void free_chunk(struct arena *a, struct chunk *c)
{
	size_t size = chunk_size(c);

	if (size <= SETTING(mxfast)
#ifdef CEDE_TRIM_FASTBINS
	    && chunk_at(c, size) != a->top
#endif
	) {
		free_fast(a, c, size);
		return;
	}
	check_before_merge(a, c, size);
	if (merge(a, c, size, extent_in_use(c, size)) >= LARGE_FREE)
		after_large_free(a);
}

void free_consolidate(struct arena *a)
{
	a->have_fastchunks = false;
	for (unsigned i = 0; i < FAST_BINS; i++) {
		struct chunk *c = a->fastbins[i], *next;
		size_t size;

		a->fastbins[i] = NULL;
		for (; c != NULL; c = next) {
			size = chunk_size(c);
			if (unlikely(((uintptr_t)c & (CHUNK_ALIGN - 1)) != 0 || size < MIN_CHUNK ||
			             fast_bin(size) != i))
				misuse("malloc", chunk_to_block(c), "corrupted fast bin");
			next = c->fd;
			a->binned_bytes -= size;
			(void)merge(a, c, size, extent_in_use(c, size));
		}
	}
}

/* The first word of each block leads to the next. */
COLD void free_defer(struct arena *a, void *block)
{
	void *next = __atomic_load_n(&a->deferred, __ATOMIC_RELAXED);

	do {
		*(void **)block = next;
	} while (!__atomic_compare_exchange_n(&a->deferred, &next, block, false, __ATOMIC_RELEASE,
	                                      __ATOMIC_RELAXED));
}

void free_deferred(struct arena *a)
{
	void *block = __atomic_exchange_n(&a->deferred, NULL, __ATOMIC_ACQUIRE), *next;

	for (; block != NULL; block = next) {
		next = *(void **)block;
		free_block(a, block);
	}
}
