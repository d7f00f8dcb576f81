/*
 * The thread cache: blocks that a thread freed and will take again, without a
 * lock.  Layer: heap.  Default policy.
 *
 * A cached block is in use as far as the heap knows.  Its second word holds a mark,
 * so that freeing it once more is noticed.
 *
 * The owner's operations take no lock and no atomic read-modify-write.  Each sets its
 * bin's `busy`, reads the bounds, moves the top, and clears `busy`: plain stores, in that
 * order for the compiler, to one line of the processor's cache.  Another thread takes the
 * caches of idle owners over without stopping them: it shuts each, that is, under the
 * cache's lock it makes every bin look empty and full (base above, limit below every top).
 * It lets every thread of the process execute a barrier (membarrier), once for all.  Then
 * it takes each lock again and looks at each `busy`.  If all are 0, the owner's next
 * operation will see the new bounds, fail its ordinary test, and wait for the lock; until
 * then the cache is the other thread's.  If one is 1 the bounds are put back.  An owner that
 * comes in between opens its cache, and keeps it.
 *
 * A signal handler that finds `busy` set has interrupted an operation on this bin: it goes
 * to the arena directly and leaves the bin alone.  The slow paths below set it too, in each
 * bin that they work on, and hold the cache's lock.  A cache that is shut no handler opens
 * over an operation of its thread: that may have read a top which is no longer true.
 *
 * I1: the purger never writes a top that it does not own.
 * I2: every block from a bin's first slot to its top is in use in its arena, and in no
 *     other cache; blocks leave the range before they are freed, and enter it after they
 *     were allocated, so that it also holds in the child of a fork.
 */
#ifndef CEDE_HEAP_CACHE_H
#define CEDE_HEAP_CACHE_H

#include "heap/chunk.h"
#include "heap/owner.h"
#include "heap/thread.h"

/* Left in the second word of a cached block.  Where a program's own bytes look the
 * same, free takes its slow path, and finds that the block is not cached. */
#define CACHE_MARK UINT32_C(0x9fc0ced3)

/* Whether threads cache at all: not in classic, nor with M_PERTURB, nor without the
 * purger, who would empty the caches of threads that sleep.  Atomic. */
extern bool cache_on HIDDEN;
/* Bytes that all threads cache, as far as it was counted; atomic.  For the purger. */
extern size_t cache_free_bytes HIDDEN;
/* Of the mapping that holds a thread's arrays; const after start-up. */
extern size_t cache_slots_bytes HIDDEN;

/* Decides by the settings; at start-up, by mallopt, and when there is no purger. */
void cache_configure(void);

static inline bool cache_is_on(void)
{
	return __atomic_load_n(&cache_on, __ATOMIC_ACQUIRE);
}

static inline bool cache_marked(const void *block)
{
	return ((const uint32_t *)block)[2] == CACHE_MARK;
}

static inline void cache_mark(void *block, uint32_t mark)
{
	((uint32_t *)block)[2] = mark;
}

/*
 * By compare and store: one instruction that does both (bts) costs 4 ns a time on
 * Zen.  The compiler alone would load the word first.
 */
static inline bool cache_enter(struct cache_bin *bin)
{
	__asm__ goto("cmpl $0, %0\n\tjne %l1" : : "m"(bin->busy) : "cc", "memory" : busy);
	__atomic_store_n(&bin->busy, 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
busy:
	return false;
}

static inline void cache_leave(struct cache_bin *bin)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&bin->busy, 0, __ATOMIC_RELEASE);
}

/*
 * Within cache_enter and cache_leave the bounds are read plainly: whoever changes
 * them meanwhile sees `busy` and takes it back, and what was read decides alone.
 */

/* A cached block of the bin, or NULL. */
static inline void *cache_pop(struct cache_bin *bin)
{
	void *block, **top;

	if (!cache_enter(bin))
		return NULL;
	top = bin->top;
	if (unlikely(top <= bin->base)) {
		cache_leave(bin);
		return NULL;
	}
	block = top[-1];
	__asm__("" : "+a"(block)); /* where it is returned: saves a move */
	cache_mark(block, 0);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	bin->top--;
	cache_leave(bin);
	return block;
}

