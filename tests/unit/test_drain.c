/*
 * heap/cache: what other threads do to a cache whose owner sleeps, works, has died
 * or stayed in the parent of a fork.  The protocol itself is searched whole by
 * test_drain_model.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/process.h"
#include "support/scripted_os.h"

#define BLOCKS 150
#define BYTES  500
#define RUN    64 /* blocks that are nowhere while they go to the heap */

/* ---- the scripted barrier ---- */

static bool barrier_works = true;
static unsigned barriers; /* asked for; atomic */
/* Called at the next barrier, when the caches of this pass are shut. */
static void (*at_barrier)(void);

bool __real_os_barrier_everywhere(void);
bool __wrap_os_barrier_everywhere(void);

bool __wrap_os_barrier_everywhere(void)
{
	void (*hook)(void) = at_barrier;

	__atomic_add_fetch(&barriers, 1, __ATOMIC_RELAXED);
	at_barrier = NULL;
	if (hook != NULL)
		hook();
	return barrier_works && __real_os_barrier_everywhere();
}

/* ---- a thread that does as it is told ---- */

static pthread_t worker;
static pthread_barrier_t begun, ended;
static void (*task)(void);
static struct thread *record; /* the worker's */

static void *work(void *unused)
{
	record = registry_self();
	for (;;) {
		pthread_barrier_wait(&begun);
		if (task == NULL)
			return unused;
		task();
		pthread_barrier_wait(&ended);
	}
}

static void worker_begins(void (*what)(void))
{
	task = what;
	pthread_barrier_wait(&begun);
}

static void worker_ends(void)
{
	pthread_barrier_wait(&ended);
}

static void worker_does(void (*what)(void))
{
	worker_begins(what);
	worker_ends();
}

static void worker_starts(void)
{
	EXPECT(pthread_create(&worker, NULL, work, NULL) == 0);
}

static void worker_dies(void)
{
	worker_begins(NULL);
	EXPECT(pthread_join(worker, NULL) == 0);
}

static void sleeps_on(const struct lock *lock)
{
	while (!(__atomic_load_n(&lock->word, __ATOMIC_RELAXED) & LOCK_WAITERS))
		os_yield();
}

/* ---- what they do ---- */

static bool with_slabs; /* small blocks are of slabs, not chunks: by an argument */
static struct arena *a;
static size_t live; /* bytes, when nothing is cached */

static size_t live_bytes(void)
{
	struct cede_stats stats;

	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	return stats.live_bytes;
}

static void nothing(void)
{
}

static void start(void)
{
	a = script_heap_of_slabs(true);
	if (!with_slabs)
		script_fail_from(OS_MAP_AT, 1);
	settings.arena_max = 1;
	pthread_barrier_init(&begun, NULL, 2);
	pthread_barrier_init(&ended, NULL, 2);
	worker_starts();
	worker_does(nothing);
	live = live_bytes();
}

static unsigned class(void)
{
	return class_of_request(BYTES);
}

static unsigned char *newest;

/* Leaves BLOCKS blocks in the caller's cache. */
static void fill(void)
{
	unsigned char *blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = cede_malloc(BYTES);
		EXPECT(blocks[i] != NULL);
		memset(blocks[i], (int)i, BYTES);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		for (size_t k = 0; k < BYTES; k++)
			EXPECT(blocks[i][k] == i);
		cede_free(blocks[i]);
	}
	newest = blocks[BLOCKS - 1];
}

static void take_the_newest(void)
{
	EXPECT(cede_malloc(BYTES) == newest);
	cede_free(newest);
	EXPECT(cede_malloc(BYTES) == newest);
	cede_free(newest);
}

static void take_one(void)
{
	EXPECT(cede_malloc(BYTES) != NULL);
}

static void take_any(void)
{
	cede_free(cede_malloc(BYTES));
}

static void drain_all(void)
{
	(void)cache_drain_idle(true);
}

static bool is_empty(struct thread *t)
{
	size_t sum = t->reserved;

	for (unsigned c = 0; c < CLASSES; c++)
		sum += (size_t)t->capacity[c] + (thread_bin(t, c)->top != NULL);
	return sum == 0;
}

