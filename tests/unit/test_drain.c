/*
 * heap/cache: what other threads do to a cache whose owner sleeps, works or has died; in
 * the child of a fork: test_drain_fork.c.  The protocol itself is searched whole by
 * test_drain_model.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <pthread.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/drain.h"
#include "support/process.h"
#include "support/scripted_os.h"

/* ---- of a thread that sleeps ---- */

static void an_idle_cache_is_emptied_at_the_second_look(void)
{
	drain_start();
	worker_does(fill);
	EXPECT(cache_drain_idle(false) && record->state == CACHE_OPEN);
	EXPECT(script_discarded == 0);
	EXPECT(!cache_drain_idle(false) && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(script_discarded != 0 && live_bytes() == live);
	EXPECT(__atomic_load_n(&cache_free_bytes, __ATOMIC_SEQ_CST) == 0);
	is_used_again(record);
}

static void each_operation_puts_it_off(void)
{
	drain_start();
	worker_does(fill);
	for (int i = 0; i < 10; i++) {
		EXPECT(cache_drain_idle(false) && record->state == CACHE_OPEN);
		worker_does(take_one);
	}
}

static void a_trim_does_not_wait_for_it(void)
{
	drain_start();
	worker_does(fill);
	EXPECT(cede_malloc_trim(0) == 1 && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(cede_malloc_trim(0) == 0);
	is_used_again(record);
}

/* ---- of many ---- */

#define CROWD 8

static struct thread *crowd[CROWD];
static pthread_barrier_t crowd_filled, crowd_leaves;

static void *fill_and_sleep(void *number)
{
	crowd[(uintptr_t)number] = registry_self();
	fill();
	pthread_barrier_wait(&crowd_filled);
	pthread_barrier_wait(&crowd_leaves);
	return NULL;
}

static unsigned crowd_in(enum cache_state state)
{
	unsigned count = 0;

	for (size_t i = 0; i < CROWD; i++)
		count += crowd[i]->state == state;
	return count;
}

/* A barrier costs as much as emptying a cache. */
static void one_barrier_is_for_all(void)
{
	pthread_t threads[CROWD];

	drain_start();
	fill();
	EXPECT(cache_drain_idle(true) || thread_self->state == CACHE_DRAINED);
	EXPECT(barriers == 0);
	pthread_barrier_init(&crowd_filled, NULL, CROWD + 1);
	pthread_barrier_init(&crowd_leaves, NULL, CROWD + 1);
	for (uintptr_t i = 0; i < CROWD; i++)
		EXPECT(pthread_create(&threads[i], NULL, fill_and_sleep, (void *)i) == 0);
	pthread_barrier_wait(&crowd_filled);
	EXPECT(cache_drain_idle(false) && barriers == 0 && crowd_in(CACHE_OPEN) == CROWD);
	thread_bin(crowd[3], class_of_request(BYTES))->busy = 1;
	EXPECT(cache_drain_idle(false) && barriers == 1);
	EXPECT(crowd_in(CACHE_DRAINED) == CROWD - 1);
	thread_bin(crowd[3], class_of_request(BYTES))->busy = 0;
	EXPECT(crowd[3]->state == CACHE_OPEN && is_whole(crowd[3]));
	EXPECT(!cache_drain_idle(false) && barriers == 2 && crowd_in(CACHE_DRAINED) == CROWD);
	EXPECT(!cache_drain_idle(true) && barriers == 2 && live_bytes() == live);
	pthread_barrier_wait(&crowd_leaves);
	for (size_t i = 0; i < CROWD; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
}

/* ---- by two at once ---- */

/*
 * What one shut the owner opens, and another shuts again: the first must not believe that
 * its own barrier came after that.  So a tick lets the other do it, and a trim waits.
 */
static void there_is_one_at_a_time(void)
{
	pthread_t other;

	drain_start();
	fill();
	at_barrier = hold_up;
	worker_is_held_up(drain_all);
	EXPECT(thread_self->state == CACHE_SHUT);
	take_the_newest();
	EXPECT(thread_self->state == CACHE_OPEN && is_whole(thread_self));
	EXPECT(cache_drain_idle(false) && thread_self->state == CACHE_OPEN && barriers == 1);
	EXPECT(pthread_create(&other, NULL, drain_in_thread, NULL) == 0);
	process_sleep_ms(50);
	EXPECT(thread_self->state == CACHE_OPEN && __atomic_load_n(&barriers, __ATOMIC_RELAXED) == 1);
	worker_goes_on();
	EXPECT(pthread_join(other, NULL) == 0);
	EXPECT(barriers == 2 && thread_self->state == CACHE_DRAINED && is_empty(thread_self));
	fill();
	take_the_newest();
	EXPECT(live_bytes() == live);
}

/* As a signal handler does, whose thread was just emptying caches. */
static void a_pass_inside_a_pass_does_nothing(void)
{
	drain_start();
	worker_does(fill);
	at_barrier = come_again;
	EXPECT(!cache_drain_idle(true) && barriers == 1);
	EXPECT(record->state == CACHE_DRAINED && is_empty(record));
	is_used_again(record);
}

/* ---- of one at work ---- */

/* Neither lost nor moved, however often somebody looks. */
static void stays_as_it_is(void)
{
	struct cache_bin bins[CLASSES + 1];
	uint16_t capacity[CLASSES];

	memcpy(bins, record->bins, sizeof(bins));
	memcpy(capacity, record->capacity, sizeof(capacity));
	for (int i = 0; i < 3; i++)
		EXPECT(cache_drain_idle(i != 1));
	EXPECT(record->state == CACHE_OPEN && record->cache_lock.word == 0 && script_discarded == 0);
	EXPECT(memcmp(bins, record->bins, sizeof(bins)) == 0);
	EXPECT(memcmp(capacity, record->capacity, sizeof(capacity)) == 0);
}

static void at_work_it_stays_as_it_is(void)
{
	drain_start();
	worker_does(fill);
	thread_bin(record, class_of_request(BYTES))->busy = 1;
	stays_as_it_is();
	thread_bin(record, class_of_request(BYTES))->busy = 0;
	worker_does(take_the_newest);
	is_used_again(record);
}

static void without_a_barrier_it_stays_as_it_is(void)
{
	drain_start();
	worker_does(fill);
	barrier_works = false;
	stays_as_it_is();
	worker_does(take_the_newest);
	/* What is one's own needs none. */
	fill();
	EXPECT(cache_drain_idle(true) && thread_self->state == CACHE_DRAINED && is_empty(thread_self));
	barrier_works = true;
	is_used_again(record);
}

static void worker_comes_in_between(void)
{
	EXPECT(record->state == CACHE_SHUT);
	worker_does(take_the_newest);
	EXPECT(record->state == CACHE_OPEN && is_whole(record));
}

/* It finds its bins shut, opens them, and waits for nobody. */
static void an_operation_comes_first(void)
{
	drain_start();
	worker_does(fill);
	at_barrier = worker_comes_in_between;
	EXPECT(cache_drain_idle(true) && at_barrier == NULL);
	EXPECT(record->state == CACHE_OPEN && is_whole(record) && script_discarded == 0);
	worker_does(take_the_newest);
	is_used_again(record);
}

static void worker_is_on_its_way(void)
{
	record->cache_lock.word = os_thread_id() + 1;
}

/* Shut and full, it is nobody's but the next pass's. */
static void what_stays_shut_is_emptied_later(void)
{
	drain_start();
	for (int now = 0; now < 2; now++) {
		worker_does(fill);
		(void)cache_drain_idle(false);
		at_barrier = worker_is_on_its_way;
		EXPECT(cache_drain_idle(false) && record->state == CACHE_SHUT && !is_empty(record));
		record->cache_lock.word = 0;
		EXPECT(!cache_drain_idle(now == 1) && record->state == CACHE_DRAINED && is_empty(record));
		EXPECT(live_bytes() == live);
	}
	worker_does(fill);
	at_barrier = worker_is_on_its_way;
	EXPECT(cache_drain_idle(true) && record->state == CACHE_SHUT);
	record->cache_lock.word = 0;
	worker_does(take_the_newest);
	is_used_again(record);
}

/* Not for ever: a thread was killed inside an operation, perhaps. */
static void what_is_never_to_be_had_is_ignored(void)
{
	int looks = 1;

	drain_start();
	worker_does(fill);
	thread_bin(record, class_of_request(BYTES))->busy = 1;
	while (cache_drain_idle(false) && looks < 1000)
		looks++;
	EXPECT(looks > 10 && looks < 100);
	thread_bin(record, class_of_request(BYTES))->busy = 0;
	worker_does(fill);
	is_used_again(record);
}

static void worker_comes_too_late(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	script_discarding = NULL;
	worker_begins(take_any);
	sleeps_on(&record->cache_lock);
}

static void an_operation_comes_too_late(void)
{
	drain_start();
	worker_does(fill);
	script_discarding = worker_comes_too_late;
	(void)cache_drain_idle(true);
	worker_ends();
	/* By now the purger may have been told, and have emptied it once more. */
	EXPECT(is_whole(record));
	is_used_again(record);
}

/* ---- of a thread that died ---- */

static void a_newcomer_inherits_the_cache(void)
{
	struct thread *dead;

	drain_start();
	for (int busy = 0; busy < 2; busy++) {
		worker_does(fill);
		dead = record;
		thread_bin(dead, class_of_request(BYTES))->busy = (uint32_t)busy;
		worker_dies();
		worker_starts();
		worker_does(takes_over);
		EXPECT(record == dead && record->state == CACHE_OPEN && !is_empty(record));
		is_used_again(record);
	}
}

static void a_dead_threads_cache_is_idle(void)
{
	drain_start();
	worker_does(fill);
	worker_dies();
	(void)cache_drain_idle(false);
	EXPECT(!cache_drain_idle(false) && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(live_bytes() == live);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		child_test(an_idle_cache_is_emptied_at_the_second_look),
		child_test(each_operation_puts_it_off),
		child_test(a_trim_does_not_wait_for_it),
		child_test(one_barrier_is_for_all),
		child_test(there_is_one_at_a_time),
		child_test(a_pass_inside_a_pass_does_nothing),
		child_test(at_work_it_stays_as_it_is),
		child_test(without_a_barrier_it_stays_as_it_is),
		child_test(an_operation_comes_first),
		child_test(what_stays_shut_is_emptied_later),
		child_test(what_is_never_to_be_had_is_ignored),
		child_test(an_operation_comes_too_late),
		child_test(a_newcomer_inherits_the_cache),
		child_test(a_dead_threads_cache_is_idle),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
