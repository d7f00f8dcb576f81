#include "os/lock.h"

#include "os/os.h"

#define SPINS 256
/*
 * No sleep is for ever: whom a release woke may run a signal handler before it takes the
 * lock, and wait there for what another one has that sleeps for this lock.
 */
#define SLEEP_MS 10

__thread uint32_t lock_self;

#ifdef CEDE_DEBUG
#define HELD_MAX 16

static __thread const struct lock *held[HELD_MAX];
static __thread unsigned held_count;
#endif

void lock_thread_begin(void)
{
	lock_self = os_thread_id();
#ifdef CEDE_DEBUG
	held_count = 0;
#endif
}

static bool spin(struct lock *lock)
{
	for (int i = 0; i < SPINS; i++) {
		uint32_t free_word = 0;

		__builtin_ia32_pause();
		if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 &&
		    __atomic_compare_exchange_n(&lock->word, &free_word, lock_self, false,
		                                __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

/* Returns whether it slept. */
static bool sleep_until_mine(struct lock *lock)
{
	uint32_t mine = lock_self;

	for (bool slept = false;;) {
		uint32_t word = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);

		if (word == 0) {
			/* Others may sleep still: keep the bit so that release wakes one. */
			if (__atomic_compare_exchange_n(&lock->word, &word, mine | LOCK_WAITERS,
			                                false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return slept;
			continue;
		}
		if (!(word & LOCK_WAITERS) &&
		    !__atomic_compare_exchange_n(&lock->word, &word, word | LOCK_WAITERS, false,
		                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		os_futex_wait(&lock->word, word | LOCK_WAITERS, SLEEP_MS);
		slept = true;
	}
}

NOINLINE void lock_acquire_slow(struct lock *lock)
{
	bool slept = !spin(lock) && sleep_until_mine(lock);

	lock->waits++;
	lock->sleeps += slept;
	lock_held_add(lock);
}

NOINLINE void lock_release_slow(struct lock *lock)
{
	os_futex_wake(&lock->word, 1);
}

void lock_fork_acquire(struct lock *lock)
{
	/* What a handler's thread held already is out of rank: not checked here. */
	if (lock_is_mine(lock))
		lock->kept = true;
	else if (!lock_try(lock))
		lock_acquire_slow(lock);
}

void lock_fork_release(struct lock *lock)
{
	if (lock->kept)
		lock->kept = false;
	else
		lock_release(lock);
}

void lock_fork_child(struct lock *lock)
{
	__atomic_store_n(&lock->word, lock->kept ? lock_self : 0, __ATOMIC_RELAXED);
	lock->kept = false;
}

#ifdef CEDE_DEBUG
void lock_held_check(const struct lock *lock)
{
	for (unsigned i = 0; i < held_count; i++)
		CHECK(held[i]->rank < lock->rank ||
		      (held[i]->rank == lock->rank && held[i]->order < lock->order));
}

/* A fork holds more arenas than this keeps: the rest go unchecked. */
void lock_held_add(const struct lock *lock)
{
	if (held_count < HELD_MAX)
		held[held_count++] = lock;
}

void lock_held_remove(const struct lock *lock)
{
	for (unsigned i = 0; i < held_count; i++) {
		if (held[i] == lock) {
			held[i] = held[--held_count];
			return;
		}
	}
}
#endif