static bool is_whole(struct thread *t)
{
	size_t reserved = 0;

	for (unsigned c = 0; c < CLASSES; c++) {
		const struct cache_bin *bin = thread_bin(t, c);

		reserved += (size_t)t->capacity[c] * class_sizes[c];
		if (bin->limit - bin->base != t->mark[c] || t->mark[c] > t->capacity[c] ||
		    bin->top < bin->base || bin->top > bin->base + t->capacity[c])
			return false;
	}
	return reserved == t->reserved && t->cache_lock.word == 0 && t->busy == 0;
}

static void is_used_again(struct thread *t)
{
	worker_does(fill);
	EXPECT(t->state == CACHE_OPEN && is_whole(t));
	worker_does(take_the_newest);
	EXPECT(cede_malloc_trim(0) == 1);
	EXPECT(t->state == CACHE_DRAINED && is_empty(t) && live_bytes() == live);
	lock_acquire(&a->lock);
	audit_arena(a);
	lock_release(&a->lock);
}

/* ---- of a thread that sleeps ---- */

static void an_idle_cache_is_emptied_at_the_second_look(void)
{
	start();
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
	start();
	worker_does(fill);
	for (int i = 0; i < 10; i++) {
		EXPECT(cache_drain_idle(false) && record->state == CACHE_OPEN);
		worker_does(take_one);
	}
}

static void a_trim_does_not_wait_for_it(void)
{
	start();
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

	start();
	fill();
	EXPECT(cache_drain_idle(true) || thread_self->state == CACHE_DRAINED);
	EXPECT(barriers == 0);
	pthread_barrier_init(&crowd_filled, NULL, CROWD + 1);
	pthread_barrier_init(&crowd_leaves, NULL, CROWD + 1);
	for (uintptr_t i = 0; i < CROWD; i++)
		EXPECT(pthread_create(&threads[i], NULL, fill_and_sleep, (void *)i) == 0);
	pthread_barrier_wait(&crowd_filled);
	EXPECT(cache_drain_idle(false) && barriers == 0 && crowd_in(CACHE_OPEN) == CROWD);
	crowd[3]->busy = 1;
	EXPECT(cache_drain_idle(false) && barriers == 1);
	EXPECT(crowd_in(CACHE_DRAINED) == CROWD - 1);
	crowd[3]->busy = 0;
	EXPECT(crowd[3]->state == CACHE_OPEN && is_whole(crowd[3]));
	EXPECT(!cache_drain_idle(false) && barriers == 2 && crowd_in(CACHE_DRAINED) == CROWD);
	EXPECT(!cache_drain_idle(true) && barriers == 2 && live_bytes() == live);
	pthread_barrier_wait(&crowd_leaves);
	for (size_t i = 0; i < CROWD; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
}

/* ---- by two at once ---- */

static bool is_held_up, may_go_on; /* atomic */

static void hold_up(void)
{
	__atomic_store_n(&is_held_up, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&may_go_on, __ATOMIC_ACQUIRE))
		os_yield();
}

static void worker_is_held_up(void (*what)(void))
{
	worker_begins(what);
	while (!__atomic_load_n(&is_held_up, __ATOMIC_ACQUIRE))
		os_yield();
}

static void worker_goes_on(void)
{
	__atomic_store_n(&may_go_on, true, __ATOMIC_RELEASE);
	worker_ends();
}

/* It has no record, or it would take another's. */
static void *drain_in_thread(void *unused)
{
	lock_thread_begin();
	drain_all();
	return unused;
}

/*
 * What one shut the owner opens, and another shuts again: the first must not believe that
 * its own barrier came after that.  So a tick lets the other do it, and a trim waits.
 */
