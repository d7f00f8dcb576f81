#include "heap/subheap.h"

#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/misuse.h"
#include "os/os.h"

uint64_t subheap_bits[KNOWN_BITS / 64];

/* Where the next heap may lie aligned: the half of a reservation not used. */
static char *aligned_hint;

static void known_set(const void *heap, bool ours)
{
	size_t bit = (uintptr_t)heap / HEAP_MAX;

	if (ours)
		__atomic_fetch_or(&subheap_bits[bit / 64], 1ull << bit % 64, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&subheap_bits[bit / 64], ~(1ull << bit % 64), __ATOMIC_RELAXED);
}

size_t subheap_used_from(const struct chunk *top)
{
	struct heap_info *heap = subheap_of(top);

	return heap->accessible - (size_t)((const char *)top - (const char *)heap);
}

/* HEAP_MAX reserved bytes at a multiple of HEAP_MAX, or NULL. */
static char *reserve_aligned(void)
{
	char *hint = __atomic_exchange_n(&aligned_hint, NULL, __ATOMIC_RELAXED);
	char *start, *aligned;
	size_t lead;

	if (hint != NULL) {
		start = os_map(hint, HEAP_MAX, OS_NONE);
		if (start == NULL || start == hint)
			return start;
		(void)!os_unmap(start, HEAP_MAX);
	}
	start = os_map(NULL, 2 * HEAP_MAX, OS_NONE);
	if (start == NULL) {
		/* Not so much address space: a lucky position is the last chance. */
		start = os_map(NULL, HEAP_MAX, OS_NONE);
		if (start == NULL || (uintptr_t)start % HEAP_MAX == 0)
			return start;
		(void)!os_unmap(start, HEAP_MAX);
		return NULL;
	}
	aligned = (char *)align_up((uintptr_t)start, HEAP_MAX);
	lead = (size_t)(aligned - start);
	if (lead != 0)
		(void)!os_unmap(start, lead);
	else
		__atomic_store_n(&aligned_hint, aligned + HEAP_MAX, __ATOMIC_RELAXED);
	(void)!os_unmap(aligned + HEAP_MAX, HEAP_MAX - lead);
	return aligned;
}

struct heap_info *subheap_create(size_t size, size_t pad)
{
	struct heap_info *heap;

	if (size > HEAP_MAX)
		return NULL;
	size = size_max(size_min(size + size_min(pad, HEAP_MAX), HEAP_MAX), HEAP_MIN);
	size = align_up(size, os_page_size);
	heap = (struct heap_info *)reserve_aligned();
	if (heap == NULL)
		return NULL;
	if (!os_protect(heap, size, OS_READ_WRITE)) {
		(void)!os_unmap(heap, HEAP_MAX);
		return NULL;
	}
	/* As in note_memory of grow.c. */
	if (policy_is_default())
		(void)os_advise_huge(heap, HEAP_MAX, false);
	heap->size = heap->accessible = size;
	known_set(heap, true);
	return heap;
}

struct chunk *subheap_first_chunk(struct heap_info *heap)
{
	size_t taken = sizeof(*heap);

	if (heap->arena == (struct arena *)(heap + 1))
		taken += sizeof(struct arena);
	/* The block, not the chunk, begins at a multiple of 16: so does the chunk. */
	return chunk_at(heap, align_up(taken, CHUNK_ALIGN));
}

static void set_top(struct arena *a, struct heap_info *heap)
{
	struct chunk *top = subheap_first_chunk(heap);

	a->top = top;
	top->size = (heap->size - (size_t)((char *)top - (char *)heap)) | PREV_INUSE;
	a->top_dirty_lo = a->top_dirty_hi = a->top_reached = 0;
}

struct arena *subheap_new_arena(uint16_t order)
{
	size_t least = sizeof(struct heap_info) + sizeof(struct arena) + 2 * MIN_CHUNK;
	struct heap_info *heap = subheap_create(least, SETTING(top_pad));
	struct arena *a;

	if (heap == NULL)
		return NULL;
	a = (struct arena *)(heap + 1);
	heap->arena = a;
	arena_init(a, order);
	set_top(a, heap);
	a->system_bytes = a->max_system_bytes = heap->size;
	return a;
}

/* A heap's end is made accessible in steps of this, to save system calls. */
#define ACCESS_STEP ((size_t)128 << 10)

