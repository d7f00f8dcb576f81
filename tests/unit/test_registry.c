/*
 * heap/registry and heap/arena: records and arenas of threads that come and go in
 * whatever way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define THREADS 12

/* A thread sanitizer starts no threads in the child of a threaded fork. */
#ifdef __SANITIZE_THREAD__
#define CHILD_HAS_THREADS false
#else
#define CHILD_HAS_THREADS true
#endif

static size_t attached(void)
{
	size_t count = 0;

	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		count += a->threads;
	return count;
}

static void audit_all(void)
{
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		lock_acquire(&a->lock);
		audit_arena(a);
		lock_release(&a->lock);
	}
}

/* The records that threads were seen with; by one thread at a time. */
static struct thread *seen[4 * THREADS];
static size_t seen_count;

static void see(struct thread *record)
{
	for (size_t i = 0; i < seen_count; i++) {
		if (seen[i] == record)
			return;
	}
	EXPECT(seen_count < sizeof(seen) / sizeof(seen[0]));
	seen[seen_count++] = record;
}

static void use_the_heap(void)
{
	void *block = cede_malloc(1000);

	EXPECT(block != NULL);
	cede_free(memset(block, 1, 1000));
}

/* ---- threads one after the other ---- */

static void *return_from_it(void *unused)
{
	use_the_heap();
	see(thread_self);
	return unused;
}

static void *exit_from_it(void *unused)
{
	use_the_heap();
	see(thread_self);
	pthread_exit(unused);
}

/* No destructor of anybody runs, which a sanitizer does not survive. */
static void *leave_raw(void *unused)
{
	use_the_heap();
	see(thread_self);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	syscall(SYS_exit, 0);
#endif
	return unused;
}

