/*
 * os/lock: exclusion, waiting, the rank order, and locks across a fork.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "cede/descriptor.h"
#include "heap/heap.h"
#include "os/lock.h"
#include "os/os.h"
#include "support/child.h"
#include "support/process.h"

#define THREADS 4
#define ROUNDS  50000

extern const struct cede_descriptor cede_descriptor;

static struct lock lock = LOCK_INIT(RANK_ARENA);

static void in_a_thread(void *(*function)(void *))
{
	pthread_t thread;

	EXPECT(pthread_create(&thread, NULL, function, NULL) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
}

static void *cannot_have_it(void *unused)
{
	lock_thread_begin();
	EXPECT(!lock_try(&lock) && !lock_is_mine(&lock));
	return unused;
}

static void *can_have_it(void *unused)
{
	lock_thread_begin();
	EXPECT(lock_try(&lock) && lock_is_mine(&lock));
	lock_release(&lock);
	return unused;
}

static void a_lock_knows_its_owner(void)
{
	lock_thread_begin();
	EXPECT(lock_self == os_thread_id() && !lock_is_mine(&lock));
	lock_acquire(&lock);
	EXPECT(lock_is_mine(&lock) && lock.word == lock_self);
	EXPECT(!lock_try(&lock));
	in_a_thread(cannot_have_it);
	lock_release(&lock);
	EXPECT(lock.word == 0 && !lock_is_mine(&lock));
	in_a_thread(can_have_it);
}

static size_t count; /* guarded by lock */

static void *add_up(void *unused)
{
	lock_thread_begin();
	for (int i = 0; i < ROUNDS; i++) {
		size_t now;

		if (i % 3 == 0 || !lock_try(&lock))
			lock_acquire(&lock);
		now = count;
		if (i % 1000 == 0)
			os_yield(); /* so that others come to wait */
		count = now + 1;
		lock_release(&lock);
	}
	return unused;
}

static void one_at_a_time(void)
{
	pthread_t threads[THREADS];

	lock_thread_begin();
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, add_up, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	EXPECT(count == (size_t)THREADS * ROUNDS && lock.word == 0);
}

static void *wait_for_it(void *unused)
{
	lock_thread_begin();
	lock_acquire(&lock);
	count++;
	lock_release(&lock);
	return unused;
}

static void until_somebody_sleeps(void)
{
	while ((__atomic_load_n(&lock.word, __ATOMIC_RELAXED) & LOCK_WAITERS) == 0)
		process_sleep_ms(1);
	process_sleep_ms(50);
}

/* Whom a release woke may be in a signal handler, and not take the lock. */
static void a_lost_wake_is_made_good(void)
{
	struct timespec until;
	pthread_t thread;

	lock_thread_begin();
	lock_acquire(&lock);
	EXPECT(pthread_create(&thread, NULL, wait_for_it, NULL) == 0);
	until_somebody_sleeps();
	__atomic_store_n(&lock.word, 0, __ATOMIC_RELEASE);
	EXPECT(clock_gettime(CLOCK_REALTIME, &until) == 0);
	until.tv_sec += 10;
	EXPECT(pthread_timedjoin_np(thread, NULL, &until) == 0);
	EXPECT(count == 1);
}

/* All who sleep on it are woken, one after the other. */
static void those_who_wait_are_woken(void)
{
	pthread_t threads[THREADS];

	lock_thread_begin();
	lock_acquire(&lock);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, wait_for_it, NULL) == 0);
	until_somebody_sleeps();
	EXPECT(count == 0 && lock_is_mine(&lock));
	lock_release(&lock);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	EXPECT(count == THREADS && lock.word == 0);
}

/* ---- what waiting is counted ---- */

static void free_locks_count_nothing(void)
{
	lock_thread_begin();
	for (int i = 0; i < ROUNDS; i++) {
		lock_acquire(&lock);
		lock_release(&lock);
	}
	lock_acquire(&lock);
	in_a_thread(cannot_have_it); /* it tried, and did not wait */
	lock_release(&lock);
	EXPECT(lock.waits == 0 && lock.sleeps == 0);
}

/* The other thread sleeps: nobody lets go of the lock before it does. */
static void who_slept_is_counted(void)
{
	pthread_t other;

	lock_thread_begin();
	lock_acquire(&lock);
	EXPECT(pthread_create(&other, NULL, wait_for_it, NULL) == 0);
	until_somebody_sleeps();
	EXPECT(lock.waits == 0); /* not before the lock is its own */
	lock_release(&lock);
	EXPECT(pthread_join(other, NULL) == 0);
	EXPECT(lock.waits == 1 && lock.sleeps == 1);
}