static void there_is_one_at_a_time(void)
{
	pthread_t other;

	start();
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

static void come_again(void)
{
	size_t bytes, threads;

	/* What is shut is cached still. */
	cache_held(&bytes, &threads);
	EXPECT(bytes >= BLOCKS * (size_t)BYTES && threads == 1);
	for (int now = 0; now < 2; now++)
		EXPECT(cache_drain_idle(now == 1) && record->state == CACHE_SHUT && barriers == 1);
}

/* As a signal handler does, whose thread was just emptying caches. */
static void a_pass_inside_a_pass_does_nothing(void)
{
	start();
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
	start();
	worker_does(fill);
	record->busy = 1;
	stays_as_it_is();
	record->busy = 0;
	worker_does(take_the_newest);
	is_used_again(record);
}

static void without_a_barrier_it_stays_as_it_is(void)
{
	start();
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
	start();
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
	start();
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

	start();
	worker_does(fill);
	record->busy = 1;
	while (cache_drain_idle(false) && looks < 1000)
		looks++;
	EXPECT(looks > 10 && looks < 100);
	record->busy = 0;
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
	start();
	worker_does(fill);
	script_discarding = worker_comes_too_late;
	(void)cache_drain_idle(true);
	worker_ends();
	/* By now the purger may have been told, and have emptied it once more. */
	EXPECT(is_whole(record));
	is_used_again(record);
}

/* ---- of a thread that died ---- */

static void takes_over(void)
{
	EXPECT(thread_self == record && record->busy == 0);
	EXPECT(record->state != CACHE_DRAINED || is_empty(record));
	EXPECT(record->state != CACHE_OPEN || is_whole(record));
}

static void a_newcomer_inherits_the_cache(void)
{
	struct thread *dead;

	start();
	for (int busy = 0; busy < 2; busy++) {
		worker_does(fill);
		dead = record;
		dead->busy = (uint32_t)busy;
		worker_dies();
		worker_starts();
		worker_does(takes_over);
		EXPECT(record == dead && record->state == CACHE_OPEN && !is_empty(record));
		is_used_again(record);
	}
}

static void a_dead_threads_cache_is_idle(void)
{
	start();
	worker_does(fill);
	worker_dies();
	(void)cache_drain_idle(false);
	EXPECT(!cache_drain_idle(false) && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(live_bytes() == live);
}

/* ---- fork ---- */

static void in_a_child(void (*run)(void))
{
	int status = -1;
	pid_t child = fork();

	EXPECT(child >= 0);
	if (child == 0) {
		alarm(20);
		script_reset();
		run();
		lock_acquire(&a->lock);
		audit_arena(a);
		lock_release(&a->lock);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void newcomer_is_served(void)
{
	struct thread *orphan = record;

	pthread_barrier_init(&begun, NULL, 2);
	pthread_barrier_init(&ended, NULL, 2);
	worker_starts();
	worker_does(takes_over);
	EXPECT(record == orphan);
	worker_does(fill);
	worker_does(take_the_newest);
	EXPECT(is_whole(record));
}

static void orphans_are_emptied(void)
{
	EXPECT(!cache_drain_idle(true) && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(live_bytes() == live);
	newcomer_is_served();
}

static void orphans_are_abandoned(void)
{
	(void)cache_drain_idle(true);
	EXPECT(is_empty(record) && record->busy == 0 && record->cache_lock.word == 0);
	EXPECT(live_bytes() >= live + BLOCKS * (size_t)BYTES);
	newcomer_is_served();
}

static void the_idle_ones_are_emptied_in_the_child(void)
{
	start();
	worker_does(fill);
	in_a_child(orphans_are_emptied);
	in_a_child(newcomer_is_served);
	worker_does(take_the_newest);
}

static void those_at_work_are_abandoned_in_the_child(void)
{
	start();
	worker_does(fill);
	record->busy = 1;
	in_a_child(orphans_are_abandoned);
	in_a_child(newcomer_is_served);
	record->busy = 0;
	record->cache_lock.word = os_thread_id() + 1;
	in_a_child(orphans_are_abandoned);
	in_a_child(newcomer_is_served);
	record->cache_lock.word = 0;
	is_used_again(record);
}

/*
 * Whoever empties an orphan has its lock: that does not make the orphan one that
 * was at work.  The arena's lock holds the first up in the middle.
 */
static void two_empty_an_orphan(void)
{
	pthread_t threads[2];

	lock_acquire(&a->lock);
	EXPECT(pthread_create(&threads[0], NULL, drain_in_thread, NULL) == 0);
	sleeps_on(&a->lock);
	EXPECT(pthread_create(&threads[1], NULL, drain_in_thread, NULL) == 0);
	process_sleep_ms(50);
	lock_release(&a->lock);
	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	(void)cache_drain_idle(true);
	EXPECT(is_empty(record) && live_bytes() == live);
}

static void an_orphan_is_emptied_by_one(void)
{
	start();
	worker_does(fill);
	in_a_child(two_empty_an_orphan);
}

static void hold_up_discard(const struct os_range *ranges, unsigned count)
{
	(void)count;
	if (ranges->start == thread_self->slots)
		return;
	script_discarding = NULL;
	hold_up();
}

/* The worker empties this thread's cache; the child is made in the middle. */
static void fork_in_a_drain(void (*run)(void))
{
	fill();
	worker_is_held_up(drain_all);
	in_a_child(run);
	worker_goes_on();
	EXPECT(thread_self->state == CACHE_DRAINED && is_empty(thread_self));
	fill();
	take_the_newest();
}

static void is_open_in_the_child(void)
{
	EXPECT(is_whole(thread_self));
	take_the_newest();
	EXPECT(live_bytes() == live);
}

static void a_fork_when_it_is_shut_opens_it(void)
{
	start();
	at_barrier = hold_up;
	fork_in_a_drain(is_open_in_the_child);
}

/* The worker's own is shut as well. */
static void orphan_is_emptied_in_the_child(void)
{
	EXPECT(thread_self->state == CACHE_OPEN && record->state == CACHE_SHUT && !is_empty(record));
	orphans_are_emptied();
}

static void orphan_is_inherited_in_the_child(void)
{
	EXPECT(record->state == CACHE_SHUT && !is_empty(record));
	newcomer_is_served();
	EXPECT(record->state == CACHE_OPEN && live_bytes() == live);
}

static void a_fork_when_all_are_shut_loses_none(void)
{
	start();
	worker_does(fill);
	at_barrier = hold_up;
	fill();
	worker_is_held_up(drain_all);
	in_a_child(is_open_in_the_child);
	in_a_child(orphan_is_emptied_in_the_child);
	in_a_child(orphan_is_inherited_in_the_child);
	worker_goes_on();
	EXPECT(record->state == CACHE_DRAINED && thread_self->state == CACHE_DRAINED);
}

static void forks_inside_a_pass(void)
{
	in_a_child(come_again);
}

/* The child's handler returns into the pass. */
static void a_fork_inside_a_pass_leaves_it_the_childs(void)
{
	start();
	worker_does(fill);
	at_barrier = forks_inside_a_pass;
	EXPECT(!cache_drain_idle(true) && record->state == CACHE_DRAINED);
	is_used_again(record);
}

static void is_empty_in_the_child(void)
{
	EXPECT(is_whole(thread_self) && is_empty(thread_self));
	EXPECT(__atomic_load_n(&cache_free_bytes, __ATOMIC_SEQ_CST) == 0);
	fill();
	is_open_in_the_child();
}

static void a_fork_when_it_was_emptied_opens_it(void)
{
	start();
	script_discarding = hold_up_discard;
	fork_in_a_drain(is_empty_in_the_child);
}

/* What was on its way to the heap is lost to the child, and no more. */
static void lost_one_run(void)
{
	lock_release(&a->lock);
	EXPECT(is_whole(thread_self));
	fill();
	take_the_newest();
	EXPECT(live_bytes() <= live + RUN * request_to_size(class_sizes[class()]));
}

static void a_fork_while_it_is_emptied_loses_little(void)
{
	start();
	fill();
	lock_acquire(&a->lock);
	worker_begins(drain_all);
	sleeps_on(&a->lock);
	in_a_child(lost_one_run);
	lock_release(&a->lock);
	worker_ends();
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
		child_test(the_idle_ones_are_emptied_in_the_child),
		child_test(those_at_work_are_abandoned_in_the_child),
		child_test(an_orphan_is_emptied_by_one),
		child_test(a_fork_when_it_is_shut_opens_it),
		child_test(a_fork_when_all_are_shut_loses_none),
		child_test(a_fork_inside_a_pass_leaves_it_the_childs),
		child_test(a_fork_when_it_was_emptied_opens_it),
		child_test(a_fork_while_it_is_emptied_loses_little),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
