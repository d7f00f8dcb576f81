/*
 * The malloc family under cede_* names: arguments, errno, and which arena.
 * Nothing below this layer sets errno; free leaves it alone.
 */
#include <errno.h>
#include <string.h>

#include "api/export.h"
#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/extent.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"
#include "heap/registry.h"

/* The arena of a given block; false when a handler finds its own thread in it. */
static inline bool enter_owner(struct arena *a)
{
	(void)registry_self();
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
 * The arena is locked.  By this very thread: a signal handler has interrupted it,
 * and another arena must do, or a mapping, which needs none.
 */
static NOINLINE struct chunk *alloc_contended(struct arena *a, size_t alignment, size_t size)
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
	return alloc_contended(arena_other(a), alignment, size);
}

/* A chunk in use from the thread's arena, or from wherever there is memory. */
static inline struct chunk *alloc(size_t alignment, size_t size)
{
	struct arena *a = registry_arena();
	struct chunk *c;

	if (likely(lock_try(&a->lock))) {
		c = alloc_locked(a, alignment, size);
		leave(a);
	} else {
		c = alloc_contended(a, alignment, size);
	}
	return likely(c != NULL) ? c : alloc_elsewhere(a, alignment, size);
}

/* M_PERTURB: new bytes are the complement of freed ones. */
static inline void *perturbed(void *block, size_t bytes)
{
	unsigned perturb = SETTING(perturb);

	if (unlikely(perturb != 0))
		memset(block, (int)(perturb ^ 0xff), bytes);
	return block;
}

EXPORT void *cede_malloc(size_t bytes)
{
	struct chunk *c;

	if (too_large(bytes) || unlikely((c = alloc(0, request_to_size(bytes))) == NULL))
		return out_of_memory();
	return perturbed(chunk_to_block(c), bytes);
}

/* The chunk of a block that the program passed in; nothing of it is read yet. */
static inline struct chunk *chunk_given(void *block, const char *function)
{
	if (unlikely(((uintptr_t)block & (CHUNK_ALIGN - 1)) != 0))
		misuse(function, block, "invalid pointer: not a multiple of 16");
	return block_to_chunk(block);
}

/* A handler's free, of an arena that its thread was at work in: for later. */
static COLD void defer(struct arena *a, struct chunk *c)
{
	c->fd = __atomic_load_n(&a->deferred, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&a->deferred, &c->fd, c, false, __ATOMIC_RELEASE,
	                                    __ATOMIC_RELAXED))
		;
}

EXPORT void cede_free(void *block)
{
	struct chunk *c;
	struct arena *a;
	unsigned perturb = SETTING(perturb);
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
		memset(chunk_to_block(c), (int)perturb, chunk_usable(c));
	if (!enter_owner(a)) {
		defer(a, c);
		return;
	}
	free_chunk(a, c);
	if (policy_is_default())
		tell = purger_should_tell(a, extent_dirty_bytes(a));
	leave(a);
	if (unlikely(tell))
		purger_tell();
}

EXPORT void *cede_calloc(size_t count, size_t each)
{
	struct arena *a;
	struct chunk *c;
	size_t bytes, size, stale = SIZE_MAX;

	if (unlikely(__builtin_mul_overflow(count, each, &bytes)) || too_large(bytes))
		return out_of_memory();
	size = request_to_size(bytes);
	a = registry_arena();
	if (likely(lock_try(&a->lock))) {
		c = alloc_chunk_zero(a, size, &stale);
		leave(a);
	} else {
		c = alloc_contended(a, 0, size);
	}
	if (unlikely(c == NULL) && (c = alloc_elsewhere(a, 0, size)) == NULL)
		return out_of_memory();
	if (unlikely(stale == SIZE_MAX))
		stale = chunk_is_mapped(c) ? 0 : chunk_usable(c);
	return memset(chunk_to_block(c), 0, stale);
}

static void *move_block(struct chunk *c, size_t bytes)
{
	void *block = chunk_to_block(c), *moved = cede_malloc(bytes);
	size_t usable = chunk_usable(c);

	if (moved != NULL) {
		memcpy(moved, block, usable < bytes ? usable : bytes);
		cede_free(block);
	}
	return moved;
}

static void *realloc_mapped(struct chunk *c, size_t bytes)
{
	struct chunk *moved;

	mapped_check(c, "realloc");
	moved = mapped_resize(c, request_to_size(bytes));
	if (moved != NULL)
		return chunk_to_block(moved);
	return chunk_usable(c) >= bytes ? chunk_to_block(c) : move_block(c, bytes);
}

EXPORT void *cede_realloc(void *block, size_t bytes)
{
	struct chunk *c, *resized = NULL;
	struct arena *a;

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
	if (enter_owner(a)) {
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
