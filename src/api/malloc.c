/*
 * The malloc family under cede_* names: arguments, errno, and which arena.
 * Nothing below this layer sets errno; free leaves it alone.
 */
#include <errno.h>
#include <string.h>

#include "api/export.h"
#include "api/fast.h"
#include "cede/cede.h"
#include "cede/descriptor.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/extent.h"
#include "heap/giving.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"
#include "heap/registry.h"

/* A program that is linked with the archive has it too, and keeps it. */
extern const struct cede_descriptor cede_descriptor;
__attribute__((used, retain)) static const struct cede_descriptor *const described =
	&cede_descriptor;

/* Locks an arena; false when a signal handler finds its own thread in one (arena.h). */
static inline bool enter(struct arena *a)
{
	return likely(lock_try(&a->lock)) || arena_enter_slow(a);
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
	if (!enter(a))
		return alloc_mapped(alignment, size);
	c = alloc_locked(a, alignment, size);
	leave(a);
	return c;
}

/*
 * Of a request.  In the default policy a small chunk holds whole steps, as a slab's block
 * does: free_sized knows the request alone (cache_put_sized).
 */
static inline size_t chunk_size_of(size_t bytes)
{
	return request_to_size(slabs_are_on() && bytes <= CLASS_EVEN ? align_up(bytes, CLASS_STEP) : bytes);
}

/*
 * A second try, elsewhere: `a` had no memory, perhaps because pages of it were
 * just being given back.
 */