/* Whether the block, of the bin's class, now is in the cache. */
static inline bool cache_push(struct cache_bin *bin, void *block)
{
	void **top;

	if (!cache_enter(bin))
		return false;
	top = bin->top;
	if (unlikely(top >= bin->limit || cache_marked(block))) {
		cache_leave(bin);
		return false;
	}
	cache_mark(block, CACHE_MARK);
	*top = block;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	bin->top++;
	cache_leave(bin);
	return true;
}

/*
 * The bin of a request of at most CLASS_EVEN bytes: its class is its count of steps.
 * Bins lie at multiples of their size, so rounding up may come last.
 */
static inline struct cache_bin *cache_even_bin(struct thread *t, size_t bytes)
{
	size_t scale = sizeof(*t->bins) / CLASS_STEP;
	uintptr_t at = (uintptr_t)t->bins + (bytes + CLASS_STEP) * scale - 1;

	return (struct cache_bin *)(at & -sizeof(*t->bins));
}

/* malloc's fast path, for at most CLASS_EVEN bytes. */
static inline void *cache_get(size_t bytes)
{
	struct thread *t = thread_self;

	return cache_pop(cache_even_bin(t, bytes));
}

/* The same for at most CLASS_LARGEST bytes. */
static inline void *cache_get_larger(size_t bytes)
{
	struct thread *t = thread_self;

	return cache_pop(thread_bin(t, class_of_request(bytes)));
}

/*
 * free's fast path for a block of a slab: whether it is in the calling thread's
 * cache now.  Of an address where no slab is the bin is full.
 */
static inline bool cache_put(void *block)
{
	uintptr_t step = window_step(block);
	struct thread *t = thread_self;

	if (unlikely(step >= WINDOW_READ(window.steps)))
		return false;
	return cache_push((struct cache_bin *)((char *)t->bins + WINDOW_READ(window.bins[step >> 12])), block);
}

/* The same for any block that holds at least so many bytes, at most CLASS_EVEN. */
static inline bool cache_put_sized(void *block, size_t bytes)
{
	struct thread *t = thread_self;

	return cache_push(cache_even_bin(t, bytes), block);
}

/* The same for a chunk that is sound and of a cached size. */
static inline bool cache_put_chunk(void *block)
{
	const struct chunk *c = block_to_chunk(block);
	struct thread *t = thread_self;
	unsigned class;
	size_t size;

	if (likely(owner_in_main(c)))
		size = chunk_peek(c) & ~PREV_INUSE;
	else if (subheap_known(c))
		size = (chunk_peek(c) & ~PREV_INUSE) ^ NON_MAIN_ARENA;
	else
		return false;
	if (unlikely(((size | (uintptr_t)block) & (CHUNK_ALIGN - 1)) != 0))
		return false;
	class = class_of_usable(size - SIZE_SZ);
	return likely(class != CLASS_NONE) && cache_push(thread_bin(t, class), block);
}

/* ---- slow paths, of the calling thread's own cache ---- */

/* Fills the bin of a class and returns one block, or NULL without memory. */
void *cache_refill(struct thread *t, unsigned class);
/* Makes room in the bin and takes the block, of arena a, in; false: it is to go there. */
bool cache_make_room(struct thread *t, unsigned class, void *block, const struct arena *a);
/* Whether a block that bears the mark is in this cache. */
bool cache_holds(struct thread *t, unsigned class, const void *block);

/* ---- other threads' ---- */

/* Of all bins, for good: a thread without a cache. */
void cache_set_busy(struct thread *t, bool busy);

/* What a dead thread cached is for the thread that takes its record over. */
void cache_inherit(struct thread *t);

/*
 * Empties the caches of threads that did nothing since the last call (`now`: and
 * of those that did, and of the caller), as far as they are not at work this
 * moment.  Returns whether any still holds blocks.  One caller at a time: `now` waits
 * for another one, unless that is the caller itself, whom a signal handler interrupted.
 */
bool cache_drain_idle(bool now);

/* What is in the caches now, and of how many threads; exact while they rest. */
void cache_held(size_t *bytes, size_t *threads);

/*
 * Around fork.  In the child the caller's own cache is whole; that of a thread which
 * stayed in the parent is too, unless it was at work: then its blocks are lost.
 */
void cache_fork_prepare(struct thread *own);
void cache_fork_parent(struct thread *own);
void cache_fork_child(struct thread *own);

#endif