static void run_thread(void *(*function)(void *))
{
	pthread_t thread;

	EXPECT(pthread_create(&thread, NULL, function, NULL) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
}

static void records_and_arenas_are_used_again(void)
{
	void *(*const ways[])(void *) = { return_from_it, exit_from_it, leave_raw };

	(void)script_heap(POLICY_DEFAULT);
	EXPECT(attached() == 1);
	for (int i = 0; i < 300; i++)
		run_thread(ways[i % 3]);
	/* One record and one arena served them all; the last is found dead later. */
	EXPECT(seen_count == 1 && seen[0] != thread_self);
	EXPECT(arena_count() == 2 && attached() == 2);
	audit_all();
}

static void *enter_by_itself(void *unused)
{
	EXPECT(thread_self == &thread_nobody);
	errno = 77;
	EXPECT(registry_self() != NULL && errno == 77);
	EXPECT(registry_self() == thread_self && lock_self == os_thread_id());
	return unused;
}

static void entering_leaves_errno_alone(void)
{
	(void)script_heap(POLICY_DEFAULT);
	run_thread(enter_by_itself);
	script_fail_from(OS_MAP, 1);
	run_thread(enter_by_itself);
}

/* ---- threads together ---- */

static pthread_barrier_t inside, leave;
static struct arena *arenas_of[THREADS];
static struct thread *records_of[THREADS];

static void *stay(void *index)
{
	size_t i = (size_t)(uintptr_t)index;

	use_the_heap();
	records_of[i] = thread_self;
	arenas_of[i] = thread_self->arena;
	pthread_barrier_wait(&inside);
	pthread_barrier_wait(&leave);
	use_the_heap();
	return NULL;
}

static pthread_t threads[THREADS];

static void enter_together(size_t count)
{
	pthread_barrier_init(&inside, NULL, (unsigned)count + 1);
	pthread_barrier_init(&leave, NULL, (unsigned)count + 1);
	for (size_t i = 0; i < count; i++)
		EXPECT(pthread_create(&threads[i], NULL, stay, (void *)(uintptr_t)i) == 0);
	pthread_barrier_wait(&inside);
	for (size_t i = 0; i < count; i++)
		see(records_of[i]);
}

static void leave_together(size_t count)
{
	pthread_barrier_wait(&leave);
	for (size_t i = 0; i < count; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
}

static size_t distinct_arenas(size_t count)
{
	size_t distinct = 0;

	for (size_t i = 0; i < count; i++) {
		size_t before = 0;

		while (before < i && arenas_of[before] != arenas_of[i])
			before++;
		distinct += before == i;
	}
	return distinct;
}

/* Living threads share no record, and no arena while the limit allows. */
static void each_living_thread_has_its_own(void)
{
	(void)script_heap(POLICY_DEFAULT);
	settings.arena_max = THREADS + 1;
	for (int round = 0; round < 5; round++) {
		enter_together(THREADS);
		for (size_t i = 0; i < THREADS; i++) {
			for (size_t k = 0; k < i; k++)
				EXPECT(records_of[i] != records_of[k]);
			EXPECT(arenas_of[i]->threads == 1 && arenas_of[i] != &main_arena);
		}
		EXPECT(distinct_arenas(THREADS) == THREADS);
		EXPECT(attached() == THREADS + 1);
		leave_together(THREADS);
	}
	EXPECT(seen_count <= 2 * THREADS);
	EXPECT(arena_count() == THREADS + 1);
	audit_all();
}

static void the_limit_holds(void)
{
	static const size_t limits[] = { 1, 2, 5 };

	for (size_t i = 0; i < 3; i++) {
		(void)script_heap(POLICY_CLASSIC);
		settings.arena_max = limits[i];
		enter_together(THREADS);
		EXPECT(arena_count() == limits[i]);
		EXPECT(attached() == THREADS + 1);
		leave_together(THREADS);
		audit_all();
	}
}

/* Beyond M_ARENA_TEST arenas, eight for each processor. */
static void the_computed_limit_holds(void)
{
	size_t limit = (size_t)os_cpu_affinity() * 8;

	(void)script_heap(POLICY_CLASSIC);
	settings.arena_test = 1;
	for (size_t i = 0; i < limit + 20; i++)
		(void)arena_attach();
	EXPECT(arena_count() == limit);
}

/* ---- the default policy's arenas ---- */

/* How unequally threads are spread over the arenas. */
static size_t imbalance(void)
{
	size_t least = SIZE_MAX, most = 0;

	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		least = size_min(least, a->threads);
		most = size_max(most, a->threads);
	}
	return most - least;
}

static void there_are_two_for_each_processor(void)
{
	for (unsigned cpus = 1; cpus <= 5; cpus++) {
		(void)script_heap(POLICY_DEFAULT);
		script_cpus(cpus);
		for (int round = 0; round < 3; round++) {
			enter_together(THREADS);
			EXPECT(arena_count() == 2 * cpus && attached() == THREADS + 1);
			EXPECT(imbalance() <= 1);
			leave_together(THREADS);
		}
		audit_all();
	}
}

/* However many there are: they would have as many arenas. */
static void two_threads_count_no_processors(void)
{
	(void)script_heap(POLICY_DEFAULT);
	script_cpus(1);
	(void)arena_attach();
	EXPECT(arena_count() == 2 && script_calls(OS_CPUS) == 0);
	(void)arena_attach();
	EXPECT(arena_count() == 2 && script_calls(OS_CPUS) == 1);
}

static void processors_may_appear_later(void)
{
	(void)script_heap(POLICY_DEFAULT);
	script_cpus(1);
	for (int i = 0; i < 5; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 2);
	script_cpus(2);
	for (int i = 0; i < 5; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 4 && imbalance() == 1); /* 3 each, but for the new ones */
	script_cpus(1);
	(void)arena_attach();
	EXPECT(arena_count() == 4 && attached() == 12);
}

static void the_fewest_threads_are_joined(void)
{
	struct arena *emptier;

	(void)script_heap(POLICY_DEFAULT);
	script_cpus(2);
	for (int i = 1; i < 12; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 4 && imbalance() == 0);
	emptier = arena_following(arena_following(&main_arena));
	arena_detach(emptier);
	arena_detach(emptier);
	EXPECT(arena_attach() == emptier && arena_attach() == emptier);
	EXPECT(imbalance() == 0);
}

/* With as many threads in each, they take turns. */
static void equal_ones_take_turns(void)
{
	struct arena *last = NULL;

	(void)script_heap(POLICY_DEFAULT);
	script_cpus(2);
	for (int i = 1; i < 8; i++)
		(void)arena_attach();
	for (int i = 0; i < 9; i++) {
		struct arena *a = arena_attach();

		EXPECT(a != last);
		arena_detach(a);
		last = a;
	}
}

/* A dead thread's successor stays where its blocks belong, while that is as good. */
static void a_successor_has_the_same_one(void)
{
	struct arena *dead, *other;

	(void)script_heap(POLICY_DEFAULT);
	script_cpus(2);
	for (int i = 1; i < 12; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 4 && imbalance() == 0);
	dead = arena_following(&main_arena);
	other = arena_following(dead);
	arena_detach(other);
	for (int i = 0; i < 8; i++)
		EXPECT(arena_inherit(dead) == dead && imbalance() == 1);
	/* There it would be one of three, here one of two. */
	arena_detach(other);
	EXPECT(arena_inherit(dead) == other && attached() == 10 && imbalance() == 1);
	/* Nobody's is better than one that it shares, and not than one it has alone. */
	while (other->threads > 0)
		arena_detach(other);
	while (dead->threads > 2)
		arena_detach(dead);
	EXPECT(arena_inherit(dead) == other && other->threads == 1 && dead->threads == 1);
	arena_detach(other);
	EXPECT(arena_inherit(dead) == dead && other->threads == 0);
}

/* So does one that comes when all are dead, each time. */
static void successors_have_the_same_one(void)
{
	struct arena *first;

	(void)script_heap(POLICY_DEFAULT);
	script_cpus(2);
	enter_together(THREADS);
	leave_together(THREADS);
	enter_together(1);
	first = arenas_of[0];
	leave_together(1);
	for (int i = 0; i < 8; i++) {
		enter_together(1);
		EXPECT(arenas_of[0] == first);
		leave_together(1);
	}
}

/* Few records serve few threads, however many there were. */
static void the_newest_record_is_taken_first(void)
{
	(void)script_heap(POLICY_DEFAULT);
	enter_together(THREADS);
	leave_together(THREADS);
	seen_count = 0;
	for (int i = 0; i < 100; i++)
		run_thread(return_from_it);
	EXPECT(seen_count == 1);
}

static sem_t entered, may_end[5 * THREADS];

static void *stay_until(void *semaphore)
{
	use_the_heap();
	sem_post(&entered);
	sem_wait(semaphore);
	return NULL;
}

static pthread_t start_staying(size_t i)
{
	pthread_t thread;

	sem_init(&may_end[i], 0, 0);
	EXPECT(pthread_create(&thread, NULL, stay_until, &may_end[i]) == 0);
	sem_wait(&entered);
	return thread;
}

/* Nor is one lost that lies behind many of the living. */
static void the_oldest_are_found_too(void)
{
	pthread_t old[THREADS];
	size_t before;

	(void)script_heap(POLICY_DEFAULT);
	sem_init(&entered, 0, 0);
	for (size_t i = 0; i < 4 * THREADS; i++) {
		pthread_t thread = start_staying(i);

		if (i < THREADS)
			old[i] = thread;
	}
	before = registry_count();
	for (size_t i = 0; i < THREADS; i++) {
		sem_post(&may_end[i]);
		EXPECT(pthread_join(old[i], NULL) == 0);
	}
	for (size_t i = 4 * THREADS; i < 5 * THREADS; i++)
		(void)start_staying(i);
	EXPECT(registry_count() <= before + 4);
}

static void what_is_set_limits_them(void)
{
	(void)script_heap(POLICY_DEFAULT);
	script_cpus(8);
	settings.arena_max = 2;
	for (int i = 0; i < 12; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 2 && script_calls(OS_CPUS) == 0);
	settings.arena_max = 0;
	settings.arena_test = 5;
	script_cpus(1);
	for (int i = 0; i < 12; i++)
		(void)arena_attach();
	EXPECT(arena_count() == 5);
}

/* ---- ptmalloc's order ---- */

static void detached_arenas_come_first(void)
{
	struct arena *first, *second;

	(void)script_heap(POLICY_CLASSIC);
	first = arena_attach();
	second = arena_attach();
	EXPECT(first != second && first != &main_arena && second != &main_arena);
	arena_detach(first);
	EXPECT(arena_attach() == first && arena_count() == 3);
	arena_detach(second);
	arena_detach(first);
	EXPECT(first->threads == 0 && second->threads == 0);
	EXPECT(arena_attach() == first && arena_attach() == second);
	EXPECT(arena_count() == 3);
}

static void another_arena_is_another(void)
{
	struct arena *other;

	(void)script_heap(POLICY_CLASSIC);
	other = arena_other(&main_arena);
	EXPECT(other != &main_arena);
	EXPECT(arena_other(other) == &main_arena);
	for (int i = 0; i < 10; i++)
		EXPECT(arena_other(&main_arena) != &main_arena);
	EXPECT(arena_count() == 2);
}

/* ---- without memory ---- */

static void threads_share_what_there_is(void)
{
	(void)script_heap(POLICY_DEFAULT);
	settings.arena_max = THREADS;
	script_fail_from(OS_MAP, 1);
	enter_together(4);
	for (size_t i = 0; i < 4; i++) {
		EXPECT(records_of[i] == records_of[0] && records_of[i] != thread_self);
		EXPECT(arenas_of[i] == &main_arena);
	}
	EXPECT(seen_count == 1 && arena_count() == 1);
	leave_together(4);
	/* There is memory again: newcomers have their own. */
	script_reset();
	enter_together(4);
	EXPECT(seen_count == 1 + 4 && distinct_arenas(4) == 4);
	leave_together(4);
	audit_all();
}

static void an_arena_that_cannot_be_made_is_shared(void)
{
	(void)script_heap(POLICY_DEFAULT);
	settings.arena_max = THREADS;
	script_fail_from(OS_PROTECT, 1);
	enter_together(3);
	EXPECT(arena_count() == 1 && main_arena.threads == 4);
	EXPECT(seen_count == 3);
	leave_together(3);
	script_reset();
	enter_together(3);
	EXPECT(distinct_arenas(3) == 3);
	leave_together(3);
	audit_all();
}

/* ---- fork ---- */

/* The threads stayed in the parent: their records and arenas are free here. */
static void in_the_child(size_t arenas)
{
	EXPECT(attached() == 1 && thread_self->arena->threads == 1);
	for (int i = 0; CHILD_HAS_THREADS && i < 20; i++)
		run_thread(return_from_it);
	/* No new record and no new arena was needed. */
	EXPECT(seen_count == THREADS && arena_count() == arenas);
	EXPECT(attached() <= THREADS + 1);
	audit_all();
}

static void a_forked_child_takes_them_over(void)
{
	int status = -1;
	pid_t child;

	(void)script_heap(POLICY_DEFAULT);
	settings.arena_max = THREADS + 1;
	enter_together(THREADS);
	child = fork();
	if (child == 0) {
		alarm(20);
		in_the_child(arena_count());
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(attached() == THREADS + 1);
	leave_together(THREADS);
	audit_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(records_and_arenas_are_used_again),
		child_test(entering_leaves_errno_alone),
		child_test(each_living_thread_has_its_own),
		child_test(the_limit_holds),
		child_test(the_computed_limit_holds),
		child_test(there_are_two_for_each_processor),
		child_test(two_threads_count_no_processors),
		child_test(processors_may_appear_later),
		child_test(the_fewest_threads_are_joined),
		child_test(equal_ones_take_turns),
		child_test(a_successor_has_the_same_one),
		child_test(successors_have_the_same_one),
		child_test(the_newest_record_is_taken_first),
		child_test(the_oldest_are_found_too),
		child_test(what_is_set_limits_them),
		child_test(detached_arenas_come_first),
		child_test(another_arena_is_another),
		child_test(threads_share_what_there_is),
		child_test(an_arena_that_cannot_be_made_is_shared),
		child_test(a_forked_child_takes_them_over),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
