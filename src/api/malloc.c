/*
 * The malloc family under cede_* names: arguments, errno, and which arena.
 * Nothing below this layer sets errno; free leaves it alone.
 */
#include <errno.h>
#include <string.h>

#include "api/export.h"
#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/extent.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"
#include "heap/registry.h"

/* Locks an arena; false when a signal handler finds its own thread in it. */
static inline bool enter(struct arena *a)
{
	if (likely(lock_try(&a->lock)))
		return true;
	if (lock_is_mine(&a->lock))
		return false;
	lock_acquire(&a->lock);
	return true;
}

static inline void leave(struct arena *a)
{
	AUDIT(a);
	lock_release(&a->lock);
}

static inline bool too_large(size_t bytes)
{
	return unlikely(bytes > PTRDIFF_MAX);
}

static COLD void *out_of_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static inline struct chunk *alloc_locked(struct arena *a, size_t alignment, size_t size)
{
	return alignment > CHUNK_ALIGN ? alloc_aligned(a, alignment, size) : alloc_chunk(a, size);
}

/*
 * From `a`, or, when a signal handler has interrupted this very thread in it, from
 * another arena or a mapping, which needs none.
 */
static NOINLINE struct chunk *alloc_again(struct arena *a, size_t alignment, size_t size)
{
	struct chunk *c;

	if (lock_is_mine(&a->lock))
		a = arena_other(a);
	if (lock_is_mine(&a->lock))
		return alloc_mapped(alignment, size);
	lock_acquire(&a->lock);
	c = alloc_locked(a, alignment, size);
	leave(a);
	return c;
}

/*
 * A second try, elsewhere: `a` had no memory, perhaps because pages of it were
 * just being given back.
 */
static COLD struct chunk *alloc_elsewhere(struct arena *a, size_t alignment, size_t size)
{
	purger_settle();
	return alloc_again(arena_other(a), alignment, size);
}

/* A chunk in use from the thread's arena, or from wherever there is memory. */
static inline struct chunk *alloc(size_t alignment, size_t size)
{
	struct arena *a = registry_arena(registry_self());
	struct chunk *c;

	if (likely(enter(a))) {
		c = alloc_locked(a, alignment, size);
		leave(a);
	} else {
		c = alloc_again(a, alignment, size);
	}
	if (unlikely(c == NULL) && (c = alloc_elsewhere(a, alignment, size)) == NULL)
		return NULL;
	if (unlikely(chunk_is_mapped(c)))
		mapped_bound();
	return c;
}

/* M_PERTURB: new bytes are the complement of freed ones. */
static inline void *perturbed(void *block, size_t bytes)
{
	unsigned perturb = SETTING(perturb);

	if (unlikely(perturb != 0))
		memset(block, (int)(perturb ^ 0xff), bytes);
	return block;
}

/* From the heap, without a cache. */
static NOINLINE void *malloc_direct(size_t bytes)
{
	struct chunk *c;

	if (too_large(bytes) || unlikely((c = alloc(0, request_to_size(bytes))) == NULL))
		return out_of_memory();
	return perturbed(chunk_to_block(c), bytes);
}

/* The cache has no block of the class: it is filled, unless it has no part in this. */
static NOINLINE void *malloc_slow(size_t bytes)
{
	void *block = cache_refill(registry_self(), class_of_request(bytes));

	return block != NULL ? block : malloc_direct(bytes);
}

EXPORT void *cede_malloc(size_t bytes)
{
	void *block;

	if (unlikely(bytes >= cache_requests_below()))
		return malloc_direct(bytes);
	block = cache_pop(thread_self, class_of_request(bytes));
	return likely(block != NULL) ? block : malloc_slow(bytes);
}

/* The chunk of a block that the program passed in; nothing of it is read yet. */
static inline struct chunk *chunk_given(void *block, const char *function)
{
	if (unlikely(((uintptr_t)block & (CHUNK_ALIGN - 1)) != 0))
		misuse(function, block, "invalid pointer: not a multiple of 16");
	return block_to_chunk(block);
}

