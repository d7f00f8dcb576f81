/*
 * The end of an arena: growth and trim of the top.  The main arena's is the
 * break, moved by libc's sbrk; somebody else may move it too, and then the old
 * top is closed with fence posts and the heap goes on after the gap.
 */
#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/misuse.h"
#include "heap/subheap.h"
#include "heap/top.h"
#include "os/os.h"

/* When the break cannot move, at least so much is mapped in its stead. */
#define MAP_INSTEAD ((size_t)1 << 20)

/* The default policy's pad: a system call for each eighth that a heap grows. */
#define PAD_SHARE 8
#define PAD_MOST  ((size_t)16 << 20)

void grow_retire_top(struct arena *a, struct chunk *top, size_t size)
{
	size_t left = align_down(size - 2 * CHUNK_HEADER, CHUNK_ALIGN);
	struct extent dirty = extent_of_top(a);
	struct chunk *post = chunk_at(top, left), *last = chunk_at(post, CHUNK_HEADER);

	/* Two headers that look in use: the first ends merging, the second is where
	 * the first's successor bit is read from, and tells where the first lies. */
	last->size = 0 | PREV_INUSE;
	if (left < MIN_CHUNK) {
		/* Too small to be free: one dead chunk in use. */
		top->size = (left + CHUNK_HEADER) | PREV_INUSE | arena_bit(a);
		last->prev_size = left + CHUNK_HEADER;
		return;
	}
	last->prev_size = CHUNK_HEADER;
	post->size = CHUNK_HEADER; /* the one before is free */
	top->size = left | PREV_INUSE;
	chunk_set_foot(top, left);
	bin_insert_unsorted(a, top, left);
	if (policy_is_default())
		extent_put(a, top, left, dirty);
}

/* The main arena's new memory [start, end) borders nothing: it is the new top. */
static void begin_region(struct arena *a, char *start, char *end)
{
	struct chunk *old = a->top;
	size_t old_size = chunk_size(old);
	struct chunk *top = (struct chunk *)align_up((uintptr_t)start, CHUNK_ALIGN);

	if (old_size != 0)
		grow_retire_top(a, old, old_size);
	a->top = top;
	a->region = (char *)top;
	a->regions++;
	a->top_dirty_lo = a->top_dirty_hi = a->top_reached = 0;
	top->size = align_down((size_t)(end - (char *)top), CHUNK_ALIGN) | PREV_INUSE;
}

static void note_bounds(struct arena *a, char *start, char *end)
{
	if (a->lowest == NULL || start < a->lowest)
		__atomic_store_n(&a->lowest, start, __ATOMIC_RELAXED);
	if (end > a->highest)
		__atomic_store_n(&a->highest, end, __ATOMIC_RELAXED);
}

/* New memory, [start, end). */
static void note_memory(struct arena *a, char *start, char *end)
{
	char *first = (char *)align_up((uintptr_t)start, os_page_size);

	note_bounds(a, start, end);
	/* A part of a huge page that goes back would leave the process, but not the machine. */
	if (policy_is_default() && first < end)
		(void)os_advise_huge(first, align_down((size_t)(end - first), os_page_size), false);
}

/*
 * The break moved by `size` and `start` is where: the top grows, or, when
 * somebody else moved it since, a new region begins, topped up to end on a page.
 */
static void take_break(struct arena *a, char *start, size_t size)
{
	size_t old_size = chunk_size(a->top), more;
	char *old_end = (char *)a->top + old_size, *end = start + size;

	if (old_size != 0 && start == old_end) {
		a->top->size = (old_size + size) | PREV_INUSE;
	} else {
		if (unlikely(a->contiguous && old_size != 0 && start < old_end))
			misuse("malloc", old_end, "the break was moved back below the heap's end");
		/* The old top's part was left out of `size`: it cannot be used now. */
		more = (a->contiguous ? old_size : 0) + (-(uintptr_t)start & (CHUNK_ALIGN - 1));
		more = align_up((uintptr_t)end + more, os_page_size) - (uintptr_t)end;
		if (more != 0 && os_sbrk((intptr_t)more) == end)
			end += more;
		if (a->contiguous && old_size != 0)
			a->system_bytes += (size_t)(start - old_end); /* as ptmalloc counts it */
		begin_region(a, start, end);
	}
	a->system_bytes += (size_t)(end - start);
	note_memory(a, start, end);
}

static bool map_instead(struct arena *a, size_t size)
{
	char *start;

	size = size_max(align_up(size, os_page_size), MAP_INSTEAD);
	start = os_map(NULL, size, OS_READ_WRITE);
	if (start == NULL)
		return false;
	a->contiguous = false;
	begin_region(a, start, start + size);
	a->system_bytes += size;
	note_memory(a, start, start + size);
	return true;
}

/* What is asked for beyond the request: by default, in proportion to the heap. */
static size_t growth_pad(const struct arena *a)
{
	if (!policy_is_default() || !SETTING(dynamic_threshold))
		return SETTING(top_pad);
	return size_max(SETTING(top_pad), size_min(a->system_bytes / PAD_SHARE, PAD_MOST));
}

static bool grow_main(struct arena *a, size_t size)
{
	size_t least = size + MIN_CHUNK, whole, want;
	char *start = NULL;

	/* A pad beyond all memory is no pad. */
	if (__builtin_add_overflow(least, growth_pad(a), &whole) || whole > PTRDIFF_MAX)
		whole = least;
	want = align_up(a->contiguous ? whole - chunk_size(a->top) : whole, os_page_size);
	if (want <= PTRDIFF_MAX)
		start = os_sbrk((intptr_t)want);
	if (start != NULL)
		take_break(a, start, want);
	else if (!map_instead(a, whole))
		return false;
	a->max_system_bytes = size_max(a->max_system_bytes, a->system_bytes);
	return true;
}

struct chunk *grow_arena(struct arena *a, size_t size)
{
	struct chunk *c;
	bool tried = mapped_wanted(size);

	if (tried && (c = mapped_alloc(size)) != NULL)
		return c;
	/* The end of the top is being given back: it can neither grow nor wait. */
	if (a->top_claimed != 0)
		return tried ? NULL : mapped_alloc(size);
	if (arena_is_main(a) ? grow_main(a, size) : subheap_grow(a, size)) {
		if (chunk_size(a->top) >= size + MIN_CHUNK)
			return top_take(a, size);
		return NULL;
	}
	return tried || arena_is_main(a) ? NULL : mapped_alloc(size);
}

size_t grow_trim_main(struct arena *a, size_t pad)
{
	size_t extra = top_excess(a, pad), gone;
	char *end = (char *)a->top + chunk_size(a->top), *now;

	/* Only while the break is where the top ends, and is moved by nobody else. */
	if (extra == 0 || a->top_claimed != 0 || os_sbrk(0) != end ||
	    os_sbrk(-(intptr_t)extra) == NULL)
		return 0;
	now = os_sbrk(0);
	if (now == NULL || now >= end)
		return 0;
	gone = (size_t)(end - now);
	a->system_bytes -= gone;
	a->top->size -= gone;
	extent_cut_top(a, (uintptr_t)now);
	return gone;
}