/* The slow path as such: the lock is free again before it sleeps. */
static void who_spun_is_counted(void)
{
	lock_thread_begin();
	for (int i = 1; i <= 3; i++) {
		lock_acquire_slow(&lock);
		EXPECT(lock.waits == (uint64_t)i && lock.sleeps == 0);
		lock_release(&lock);
	}
}

/* All arenas' together; a tool finds each one's by the descriptor. */
static void counts_reach_their_readers(void)
{
	const char *at = (const char *)(uintptr_t)cede_descriptor.main_arena;
	struct cede_stats stats;
	struct arena *other;

	cede_free(cede_malloc(1));
	settings.arena_max = 2;
	other = arena_attach();
	EXPECT(other != &main_arena);
	main_arena.lock.waits = 1000;
	main_arena.lock.sleeps = 100;
	other->lock.waits = 10;
	other->lock.sleeps = 1;
	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	EXPECT(stats.lock_waits == 1010 && stats.lock_sleeps == 101);
	EXPECT(*(const uint64_t *)(at + cede_descriptor.arena_lock_waits) == 1000);
	EXPECT(*(const uint64_t *)(at + cede_descriptor.arena_lock_sleeps) == 100);
}

/* ---- the rank order (debug builds) ---- */

static struct lock purge = LOCK_INIT(RANK_PURGE), registry = LOCK_INIT(RANK_REGISTRY);
static struct lock first = { .rank = RANK_ARENA, .order = 1 };
static struct lock second = { .rank = RANK_ARENA, .order = 2 };

static void ascending_order_is_fine(void)
{
	lock_thread_begin();
	for (int i = 0; i < 3; i++) {
		lock_acquire(&purge);
		lock_acquire(&registry);
		lock_acquire(&first);
		lock_acquire(&second);
		lock_release(&purge); /* in any order */
		lock_release(&second);
		lock_release(&first);
		lock_release(&registry);
	}
}

#ifdef CEDE_DEBUG

static void lower_rank(void)
{
	lock_thread_begin();
	lock_acquire(&registry);
	lock_acquire(&purge);
}

static void lower_order(void)
{
	lock_thread_begin();
	lock_acquire(&second);
	lock_acquire(&first);
}

static void the_same_twice(void)
{
	lock_thread_begin();
	lock_acquire(&first);
	lock_acquire(&first);
}

static void without_an_id(void)
{
	lock_self = 0;
	lock_acquire(&first);
}

static void a_reversal_is_the_end(void)
{
	EXPECT(child_dies(lower_rank, "held[i]->rank"));
	EXPECT(child_dies(lower_order, "held[i]->rank"));
	EXPECT(child_dies(the_same_twice, "held[i]->rank"));
	EXPECT(child_dies(without_an_id, "lock_self != 0"));
}

#endif

/* ---- fork ---- */

static void in_the_child(void)
{
	lock_thread_begin();
	lock_fork_child(&first);
	lock_fork_child(&second);
	/* What the handler's thread held before is its own still, by its new id. */
	EXPECT(lock_is_mine(&first) && !first.kept);
	EXPECT(second.word == 0);
	lock_release(&first);
	lock_acquire(&first);
	lock_acquire(&second);
}

static void locks_cross_a_fork(void)
{
	int status = -1;
	pid_t child;

	lock_thread_begin();
	lock_acquire(&first); /* interrupted in here by a signal, say */
	lock_fork_acquire(&first);
	lock_fork_acquire(&second);
	EXPECT(first.kept && !second.kept && lock_is_mine(&second));
	child = _Fork(); /* without the handlers, which take the real locks */
	if (child == 0) {
		alarm(20);
		in_the_child();
		_exit(0);
	}
	lock_fork_release(&second);
	lock_fork_release(&first);
	EXPECT(lock_is_mine(&first) && !first.kept && second.word == 0);
	lock_release(&first);
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_lock_knows_its_owner),
		child_test(one_at_a_time),
		child_test(those_who_wait_are_woken),
		child_test(a_lost_wake_is_made_good),
		child_test(free_locks_count_nothing),
		child_test(who_slept_is_counted),
		child_test(who_spun_is_counted),
		child_test(counts_reach_their_readers),
		child_test(ascending_order_is_fine),
#ifdef CEDE_DEBUG
		child_test(a_reversal_is_the_end),
#endif
		child_test(locks_cross_a_fork),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