/* The class that a chunk of a cached size counts as, else CLASS_NONE. */
static unsigned class_of_chunk(const struct chunk *c)
{
	size_t size = chunk_peek(c) & ~SIZE_BITS;

	return size < cache_chunks_below() ? class_down[size / CHUNK_ALIGN] : CLASS_NONE;
}

/* A block that bears the key of cached ones: it is one, or only looks like it. */
static COLD void check_marked(struct chunk *c, const char *function)
{
	if (cache_holds(registry_self(), class_of_chunk(c), chunk_to_block(c)))
		misuse(function, chunk_to_block(c), "double free");
}

/* To the heap, without a cache. */
static NOINLINE void free_direct(void *block)
{
	unsigned perturb = SETTING(perturb);
	struct arena *a;
	struct chunk *c;
	bool tell = false;

	if (block == NULL)
		return;
	c = chunk_given(block, "free");
	a = owner_of(c, "free");
	if (unlikely(a == NULL)) {
		mapped_free(c, "free");
		return;
	}
	if (unlikely(perturb != 0))
		memset(block, (int)perturb, chunk_usable(c));
	(void)registry_self();
	if (unlikely(!enter(a))) {
		free_defer(a, c);
		return;
	}
	free_chunk(a, c);
	if (policy_is_default())
		tell = purger_should_tell(a, extent_dirty_bytes(a));
	leave(a);
	if (unlikely(tell))
		purger_tell();
}

/* The cache did not take it: it makes room, unless it has no part in this. */
static NOINLINE void free_slow(void *block)
{
	struct chunk *c;
	unsigned class;

	if (block == NULL)
		return;
	c = chunk_given(block, "free");
	if (owner_of(c, "free") != NULL) {
		class = class_of_chunk(c);
		if (unlikely(cache_marked(block)))
			check_marked(c, "free");
		if (class != CLASS_NONE && cache_make_room(registry_self(), class, block))
			return;
	}
	free_direct(block);
}

EXPORT void cede_free(void *block)
{
	if (unlikely(cache_chunks_below() == 0))
		free_direct(block);
	else if (unlikely(!cache_take(block)))
		free_slow(block);
}

EXPORT void *cede_calloc(size_t count, size_t each)
{
	struct arena *a;
	struct chunk *c;
	size_t bytes, size, stale = SIZE_MAX;

	if (unlikely(__builtin_mul_overflow(count, each, &bytes)) || too_large(bytes))
		return out_of_memory();
	if (bytes < cache_requests_below()) {
		void *block = cede_malloc(bytes);

		return block != NULL ? memset(block, 0, bytes) : NULL;
	}
	size = request_to_size(bytes);
	a = registry_arena(registry_self());
	if (likely(enter(a))) {
		c = alloc_chunk_zero(a, size, &stale);
		leave(a);
	} else {
		c = alloc_again(a, 0, size);
	}
	if (unlikely(c == NULL) && (c = alloc_elsewhere(a, 0, size)) == NULL)
		return out_of_memory();
	if (unlikely(chunk_is_mapped(c)))
		mapped_bound();
	if (unlikely(stale == SIZE_MAX))
		stale = chunk_is_mapped(c) && !mapped_is_stale(c) ? 0 : chunk_usable(c);
	alloc_clear(chunk_to_block(c), stale);
	return chunk_to_block(c);
}

static void *move_block(struct chunk *c, size_t bytes)
{
	void *block = chunk_to_block(c), *moved;
	size_t size = request_to_size(bytes);
	struct chunk *to = mapped_wanted_grown(size) ? mapped_alloc_grown(size) : NULL;

	moved = to != NULL ? perturbed(chunk_to_block(to), bytes) : cede_malloc(bytes);
	if (moved != NULL) {
		memcpy(moved, block, size_min(chunk_usable(c), chunk_usable(block_to_chunk(moved))));
		cede_free(block);
	}
	return moved;
}

