/*
 * Chunks mapped by themselves: large requests, by the dynamic threshold.
 *
 * When a mapped block is freed, the threshold rises to its size, and the trim
 * threshold to twice that: such sizes come again, ptmalloc reasons, and are then
 * cut from the heap.  Any of four settings stops this.
 *
 * In the default policy the threshold begins where this ends, and what realloc
 * enlarges is mapped too, because a mapping grows without being copied.  What such
 * blocks leave is kept as spares (spare.h) while there is a purger to unmap it.
 */
#include <string.h>

#include "heap/giving.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"
#include "heap/spare.h"
#include "os/os.h"

/* The least that is kept: less is not worth one of the places. */
#define SPARE_LEAST ((size_t)256 << 10)

struct mapped_counts mapped;

static void count_max(size_t *max, size_t now)
{
	size_t old = __atomic_load_n(max, __ATOMIC_RELAXED);

	while (now > old && !__atomic_compare_exchange_n(max, &old, now, false, __ATOMIC_RELAXED,
	                                                 __ATOMIC_RELAXED))
		;
}

static void count(ptrdiff_t blocks, ptrdiff_t bytes)
{
	count_max(&mapped.max_blocks,
	          __atomic_add_fetch(&mapped.blocks, (size_t)blocks, __ATOMIC_RELAXED));
	count_max(&mapped.max_bytes,
	          __atomic_add_fetch(&mapped.bytes, (size_t)bytes, __ATOMIC_RELAXED));
}

bool mapped_wanted(size_t size)
{
	return size >= SETTING(mmap_threshold) &&
	       __atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED) < SETTING(mmap_max);
}

bool mapped_grown_allowed(void)
{
	return policy_is_default() && SETTING(dynamic_threshold) && !purger_is_absent() &&
	       __atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED) < SETTING(mmap_max);
}

bool mapped_unwanted(size_t size)
{
	return policy_is_default() && size < SPARE_LEAST && !mapped_wanted(size);
}

/* A mapped chunk has no successor to lend it 8 bytes. */
static size_t mapping_size(size_t size)
{
	return align_up(size + SIZE_SZ, os_page_size);
}

/* Keeps a range as a spare, or returns it to the system. */
static void leave(void *start, size_t size)
{
	if (!policy_is_default() || size < SPARE_LEAST || purger_is_absent() ||
	    !spare_put(start, size)) {
		os_release(start, size);
		return;
	}
	/* A handler's thread may be at work in an arena: whoever comes next tells. */
	if (!arena_any_mine())
		purger_tell();
}

/*
 * In the default policy a page is left free behind each mapping: ranges that touch
 * are then parts of one, and the system moves them as one.
 */
static char *keep_apart(char *start, size_t whole, size_t gap)
{
	if (start != NULL && gap != 0)
		(void)!os_unmap(start + whole, gap);
	return start;
}

static char *map_apart(size_t whole)
{
	size_t gap = policy_is_default() ? os_page_size : 0;

	return keep_apart(os_map(NULL, whole + gap, OS_READ_WRITE), whole, gap);
}

static char *remap_apart(char *start, size_t old, size_t whole)
{
	size_t gap = policy_is_default() && whole > old ? os_page_size : 0;

	return keep_apart(os_remap(start, old, whole + gap), whole, gap);
}

/* From the spares; the largest that is too small is made larger. */
static void *map_spare(size_t whole, size_t room)
{
	struct os_range small;
	void *start;

	if (whole < SPARE_LEAST)
		return NULL;
	start = spare_take(whole, room);
	if (start == NULL && room > whole)
		start = spare_take(whole, whole);
	if (start != NULL || !spare_take_whole(&small))
		return start;
	start = remap_apart(small.start, small.size, whole);
	if (start == NULL && !spare_put(small.start, small.size))
		os_release(small.start, small.size);
	return start;
}

static struct chunk *map(size_t size, size_t room)
{
	size_t whole = mapping_size(size), stale = MAPPED_STALE;
	struct chunk *c;

	if (whole < size)
		return NULL;
	c = map_spare(whole, whole + room);
	if (c == NULL) {
		spare_missed(whole);
		c = (struct chunk *)map_apart(whole);
		stale = 0;
	}
	if (c == NULL)
		return NULL;
	c->prev_size = 0;
	c->size = whole | IS_MMAPPED | stale;
	count(1, (ptrdiff_t)whole);
	return c;
}

struct chunk *mapped_alloc(size_t size)
{
	return map(size, 0);
}

struct chunk *mapped_alloc_grown(size_t size)
{
	struct chunk *c = map(size, size);

	mapped_bound();
	return c;
}

void mapped_bound(void)
{
	size_t held = __atomic_load_n(&mapped.bytes, __ATOMIC_RELAXED) + spare_bytes();
	size_t most = __atomic_load_n(&mapped.max_bytes, __ATOMIC_RELAXED);

	if (unlikely(held > most))
		giving_release_spares(held - most);
}

void mapped_check(const struct chunk *c, const char *function)
{
	uintptr_t start = (uintptr_t)c - c->prev_size;
	size_t whole = c->prev_size + chunk_size(c);

	if (unlikely(((start | whole) & (os_page_size - 1)) != 0 || whole < os_page_size ||
	             (uintptr_t)c < start))
		misuse(function, chunk_to_block(c), "invalid pointer, or corrupted size of a mapped block");
}

/* The rule that raises the thresholds. */
static void adapt(size_t size)
{
	if (!SETTING(dynamic_threshold) || size > MAX_MMAP_THRESHOLD ||
	    size <= SETTING(mmap_threshold))
		return;
	__atomic_store_n(&settings.mmap_threshold, size, __ATOMIC_RELAXED);
	__atomic_store_n(&settings.trim_threshold, 2 * size, __ATOMIC_RELAXED);
}

void mapped_free(struct chunk *c, const char *function)
{
	char *start = (char *)c - c->prev_size;
	size_t whole = c->prev_size + chunk_size(c);

	mapped_check(c, function);
	adapt(chunk_size(c));
	count(-1, -(ptrdiff_t)whole);
	/* A spare stays readable: a second free must find that this was one. */
	if (policy_is_default())
		c->size = ABSORBED;
	leave(start, whole);
}

struct chunk *mapped_resize(struct chunk *c, size_t size)
{
	size_t before = c->prev_size, old = before + chunk_size(c);
	size_t whole = mapping_size(before + size), has = old;
	char *start = (char *)c - before, *moved;

	if (whole < size)
		return NULL;
	if (whole == old)
		return c;
	if (whole > old)
		has += spare_take_behind(start + old, whole - old);
	else if (policy_is_default() && old - whole >= SPARE_LEAST)
		has = whole;
	/* Where there is room to grow on, pages that are there are worth the copy. */
	if (has < whole && (moved = spare_take(whole, 2 * whole)) != NULL) {
		memcpy(moved, start, old);
		leave(start, has);
		start = moved;
	} else if (has != whole) {
		moved = remap_apart(start, has, whole);
		if (moved == NULL && has != old)
			leave(start + old, has - old);
		if (moved == NULL)
			return NULL;
		start = moved;
	}
	c = chunk_at(start, before);
	c->size = (whole - before) | IS_MMAPPED;
	count(0, (ptrdiff_t)(whole - old));
	if (has < old)
		leave(start + whole, old - whole);
	mapped_bound();
	return c;
}