static COLD struct chunk *alloc_elsewhere(struct arena *a, size_t alignment, size_t size)
{
	giving_settle();
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

/* One block of a slab, or NULL: there are none, or a handler finds its thread at work. */
static NOINLINE void *slab_direct(size_t bytes)
{
	struct arena *a = registry_arena(registry_self());
	void *block = NULL;

	if (!enter(a))
		return NULL;
	if (slab_take(a, class_of_request(bytes), &block, 1) != 0)
		cache_mark(block, 0);
	leave(a);
	return block;
}

/* From the chunk heap. */
static inline void *chunk_direct(size_t size)
{
	struct chunk *c = alloc(0, size);

	return likely(c != NULL) ? chunk_to_block(c) : out_of_memory();
}

/* From the heap, without a cache, in the default policy or with M_PERTURB. */
static NOINLINE void *malloc_direct(size_t bytes)
{
	void *block = NULL;

	if (too_large(bytes))
		return out_of_memory();
	if (slabs_are_on() && bytes <= SLAB_LARGEST)
		block = slab_direct(bytes);
	if (block == NULL)
		block = chunk_direct(chunk_size_of(bytes));
	return block != NULL ? perturbed(block, bytes) : NULL;
}

/* The same in classic. */
static NOINLINE void *malloc_classic(size_t bytes)
{
	if (too_large(bytes) || unlikely(SETTING(perturb) != 0))
		return malloc_direct(bytes);
	return chunk_direct(request_to_size(bytes));
}

/* Fills the cache, unless it has no part in this. */
static NOINLINE void *malloc_refill(size_t bytes)
{
	struct thread *t = registry_self();
	void *block = cache_is_on() ? cache_refill(t, class_of_request(bytes)) : NULL;

	return block != NULL ? block : malloc_direct(bytes);
}

/* In classic straight on. */
NOINLINE void *malloc_slow(size_t bytes)
{
	return likely(slabs_are_on()) ? malloc_refill(bytes) : malloc_classic(bytes);
}

NOINLINE void *malloc_larger(size_t bytes)
{
	void *block;

	if (unlikely(!slabs_are_on()))
		return malloc_classic(bytes);
	if (bytes > CLASS_LARGEST)
		return malloc_direct(bytes);
	block = cache_get_larger(bytes);
	return likely(block != NULL) ? block : malloc_slow(bytes);
}

EXPORT void *cede_malloc(size_t bytes)
{
	return fast_malloc(bytes);
}

/* The program passed it in; nothing of it is read yet. */
static inline void check_aligned(const void *block, const char *function)
{
	if (unlikely(((uintptr_t)block & (CHUNK_ALIGN - 1)) != 0))
		misuse(function, block, "invalid pointer: not a multiple of 16");
}

/* The arena of a block in use; NULL when it is mapped by itself. */
static struct arena *arena_given(const void *block, const char *function)
{
	check_aligned(block, function);
	return window_has(block) ? slab_of(block, function)->arena
	                         : owner_of(block_to_chunk((void *)block), function);
}

static size_t usable(const void *block)
{
	return window_has(block) ? slab_at(block)->size : chunk_usable(block_to_chunk((void *)block));
}

/* A block that bears the mark of cached ones: it is one, or only looks like it. */
static COLD void check_marked(void *block, const char *function)
{
	if (cache_holds(registry_self(), class_of_usable(usable(block)), block))
		misuse(function, block, "double free");
}

/* To the arena, without a cache.  Inline: for a chunk that is classic's whole free. */
__attribute__((always_inline)) static inline void free_to(struct arena *a, void *block,
                                                          bool is_chunk)
{
	unsigned perturb = SETTING(perturb);
	bool tell = false;

	if (unlikely(perturb != 0))
		memset(block, (int)perturb, usable(block));
	(void)registry_self();
	if (unlikely(!enter(a))) {
		free_defer(a, block);
		return;
	}
	if (is_chunk)
		free_chunk(a, block_to_chunk(block));
	else
		free_block(a, block);
	if (policy_is_default())
		tell = purger_should_tell(a);
	leave(a);
	if (unlikely(tell))
		purger_tell();
}

static NOINLINE void free_chunk_direct(void *block)
{
	struct chunk *c = block_to_chunk(block);
	struct arena *a;

	check_aligned(block, "free");
	a = owner_of(c, "free");
	if (unlikely(a == NULL))
		mapped_free(c, "free");
	else
		free_to(a, block, true);
}

static NOINLINE void free_direct(void *block)
{
	check_aligned(block, "free");
	if (window_has(block))
		free_to(slab_of(block, "free")->arena, block, false);
	else
		free_chunk_direct(block);
}

/* The cache makes room, unless it has no part in this. */
static NOINLINE void free_cached(void *block)
{
	struct thread *t = registry_self();
	struct arena *a = arena_given(block, "free");
	unsigned class;

	if (a != NULL) {
		class = class_of_usable(usable(block));
		if (unlikely(cache_marked(block)))
			check_marked(block, "free");
		if (class != CLASS_NONE && cache_make_room(t, class, block, a))
			return;
	}
	free_direct(block);
}

NOINLINE void malloc_free_slow(void *block)
{
	if (unlikely(block == NULL))
		return;
	if (unlikely(!slabs_are_on()))
		free_chunk_direct(block);
	else if (unlikely(!cache_is_on()))
		free_direct(block);
	else if (window_has(block) || !cache_put_chunk(block))
		free_cached(block);
}

EXPORT void cede_free(void *block)
{
	fast_free(block);
}

EXPORT void *cede_calloc(size_t count, size_t each)
{
	struct arena *a;
	struct chunk *c;
	size_t bytes, size, stale = SIZE_MAX;

	if (unlikely(__builtin_mul_overflow(count, each, &bytes)) || too_large(bytes))
		return out_of_memory();
	(void)registry_self(); /* what follows is decided at the start */
	if (bytes <= CLASS_LARGEST && slabs_are_on()) {
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

/* What was usable moves, too, and not only what was asked for. */
static void *move_block(void *block, size_t bytes)
{
	size_t size = request_to_size(bytes), held = usable(block);
	struct chunk *to = mapped_wanted_grown(size) ? mapped_alloc_grown(size) : NULL;
	void *moved;

	moved = to != NULL ? perturbed(chunk_to_block(to), bytes) : cede_malloc(bytes);
	if (moved != NULL) {
		memcpy(moved, block, size_min(held, usable(moved)));
		cede_free(block);
	}
	return moved;
}

static void *realloc_mapped(struct chunk *c, size_t bytes)
{
	struct chunk *moved;
	void *block;

	mapped_check(c, "realloc");
	if (mapped_unwanted(request_to_size(bytes)) && (block = move_block(chunk_to_block(c), bytes)) != NULL)
		return block;
	moved = mapped_resize(c, request_to_size(bytes));
	if (moved != NULL)
		return chunk_to_block(moved);
	return chunk_usable(c) >= bytes ? chunk_to_block(c) : move_block(chunk_to_block(c), bytes);
}

/* Whether so many bytes may stay in a slab's block: at most half of it is unused. */
static bool fits_slab_block(const struct slab *s, size_t bytes)
{
	return bytes <= s->size && (bytes >= s->size / 2 || class_of_request(bytes) == s->class);
}

/* The block where it is, or NULL; a chunk may take from its neighbour. */
static void *resize_in_place(struct arena *a, void *block, size_t bytes)
{
	struct chunk *resized = NULL;
	bool tell = false;

	if (window_has(block))
		return fits_slab_block(slab_at(block), bytes) ? block : NULL;
	if (likely(enter(a))) {
		resized = realloc_in_place(a, block_to_chunk(block), chunk_size_of(bytes));
		tell = policy_is_default() && purger_should_tell(a);
		leave(a);
	}
	if (unlikely(tell))
		purger_tell();
	return resized != NULL ? chunk_to_block(resized) : NULL;
}

EXPORT void *cede_realloc(void *block, size_t bytes)
{
	struct arena *a;
	void *resized, *moved;

	if (block == NULL)
		return cede_malloc(bytes);
	if (bytes == 0) {
		cede_free(block);
		return NULL;
	}
	if (too_large(bytes))
		return out_of_memory();
	(void)registry_self();
	a = arena_given(block, "realloc");
	if (a == NULL)
		return realloc_mapped(block_to_chunk(block), bytes);
	if (unlikely(cache_marked(block)))
		check_marked(block, "realloc");
	if (mapped_grows(usable(block), request_to_size(bytes)) && (moved = move_block(block, bytes)))
		return moved;
	resized = resize_in_place(a, block, bytes);
	return resized != NULL ? resized : move_block(block, bytes);
}

EXPORT void *cede_reallocarray(void *block, size_t count, size_t each)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, each, &bytes))
		return out_of_memory();
	return cede_realloc(block, bytes);
}

