/*
 * Freeing: the checks, the fast bins, merging both ways and into the top, and
 * what a large free sets off.
 */
#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/misuse.h"
#include "heap/purger.h"
#include "heap/subheap.h"

/* A free that leaves a chunk of this size consolidates, and may trim. */
#define LARGE_FREE ((size_t)64 << 10)

/*
 * Left in the size of a chunk that a neighbour absorbed, so that freeing it once
 * more is recognised: no size has this bit.
 */
#define ABSORBED ((size_t)8)

static _Noreturn COLD void reject(const struct chunk *c, const char *function)
{
	const void *block = chunk_to_block(c);

	if (((uintptr_t)block & (CHUNK_ALIGN - 1)) != 0)
		misuse(function, block, "invalid pointer: not a multiple of 16");
	if (c->size == ABSORBED)
		misuse(function, block, "double free");
	misuse(function, block, "invalid pointer, or corrupted size");
}

static bool in_main_arena(const struct chunk *c)
{
	return (const char *)c >= __atomic_load_n(&main_arena.lowest, __ATOMIC_RELAXED) &&
	       (const char *)c < __atomic_load_n(&main_arena.highest, __ATOMIC_RELAXED);
}

struct arena *arena_of_chunk(const struct chunk *c)
{
	return c->size & NON_MAIN_ARENA ? subheap_of(c)->arena : &main_arena;
}

struct arena *free_check(const struct chunk *c, const char *function)
{
	size_t size;

	if (unlikely(((uintptr_t)c & (CHUNK_ALIGN - 1)) != 0))
		reject(c, function);
	size = chunk_size(c);
	if (unlikely(size < MIN_CHUNK || (size & (CHUNK_ALIGN - 1)) != 0 || size > -(uintptr_t)c))
		reject(c, function);
	if (c->size & NON_MAIN_ARENA) {
		if (unlikely(!subheap_known(c)))
			reject(c, function);
		return subheap_of(c)->arena;
	}
	if (unlikely(!in_main_arena(c)))
		misuse(function, chunk_to_block(c), "invalid pointer: not from this heap");
	return &main_arena;
}

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

static inline void absorb(struct arena *a, struct chunk *c, size_t size, struct extent *e)
{
	bin_unlink(a, c);
	if (policy_is_default())
		*e = extent_hull(*e, extent_take(a, c, size));
}

size_t free_merge(struct arena *a, struct chunk *c, bool clean)
{
	size_t size = chunk_size(c), other;
	struct chunk *next = chunk_at(c, size);
	struct extent e = EXTENT_EMPTY;

	if (!clean)
		e = (struct extent){ align_down((uintptr_t)c, os_page_size), (uintptr_t)next };
	if (!chunk_prev_inuse(c)) {
		struct chunk *prev = chunk_prev(c);

		other = c->prev_size;
		if (unlikely(chunk_size(prev) != other))
			misuse("free", chunk_to_block(c), "corrupted size of the previous chunk");
		e = extent_hull(e, extent_boundary(c));
		absorb(a, prev, other, &e);
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
		e = extent_hull(e, extent_boundary(next));
		absorb(a, next, other, &e);
		next->size = ABSORBED;
		size += other;
	} else {
		next->size &= ~PREV_INUSE;
	}
	c->size = size | PREV_INUSE;
	chunk_set_foot(c, size);
	bin_insert_unsorted(a, c, size);
	if (policy_is_default())
		extent_put(a, c, size, e);
	return size;
}

/* In the default policy the purger gives the top back, unless told otherwise. */
static bool trims_at_once(void)
{
	return !policy_is_default() || settings.trim_threshold_set || purger_is_absent();
}

static NOINLINE void after_large_free(struct arena *a)
{
	if (a->have_fastchunks)
		free_consolidate(a);
	if (!trims_at_once())
		return;
	if (!arena_is_main(a))
		(void)subheap_trim(a, settings.top_pad, false);
	else if (chunk_size(a->top) >= __atomic_load_n(&settings.trim_threshold, __ATOMIC_RELAXED))
		(void)grow_trim_main(a, settings.top_pad);
}

void free_chunk(struct arena *a, struct chunk *c)
{
	size_t size = chunk_size(c);

	if (size <= settings.mxfast
#ifdef CEDE_TRIM_FASTBINS
	    && chunk_at(c, size) != a->top
#endif
	) {
		free_fast(a, c, size);
		return;
	}
	check_before_merge(a, c, size);
	if (free_merge(a, c, false) >= LARGE_FREE)
		after_large_free(a);
}

void free_consolidate(struct arena *a)
{
	a->have_fastchunks = false;
	for (unsigned i = 0; i < FAST_BINS; i++) {
		struct chunk *c = a->fastbins[i], *next;

		a->fastbins[i] = NULL;
		for (; c != NULL; c = next) {
			if (unlikely(((uintptr_t)c & (CHUNK_ALIGN - 1)) != 0 || chunk_size(c) < MIN_CHUNK ||
			             fast_bin(chunk_size(c)) != i))
				misuse("malloc", chunk_to_block(c), "corrupted fast bin");
			next = c->fd;
			(void)free_merge(a, c, false);
		}
	}
}

void free_deferred(struct arena *a)
{
	struct chunk *c = __atomic_exchange_n(&a->deferred, NULL, __ATOMIC_ACQUIRE), *next;

	for (; c != NULL; c = next) {
		next = c->fd;
		free_chunk(a, c);
	}
}
