/*
 * The thread cache: blocks that a thread freed and will take again, without a
 * lock.  Layer: heap.  Default policy.
 *
 * A cached block is in use as far as the heap knows.  Its second word holds a key
 * of the process, so that freeing it once more is noticed.
 *
 * The owner's operations take no lock and no atomic read-modify-write.  Each sets
 * `busy`, reads the bounds, moves the top, and clears `busy`: plain stores, in that
 * order for the compiler.  Another thread takes an idle owner's cache over without
 * stopping it: under the cache's lock it makes every bin look empty and full
 * (base above, limit below every top), lets every thread of the process execute a
 * barrier (membarrier), and looks at `busy`.  If it is 0, the owner's next
 * operation will see the new bounds, fail its ordinary test, and wait for the lock;
 * until then the cache is the other thread's.  If it is 1 the bounds are put back.
 *
 * A signal handler that finds `busy` set has interrupted an operation: it goes to
 * the arena directly and leaves `busy` alone.  The slow paths below set it too.
 *
 * I1: the purger never writes a top that it does not own.
 * I2: every block in [base, top) is in use in its arena, and in no other cache;
 *     blocks leave the range before they are freed, and enter it after they were
 *     allocated, so that it also holds in the child of a fork.
 */
#ifndef CEDE_HEAP_CACHE_H
#define CEDE_HEAP_CACHE_H

#include "heap/chunk.h"
#include "heap/owner.h"
#include "heap/thread.h"

/* Requests below are cached; 0: none are (classic, M_PERTURB). */
extern size_t cache_requests HIDDEN;
/* Chunks below may be; 0: none.  Both atomic: set after the classes' tables. */
extern size_t cache_chunks HIDDEN;
extern size_t cache_key HIDDEN;
/* Bytes that all threads cache, as far as it was counted; atomic.  For the purger. */
extern size_t cache_free_bytes HIDDEN;

/* Sets the limits by policy; at start-up and by mallopt. */
void cache_configure(void);

static inline size_t cache_requests_below(void)
{
	return __atomic_load_n(&cache_requests, __ATOMIC_ACQUIRE);
}

static inline size_t cache_chunks_below(void)
{
	return __atomic_load_n(&cache_chunks, __ATOMIC_ACQUIRE);
}

static inline bool cache_marked(const void *block)
{
	return ((const size_t *)block)[1] == cache_key;
}

static inline void cache_mark(void *block, size_t key)
{
	((size_t *)block)[1] = key;
}

static inline bool cache_enter(struct thread *t)
{
	if (unlikely(__atomic_load_n(&t->busy, __ATOMIC_RELAXED) != 0))
		return false;
	__atomic_store_n(&t->busy, 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

static inline void cache_leave(struct thread *t)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
}

/* A cached block of the class, or NULL. */
static inline void *cache_pop(struct thread *t, unsigned class)
{
	struct cache_bin *bin = &t->bins[class];
	void *block = NULL, **top;

	if (!cache_enter(t))
		return NULL;
	top = __atomic_load_n(&bin->top, __ATOMIC_RELAXED);
	if (likely(top > __atomic_load_n(&bin->base, __ATOMIC_RELAXED))) {
		block = top[-1];
		cache_mark(block, 0);
		__atomic_store_n(&bin->top, top - 1, __ATOMIC_RELAXED);
	}
	cache_leave(t);
	return block;
}

/* Whether the block, a chunk of the class, now is in the cache. */
static inline bool cache_push(struct thread *t, unsigned class, void *block)
{
	struct cache_bin *bin = &t->bins[class];
	bool room;
	void **top;

	if (!cache_enter(t))
		return false;
	top = __atomic_load_n(&bin->top, __ATOMIC_RELAXED);
	room = top < __atomic_load_n(&bin->limit, __ATOMIC_RELAXED);
	if (likely(room)) {
		cache_mark(block, cache_key);
		*top = block;
		__atomic_store_n(&bin->top, top + 1, __ATOMIC_RELAXED);
	}
	cache_leave(t);
	return room;
}

/*
 * free's fast path: whether the block was sound, of a cached size, and is in the
 * calling thread's cache now.
 */
static inline bool cache_take(void *block)
{
	const struct chunk *c = block_to_chunk(block);
	size_t size;

	if (likely(owner_in_main(c)))
		size = chunk_peek(c) & ~PREV_INUSE;
	else if (subheap_known(c))
		size = (chunk_peek(c) & ~PREV_INUSE) ^ NON_MAIN_ARENA;
	else
		return false;
	if (unlikely(size >= cache_chunks_below() || ((size | (uintptr_t)block) & (CHUNK_ALIGN - 1)) != 0))
		return false;
	if (unlikely(cache_marked(block)))
		return false;
	return cache_push(thread_self, class_down[size >> 4], block);
}

/* ---- slow paths, of the calling thread's own cache ---- */

/* Fills the bin of a class and returns one block, or NULL without memory. */
void *cache_refill(struct thread *t, unsigned class);
/* Makes room in the bin and takes the block in; false: it could not. */
bool cache_make_room(struct thread *t, unsigned class, void *block);
/* Whether a block that bears the key is in this cache. */
bool cache_holds(struct thread *t, unsigned class, const void *block);

/* ---- other threads' ---- */

/* Frees all that a cache without an owner holds. */
void cache_empty(struct thread *t);

/*
 * Empties the caches of threads that did nothing since the last call (`now`: and
 * of those that did, and of the caller), as far as they are not at work this
 * moment.  Returns whether any still holds blocks.
 */
bool cache_drain_idle(bool now);

/*
 * Around fork.  In the child the caller's own cache is whole; that of a thread which
 * stayed in the parent is too, unless it was at work: then its blocks are lost.
 */
void cache_fork_prepare(struct thread *own);
void cache_fork_parent(struct thread *own);
void cache_fork_child(struct thread *own);

#endif
