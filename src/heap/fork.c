/*
 * Fork: the thread that forks takes the locks in rank order, so that the child
 * gets a heap at rest.
 *
 * Registered at the very first allocation, which the loader makes: handlers run
 * before a fork in reverse order of registration, so those of the program, which
 * may allocate, run before ours.
 */
#include <pthread.h>

#include "heap/giving.h"
#include "heap/heap.h"
#include "heap/purger.h"
#include "heap/registry.h"
#include "heap/spare.h"
#include "heap/window.h"

static void prepare(void)
{
	/* A thread that never allocated forks too, and needs no record for it. */
	if (lock_self == 0)
		lock_thread_begin();
	registry_fork_prepare();
	arena_fork_prepare();
	window_fork_prepare();
	spare_fork_prepare();
	giving_fork_prepare();
}

static void parent(void)
{
	giving_fork_parent();
	window_fork_parent();
	spare_fork_parent();
	arena_fork_parent();
	registry_fork_parent();
}

static void child(void)
{
	registry_fork_child();
	window_fork_child();
	giving_fork_child();
	purger_fork_child();
	spare_fork_child();
}

/*
 * The constructor is for programs that carry the heap under names of its own:
 * there the first allocation may come late, beside other threads.
 */
__attribute__((constructor)) void fork_register(void)
{
	static bool registered;

	if (__atomic_exchange_n(&registered, true, __ATOMIC_RELAXED))
		return;
	/* Without it only a fork beside busy threads is at risk. */
	(void)pthread_atfork(prepare, parent, child);
}
