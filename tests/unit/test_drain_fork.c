/*
 * heap/cache: what the child of a fork does with the caches of the threads that stayed in
 * the parent, and with its own when it was being emptied.
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
#include "support/child.h"
#include "support/drain.h"
#include "support/process.h"
#include "support/scripted_os.h"

#define RUN 256 /* blocks that are nowhere while they go to the heap */

static void in_a_child(void (*run)(void))
{
	int status = -1;
	pid_t child = fork();

	EXPECT(child >= 0);
	if (child == 0) {
		alarm(20);
		script_reset();
		run();
		lock_acquire(&drain_arena->lock);
		audit_arena(drain_arena);
		lock_release(&drain_arena->lock);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void newcomer_is_served(void)
{
	struct thread *orphan = record;

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
	EXPECT(is_empty(record) && thread_bin(record, class_of_request(BYTES))->busy == 0 && record->cache_lock.word == 0);
	EXPECT(live_bytes() >= live + BLOCKS * (size_t)BYTES);
	newcomer_is_served();
}

static void the_idle_ones_are_emptied_in_the_child(void)
{
	drain_start();
	worker_does(fill);
	in_a_child(orphans_are_emptied);
	in_a_child(newcomer_is_served);
	worker_does(take_the_newest);
}

static void those_at_work_are_abandoned_in_the_child(void)
{
	drain_start();
	worker_does(fill);
	thread_bin(record, class_of_request(BYTES))->busy = 1;
	in_a_child(orphans_are_abandoned);
	in_a_child(newcomer_is_served);
	thread_bin(record, class_of_request(BYTES))->busy = 0;
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

	lock_acquire(&drain_arena->lock);
	EXPECT(pthread_create(&threads[0], NULL, drain_in_thread, NULL) == 0);
	sleeps_on(&drain_arena->lock);
	EXPECT(pthread_create(&threads[1], NULL, drain_in_thread, NULL) == 0);
	process_sleep_ms(50);
	lock_release(&drain_arena->lock);
	for (size_t i = 0; i < 2; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	(void)cache_drain_idle(true);
	EXPECT(is_empty(record) && live_bytes() == live);
}

static void an_orphan_is_emptied_by_one(void)
{
	drain_start();
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
	drain_start();
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
	drain_start();
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

static void all_are_orphans(void)
{
	EXPECT(thread_self == &thread_nobody && record->state == CACHE_SHUT);
	EXPECT(!cache_drain_idle(true) && record->state == CACHE_DRAINED && is_empty(record));
	EXPECT(live_bytes() == live);
}

static void *fork_in_thread(void *unused)
{
	in_a_child(all_are_orphans);
	return unused;
}

/* It never used the heap: the child is as whole as any. */
static void a_fork_by_a_thread_without_a_record(void)
{
	pthread_t thread;

	drain_start();
	worker_does(fill);
	at_barrier = hold_up;
	fill();
	worker_is_held_up(drain_all);
	EXPECT(pthread_create(&thread, NULL, fork_in_thread, NULL) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
	worker_goes_on();
}

static void forks_inside_a_pass(void)
{
	in_a_child(come_again);
}

/* The child's handler returns into the pass. */
static void a_fork_inside_a_pass_leaves_it_the_childs(void)
{
	drain_start();
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
	drain_start();
	script_discarding = hold_up_discard;
	fork_in_a_drain(is_empty_in_the_child);
}

/* What was on its way to the heap is lost to the child, and no more. */
static void lost_one_run(void)
{
	lock_release(&drain_arena->lock);
	EXPECT(is_whole(thread_self));
	fill();
	take_the_newest();
	EXPECT(live_bytes() <= live + RUN * request_to_size(class_sizes[class_of_request(BYTES)]));
}

static void a_fork_while_it_is_emptied_loses_little(void)
{
	drain_start();
	fill();
	lock_acquire(&drain_arena->lock);
	worker_begins(drain_all);
	sleeps_on(&drain_arena->lock);
	in_a_child(lost_one_run);
	lock_release(&drain_arena->lock);
	worker_ends();
	EXPECT(live_bytes() == live);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		child_test(the_idle_ones_are_emptied_in_the_child),
		child_test(those_at_work_are_abandoned_in_the_child),
		child_test(an_orphan_is_emptied_by_one),
		child_test(a_fork_when_it_is_shut_opens_it),
		child_test(a_fork_when_all_are_shut_loses_none),
		child_test(a_fork_by_a_thread_without_a_record),
		child_test(a_fork_inside_a_pass_leaves_it_the_childs),
		child_test(a_fork_when_it_was_emptied_opens_it),
		child_test(a_fork_while_it_is_emptied_loses_little),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("drain_fork", tests, NULL, NULL);
}
