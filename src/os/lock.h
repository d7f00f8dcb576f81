/*
 * A lock that knows its owner and its rank.  Layer: os.
 *
 * The word is 0 when free, else the owner's thread id, with LOCK_WAITERS set
 * when somebody sleeps on it.  Knowing the owner lets a signal handler, or the
 * child of a fork inside one, see that it interrupted the holder.
 *
 * Whoever had to wait counts it once the lock is its own, so that counting needs no
 * atomic and no line of memory but the lock's, and an acquisition that finds the
 * lock free pays nothing.
 *
 * I1: a thread acquires locks in ascending rank, and arenas in ascending order
 *     within theirs (asserted in debug builds by lock_held_check).
 */
#ifndef CEDE_OS_LOCK_H
#define CEDE_OS_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

enum lock_rank {
	RANK_PURGE,     /* one pass of giving back at a time */
	RANK_REGISTRY,  /* records of threads */
	RANK_CACHE,     /* one thread's cache */
	RANK_ARENAS,    /* list of arenas, free list, counts of threads */
	RANK_ARENA,     /* one arena's heap; order: its index */
	RANK_WINDOW,    /* segments that no arena has */
	RANK_SPARES     /* what mapped blocks left */
};

#define LOCK_WAITERS 0x80000000u

struct lock {
	uint32_t word;   /* atomic */
	uint8_t rank;    /* const-after-init */
	bool kept;       /* the thread that forks held it before; guarded by the lock */
	uint16_t order;  /* const-after-init */
	uint64_t waits;  /* acquisitions that did not find it free; guarded by the lock */
	uint64_t sleeps; /* times that one of them slept; guarded by the lock */
};

#define LOCK_INIT(r) { .rank = (r) }

/* The calling thread's id; 0 until lock_thread_begin. */
extern __thread uint32_t lock_self HIDDEN;

/* Before a thread's first lock, and in the child of a fork. */
void lock_thread_begin(void);

void lock_acquire_slow(struct lock *lock);
void lock_release_slow(struct lock *lock);

#ifdef CEDE_DEBUG
void lock_held_check(const struct lock *lock);
void lock_held_add(const struct lock *lock);
void lock_held_remove(const struct lock *lock);
#else
static inline void lock_held_check(const struct lock *lock) { (void)lock; }
static inline void lock_held_add(const struct lock *lock) { (void)lock; }
static inline void lock_held_remove(const struct lock *lock) { (void)lock; }
#endif

static inline bool lock_try(struct lock *lock)
{
	uint32_t free_word = 0;

	ASSERT(lock_self != 0);
	if (!__atomic_compare_exchange_n(&lock->word, &free_word, lock_self, false,
	                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	lock_held_add(lock);
	return true;
}

static inline void lock_acquire(struct lock *lock)
{
	lock_held_check(lock);
	if (unlikely(!lock_try(lock)))
		lock_acquire_slow(lock);
}

static inline void lock_release(struct lock *lock)
{
	lock_held_remove(lock);
	if (unlikely(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) & LOCK_WAITERS))
		lock_release_slow(lock);
}

static inline bool lock_is_mine(const struct lock *lock)
{
	return (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) & ~LOCK_WAITERS) == lock_self;
}

/*
 * Around fork: every lock is acquired before it and released after it.  A signal
 * handler that forks may have interrupted a holder: its locks stay its own, in
 * the child too, where nobody waits and the thread has another id.
 */
void lock_fork_acquire(struct lock *lock);
void lock_fork_release(struct lock *lock);
void lock_fork_child(struct lock *lock);

#endif
