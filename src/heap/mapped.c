/*
 * Chunks mapped by themselves: large requests, by the dynamic threshold.
 *
 * When a mapped block is freed, the threshold rises to its size, and the trim
 * threshold to twice that: such sizes come again, ptmalloc reasons, and are then
 * cut from the heap.  Any of four settings stops this.
 */
#include "heap/heap.h"
#include "heap/misuse.h"
#include "os/os.h"

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

/* A mapped chunk has no successor to lend it 8 bytes. */
static size_t mapping_size(size_t size)
{
	return align_up(size + SIZE_SZ, os_page_size);
}

struct chunk *mapped_alloc(size_t size)
{
	size_t whole = mapping_size(size);
	struct chunk *c;

	if (whole < size)
		return NULL;
	c = os_map(NULL, whole, OS_READ_WRITE);
	if (c == NULL)
		return NULL;
	c->size = whole | IS_MMAPPED;
	count(1, (ptrdiff_t)whole);
	return c;
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
	os_release(start, whole);
	count(-1, -(ptrdiff_t)whole);
}

struct chunk *mapped_resize(struct chunk *c, size_t size)
{
	size_t before = c->prev_size, old = before + chunk_size(c);
	size_t whole = mapping_size(before + size);
	char *start = (char *)c - before;

	if (whole < size)
		return NULL;
	if (whole == old)
		return c;
	start = os_remap(start, old, whole);
	if (start == NULL)
		return NULL;
	c = chunk_at(start, before);
	c->size = (whole - before) | IS_MMAPPED;
	count(0, (ptrdiff_t)(whole - old));
	return c;
}