/*
 * The smallest class from `bytes` on whose blocks, side by side in a slab, all are
 * aligned; CLASS_NONE: none.
 */
static unsigned aligned_class(size_t alignment, size_t bytes)
{
	unsigned class;

	if (!slabs_are_on() || alignment > SLAB_LARGEST || bytes > SLAB_LARGEST)
		return CLASS_NONE;
	class = class_of_request(bytes < alignment ? alignment : bytes);
	while (class < SLAB_CLASSES && class_sizes[class] % alignment != 0)
		class++;
	return class < SLAB_CLASSES ? class : CLASS_NONE;
}

/* The alignment is a power of two; NULL: no memory. */
static void *aligned(size_t alignment, size_t bytes)
{
	struct chunk *c;
	unsigned class;

	if (alignment <= CHUNK_ALIGN)
		return cede_malloc(bytes);
	if (too_large(bytes) || bytes > PTRDIFF_MAX - alignment - 2 * MIN_CHUNK)
		return out_of_memory();
	(void)registry_self();
	class = aligned_class(alignment, bytes);
	if (class != CLASS_NONE) {
		void *block = cede_malloc(class_sizes[class]);

		/* Without memory for a slab it may be a chunk. */
		if (block == NULL || ((uintptr_t)block & (alignment - 1)) == 0)
			return block;
		cede_free(block);
	}
	c = alloc(alignment, chunk_size_of(bytes));
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
	return block == NULL ? 0 : usable(block);
}

EXPORT void cede_free_sized(void *block, size_t size)
{
	fast_free_sized(block, size);
}

EXPORT void cede_free_aligned_sized(void *block, size_t alignment, size_t size)
{
	/* A greater alignment may have taken a greater class. */
	if (alignment <= CHUNK_ALIGN)
		fast_free_sized(block, size);
	else
		fast_free(block);
}