/* The heap grows in place by at least `more` bytes. */
static bool extend(struct heap_info *heap, size_t more)
{
	size_t size = heap->size + align_up(more, os_page_size), access;

	if (more > HEAP_MAX || size > HEAP_MAX)
		return false;
	if (size > heap->accessible) {
		access = size_min(align_up(size, ACCESS_STEP), HEAP_MAX);
		if (!os_protect((char *)heap + heap->accessible, access - heap->accessible,
		                OS_READ_WRITE))
			return false;
		heap->accessible = access;
	}
	heap->size = size;
	return true;
}

bool subheap_grow(struct arena *a, size_t size)
{
	struct heap_info *heap = subheap_of(a->top), *next;
	size_t old_heap = heap->size, old_top = chunk_size(a->top);
	struct chunk *top = a->top;

	if (extend(heap, size + MIN_CHUNK - old_top)) {
		a->system_bytes += heap->size - old_heap;
		top->size = (old_top + heap->size - old_heap) | PREV_INUSE;
	} else {
		next = subheap_create(size + MIN_CHUNK + sizeof(*next), SETTING(top_pad));
		if (next == NULL)
			return false;
		next->arena = a;
		next->prev = heap;
		a->system_bytes += next->size;
		grow_retire_top(a, top, old_top);
		set_top(a, next);
	}
	a->max_system_bytes = size_max(a->max_system_bytes, a->system_bytes);
	return true;
}

/*
 * While the top fills its whole heap, and the heap before ends in enough free
 * memory, that heap goes and the free memory before its fence posts is the top.
 */
static size_t drop_empty_heaps(struct arena *a, size_t pad)
{
	size_t dropped = 0;

	for (;;) {
		struct heap_info *heap = subheap_of(a->top), *prev = heap->prev;
		struct chunk *last, *post, *top;
		struct extent e = EXTENT_EMPTY;
		size_t size;

		if (prev == NULL || a->top != subheap_first_chunk(heap))
			break;
		/* The second fence post, the first, and the chunk before, when free. */
		last = chunk_at(prev, prev->size - CHUNK_HEADER);
		if (unlikely(chunk_size(last) != 0 || last->prev_size > HEAP_MAX))
			misuse("free", last, "corrupted end of a heap");
		top = post = chunk_prev(last);
		size = last->prev_size + CHUNK_HEADER;
		if (!chunk_prev_inuse(post)) {
			top = chunk_prev(post);
			size += chunk_size(top);
		}
		if (size + HEAP_MAX - prev->size < pad + MIN_CHUNK + os_page_size)
			break;
		if (top != post) {
			bin_unlink(a, top);
			if (policy_is_default())
				e = extent_take(a, top, chunk_size(top));
		}
		a->system_bytes -= heap->size;
		dropped += heap->size;
		known_set(heap, false);
		os_release(heap, HEAP_MAX);
		a->top = top;
		top->size = size | PREV_INUSE;
		a->top_dirty_lo = a->top_dirty_hi = a->top_reached = 0;
		if (policy_is_default())
			extent_add_to_top(a, extent_hull(e, extent_boundary(last)));
	}
	return dropped;
}

size_t subheap_trim(struct arena *a, size_t pad, bool force)
{
	struct heap_info *heap;
	size_t top_size, extra, dropped, keep, there, gone = 0;
	struct os_range end;
	uint64_t calls = 0;

	if (a->top_claimed != 0)
		return 0;
	dropped = drop_empty_heaps(a, pad);
	heap = subheap_of(a->top);
	top_size = chunk_size(a->top);
	keep = pad + MIN_CHUNK + 1;
	if ((top_size < SETTING(trim_threshold) && !force) || keep < pad || top_size <= keep)
		return dropped;
	extra = align_down(top_size - keep, os_page_size);
	if (extra == 0)
		return dropped;
	end = (struct os_range){ (char *)heap + heap->size - extra, extra };
	/* By default it is known how far pages are there, most of which went before. */
	if (!policy_is_default())
		there = extra;
	else
		there = a->top_dirty_hi > (uintptr_t)end.start ? a->top_dirty_hi - (uintptr_t)end.start : 0;
	if (there != 0)
		gone = os_discard(&end, 1, &calls);
	if (unlikely(gone < there))
		__atomic_store_n(&extent_unsure, true, __ATOMIC_RELAXED);
	heap->size -= extra;
	a->system_bytes -= extra;
	a->top->size = (top_size - extra) | PREV_INUSE;
	extent_cut_top(a, (uintptr_t)end.start);
	return dropped + gone;
}
