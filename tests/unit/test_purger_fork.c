/*
 * heap/purger: what a fork leaves of its thread, and of what that was doing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heap/audit.h"
#include "support/purging.h"

static void in_the_child(void)
{
	EXPECT(purger_now() == PURGER_NONE);
	EXPECT(process_threads(NULL, 0) == 1);
	use_and_free(16 * MIB);
	EXPECT(purger_now() == PURGER_AWAKE && process_threads(NULL, 0) == 2);
	EXPECT(all_gone());
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	audit_arena(a);
}

/* The thread stays in the parent; the child makes its own when it needs one. */
static void a_forked_child_makes_its_own(void)
{
	for (int asleep = 0; asleep < 2; asleep++) {
		int status;
		pid_t child;

		a = script_heap(POLICY_DEFAULT);
		use_and_free(16 * MIB);
		if (asleep)
			EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
		child = fork();
		if (child == 0) {
			alarm(20);
			in_the_child();
			_exit(0);
		}
		EXPECT(waitpid(child, &status, 0) == child && status == 0);
		EXPECT(all_gone());
		EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	}
}

/* Absence is inherited: what forbade the thread forbids it in the child. */
static void a_child_of_the_absent_has_none_either(void)
{
	int status;
	pid_t child;

	a = script_heap(POLICY_DEFAULT);
	script_fail_from(OS_THREAD, 1);
	use_and_free(4 * MIB);
	child = fork();
	if (child == 0) {
		use_and_free(4 * MIB);
		EXPECT(purger_now() == PURGER_ABSENT && script_calls(OS_THREAD) == 1);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- a fork in a signal handler that interrupted an operation ---- */

static bool in_discard, holder_is_in; /* atomic */

static void wait_for_the_holder(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	__atomic_store_n(&in_discard, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&holder_is_in, __ATOMIC_ACQUIRE))
		os_yield();
}

/*
 * The purger holds the purge lock and will want the arena's, to put back what it
 * took.  The thread that forks has the arena's: it must not wait for the other.
 */
static void a_fork_inside_an_operation_does_not_hang(void)
{
	int status;
	pid_t child;

	alarm(5);
	a = script_heap(POLICY_DEFAULT);
	script_discarding = wait_for_the_holder;
	use_and_free(16 * MIB);
	while (!__atomic_load_n(&in_discard, __ATOMIC_ACQUIRE))
		os_yield();
	lock_acquire(&a->lock);
	__atomic_store_n(&holder_is_in, true, __ATOMIC_RELEASE);
	child = fork();
	if (child == 0) {
		script_discarding = NULL;
		lock_release(&a->lock);
		for (int i = 0; i < 4; i++)
			use_and_free(64 * MIB);
		/* What was taken aside in the parent is put back here too. */
		(void)cede_release(0);
		EXPECT(a->claimed_bytes == 0 && a->top_claimed == 0);
		audit_arena(a);
		_exit(0);
	}
	lock_release(&a->lock);
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(all_gone());
}

/* The end of the top is away, and nobody in the child is there to return it: small
 * blocks would be mapped one by one. */
static void a_child_grows_whatever_was_taken_aside(void)
{
	int status;
	pid_t child;

	a = script_heap(POLICY_DEFAULT);
	script_discarding = wait_for_the_holder;
	use_and_free(16 * MIB);
	while (!__atomic_load_n(&in_discard, __ATOMIC_ACQUIRE))
		os_yield();
	child = fork();
	if (child == 0) {
		script_reset();
		for (int i = 0; i < 20000; i++)
			EXPECT(cede_malloc(1000) != NULL);
		EXPECT(script_calls(OS_MAP) < 10);
		audit_arena(a);
		_exit(0);
	}
	__atomic_store_n(&holder_is_in, true, __ATOMIC_RELEASE);
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(all_gone());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_forked_child_makes_its_own),
		child_test(a_child_of_the_absent_has_none_either),
		child_test(a_fork_inside_an_operation_does_not_hang),
		child_test(a_child_grows_whatever_was_taken_aside),
	};

	return cmocka_run_group_tests_name("purger_fork", tests, NULL, NULL);
}