static void *realloc_mapped(struct chunk *c, size_t bytes)
{
	struct chunk *moved;
	void *block;

	mapped_check(c, "realloc");
	if (mapped_unwanted(request_to_size(bytes)) && (block = move_block(c, bytes)) != NULL)
		return block;
	moved = mapped_resize(c, request_to_size(bytes));
	if (moved != NULL)
		return chunk_to_block(moved);
	return chunk_usable(c) >= bytes ? chunk_to_block(c) : move_block(c, bytes);
}

EXPORT void *cede_realloc(void *block, size_t bytes)
{
	struct chunk *c, *resized = NULL;
	struct arena *a;
	void *moved;

	if (block == NULL)
		return cede_malloc(bytes);
	if (bytes == 0) {
		cede_free(block);
		return NULL;
	}
	if (too_large(bytes))
		return out_of_memory();
	c = chunk_given(block, "realloc");
	a = owner_of(c, "realloc");
	if (a == NULL)
		return realloc_mapped(c, bytes);
	if (unlikely(cache_marked(block)))
		check_marked(c, "realloc");
	(void)registry_self();
	if (mapped_grows(chunk_usable(c), request_to_size(bytes)) && (moved = move_block(c, bytes)))
		return moved;
	if (likely(enter(a))) {
		resized = realloc_in_place(a, c, request_to_size(bytes));
		leave(a);
	}
	return resized != NULL ? chunk_to_block(resized) : move_block(c, bytes);
}

EXPORT void *cede_reallocarray(void *block, size_t count, size_t each)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, each, &bytes))
		return out_of_memory();
	return cede_realloc(block, bytes);
}

/* The alignment is a power of two; NULL: no memory. */
static void *aligned(size_t alignment, size_t bytes)
{
	struct chunk *c;

	if (alignment <= CHUNK_ALIGN)
		return cede_malloc(bytes);
	if (too_large(bytes) || bytes > PTRDIFF_MAX - alignment - 2 * MIN_CHUNK)
		return out_of_memory();
	c = alloc(alignment, request_to_size(bytes));
	if (c == NULL)
		return out_of_memory();
	return perturbed(chunk_to_block(c), bytes);
}

EXPORT void *cede_memalign(size_t alignment, size_t bytes)
{
	size_t power = CHUNK_ALIGN;

	if (alignment > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	while (power < alignment)
		power *= 2;
	return aligned(power, bytes);
}

EXPORT void *cede_aligned_alloc(size_t alignment, size_t bytes)
{
	if (!is_power_of_two(alignment)) {
		errno = EINVAL;
		return NULL;
	}
	return aligned(alignment, bytes);
}

EXPORT int cede_posix_memalign(void **out, size_t alignment, size_t bytes)
{
	int saved = errno;
	void *block;

	if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
		return EINVAL;
	block = aligned(alignment, bytes);
	errno = saved;
	if (block == NULL)
		return ENOMEM;
	*out = block;
	return 0;
}

EXPORT void *cede_valloc(size_t bytes)
{
	(void)registry_self(); /* the page size is read at start-up */
	return aligned(os_page_size, bytes);
}

EXPORT void *cede_pvalloc(size_t bytes)
{
	(void)registry_self();
	if (too_large(bytes))
		return out_of_memory();
	return aligned(os_page_size, align_up(bytes, os_page_size));
}

EXPORT size_t cede_malloc_usable_size(void *block)
{
	return block == NULL ? 0 : chunk_usable(block_to_chunk(block));
}

EXPORT void cede_free_sized(void *block, size_t size)
{
	(void)size;
	cede_free(block);
}

EXPORT void cede_free_aligned_sized(void *block, size_t alignment, size_t size)
{
	(void)alignment;
	(void)size;
	cede_free(block);
}
