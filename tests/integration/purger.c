/*
 * The thread that gives memory back must not be noticed: by setuid, by
 * __libc_single_threaded, by signals, by user namespaces, by fork; and it must do
 * its work when the program does nothing at all.  Layer: tests.  Where there is no
 * such thread (classic, libc) the same must hold but for the memory.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/process.h"

#define MIB          ((size_t)1 << 20)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Fills `bytes` with blocks of 4,000 bytes and frees all but the last one, which
 * would keep the heap's end where it is. */
static void *churn(size_t bytes)
{
	static void *blocks[1 << 16];
	size_t count = bytes / 4000;

	CHECK(count <= COUNT(blocks));
	for (size_t i = 0; i < count; i++)
		blocks[i] = memset(heap_malloc(4000), 1, 4000);
	void *pin = heap_malloc(100);

	for (size_t i = 0; i < count; i++)
		heap_free(blocks[i]);
	return pin;
}

/* For the purger, if there is one, to do its work. */
static void let_purger(unsigned ms)
{
	if (heap_has_purger())
		process_sleep_ms(ms);
}

/* Frees 64 MiB and sleeps until the purger, if there is one, is at work or done. */
static void wake_purger(void)
{
	churn(64 * MIB);
	let_purger(600);
	if (heap_has_purger())
		CHECK_THAT(process_threads(NULL, 0) > 1, "there is no purger to test");
}

static void gives_back_asleep(void)
{
	size_t start = process_anonymous(), peak, end;

	churn(64 * MIB);
	peak = process_anonymous();
	let_purger(1000);
	end = process_anonymous();
	if (heap_has_purger()) {
		CHECK(peak >= start + 60 * MIB);
		CHECK_THAT(end < start + 2 * MIB, "%zu KiB more than at the start",
		           (end - start) >> 10);
	}
}

/* Blocks with mappings of their own, from malloc and grown by realloc. */
static void gives_large_blocks_back(void)
{
	size_t start = process_anonymous(), peak, end;
	char *grown = heap_malloc(1000), *large[3];

	for (size_t size = 2000; size < 64 * MIB; size += size / 2)
		grown = memset(heap_realloc(grown, size), 1, size);
	for (size_t i = 0; i < COUNT(large); i++)
		large[i] = memset(heap_malloc(40 * MIB), 1, 40 * MIB);
	peak = process_anonymous();
	for (size_t i = 0; i < COUNT(large); i++)
		heap_free(large[i]);
	grown = heap_realloc(grown, 1000);
	let_purger(1000);
	end = process_anonymous();
	CHECK(peak >= start + 150 * MIB);
	if (heap_has_purger())
		CHECK_THAT(end < start + 2 * MIB, "%zu KiB more than at the start",
		           (end - start) >> 10);
	heap_free(grown);
}

static void *churn_thread(void *arg)
{
	churn(64 * MIB);
	pause();
	return arg;
}

/* The memory of a thread that then sleeps for ever goes back too. */
static void gives_back_of_sleeping_thread(void)
{
	size_t start = process_anonymous(), end;
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, churn_thread, NULL) == 0);
	process_sleep_ms(1500);
	end = process_anonymous();
	if (heap_has_purger())
		CHECK_THAT(end < start + 2 * MIB, "%zu KiB more than at the start",
		           (end - start) >> 10);
}

/* ---- what threads cache, asleep and ended ---- */

#define CACHING 4 /* threads whose caches are too little for the purger to be told */

static pthread_barrier_t all_cached, all_measured;

/* Leaves some 150 KiB in the thread's cache. */
static void use_cache(void)
{
	void *blocks[300];

	for (size_t i = 0; i < COUNT(blocks); i++)
		blocks[i] = memset(heap_malloc(500), 1, 500);
	for (size_t i = 0; i < COUNT(blocks); i++)
		heap_free(blocks[i]);
}

static void *cache_and_wait(void *arg)
{
	use_cache();
	pthread_barrier_wait(&all_cached);
	pthread_barrier_wait(&all_measured);
	return arg;
}

static void *cache_and_end(void *arg)
{
	use_cache();
	/* All at once, or one would have the other's cache. */
	pthread_barrier_wait(&all_cached);
	return arg;
}

static void trim_takes_caches(bool ended)
{
	size_t start, peak, end;
	pthread_t threads[CACHING];

	use_cache();
	(void)heap_trim(0);
	start = process_anonymous();
	CHECK(pthread_barrier_init(&all_cached, NULL, CACHING + 1) == 0);
	CHECK(pthread_barrier_init(&all_measured, NULL, CACHING + 1) == 0);
	for (size_t i = 0; i < CACHING; i++)
		CHECK(pthread_create(&threads[i], NULL, ended ? cache_and_end : cache_and_wait, NULL) == 0);
	pthread_barrier_wait(&all_cached);
	for (size_t i = 0; ended && i < CACHING; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	peak = process_anonymous();
	CHECK(process_threads(NULL, 0) == (ended ? 1 : 1 + CACHING));
	(void)heap_trim(0);
	end = process_anonymous();
	if (heap_has_purger()) {
		CHECK(peak >= start + CACHING * (100 << 10));
		CHECK_THAT(end < start + CACHING * (40 << 10), "%zu KiB more than at the start",
		           (end - start) >> 10);
	}
	if (!ended)
		pthread_barrier_wait(&all_measured);
}

static void trim_takes_what_sleeping_threads_cache(void)
{
	trim_takes_caches(false);
}

static void trim_takes_what_ended_threads_cache(void)
{
	trim_takes_caches(true);
}

/* Arenas that no thread has any more, and 16 caches that no thread will take over. */
static void *use_and_end(void *arg)
{
	void *large[64], *small[1000];

	for (size_t i = 0; i < COUNT(large); i++)
		large[i] = memset(heap_malloc(50000), 1, 50000);
	for (size_t i = 0; i < COUNT(small); i++)
		small[i] = memset(heap_malloc(1000), 1, 1000);
	pthread_barrier_wait(&all_cached);
	pthread_barrier_wait(&all_measured);
	for (size_t i = 0; i < COUNT(large); i++)
		heap_free(large[i]);
	for (size_t i = 0; i < COUNT(small); i++)
		heap_free(small[i]);
	pthread_barrier_wait(&all_cached);
	return arg;
}

static void gives_back_of_ended_threads(void)
{
	size_t start = process_anonymous(), peak, end;
	pthread_t threads[16];

	CHECK(pthread_barrier_init(&all_cached, NULL, COUNT(threads) + 1) == 0);
	CHECK(pthread_barrier_init(&all_measured, NULL, COUNT(threads) + 1) == 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, use_and_end, NULL) == 0);
	pthread_barrier_wait(&all_cached);
	peak = process_anonymous();
	pthread_barrier_wait(&all_measured);
	pthread_barrier_wait(&all_cached);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	let_purger(1000);
	end = process_anonymous();
	CHECK(peak >= start + 60 * MIB);
	if (heap_has_purger())
		CHECK_THAT(end < start + 2 * MIB, "%zu KiB more than at the start",
		           (end - start) >> 10);
}

/* Without its thread, later calls of malloc and free do the work. */
static void gives_back_without_thread(void)
{
	size_t start, end;

#ifndef TESTS_PREFIXED
	SKIP("the heap has read its options already");
#endif
	if (!heap_is_default())
		SKIP("memory goes back by itself in the default policy");
	setenv("CEDE_OPTIONS", "policy=default,background=off", 1);
	start = process_anonymous();
	churn(64 * MIB);
	CHECK(process_threads(NULL, 0) == 1);
	for (int i = 0; i < 20; i++) {
		process_sleep_ms(60);
		heap_free(churn(MIB));
	}
	end = process_anonymous();
	CHECK_THAT(end < start + 8 * MIB, "%zu KiB more than at the start", (end - start) >> 10);
}

static void *identity_thread(void *arg)
{
	pthread_barrier_t *barrier = arg;

	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	/* By system call: what libc believes is not the question. */
	CHECK(syscall(SYS_getuid) == 65534 && syscall(SYS_geteuid) == 65534);
	heap_free(heap_malloc(100));
	return NULL;
}

static void setuid_beside(void)
{
	pthread_barrier_t barrier;
	pthread_t threads[4];

	if (getuid() != 0)
		SKIP("setuid needs root");
	wake_purger();
	CHECK(pthread_barrier_init(&barrier, NULL, COUNT(threads) + 1) == 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, identity_thread, &barrier) == 0);
	pthread_barrier_wait(&barrier);
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	pthread_barrier_wait(&barrier);
	CHECK(syscall(SYS_getuid) == 65534);
	CHECK(setuid(0) != 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	churn(4 * MIB);
}

static void single_threaded_stays(void)
{
	char before = __libc_single_threaded;

	wake_purger();
	let_purger(1000);
	CHECK(before == 1);
	CHECK(__libc_single_threaded == before);
}

static void child_unshares(void)
{
	_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : EXIT_SKIPPED);
}

/* Only a process of one thread may enter a user namespace. */
static void user_namespace(void)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		child_unshares();
	CHECK(waitpid(child, &status, 0) == child);
	if (status != 0)
		SKIP("no user namespaces here");
	heap_free(memset(heap_malloc(100 << 10), 1, 100 << 10));
	churn(MIB / 2);
	let_purger(600);
	CHECK(process_threads(NULL, 0) == 1);
	CHECK(unshare(CLONE_NEWUSER) == 0);
	heap_free(heap_malloc(100));
}

static atomic_int handler_thread;

static void handler(int signal_number)
{
	(void)signal_number;
	handler_thread = (int)syscall(SYS_gettid);
}

/* A signal to the process that the program blocks waits for the program. */
static void signals_wait_for_program(void)
{
	struct sigaction action = { .sa_handler = handler };
	sigset_t set;

	wake_purger();
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(kill(getpid(), SIGUSR1) == 0);
	process_sleep_ms(50);
	CHECK(handler_thread == 0);
	CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
	CHECK(handler_thread == getpid());
}

/* A child has no purger until it frees enough itself. */
static void made_again_after_fork(void)
{
	int status;

	wake_purger();
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		CHECK(process_threads(NULL, 0) == 1);
		alarm(20);
		gives_back_asleep();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_THAT(status == 0, "the child ended with wait status %#x", (unsigned)status);
}

/* Nothing to give back: not one wake-up in five seconds. */
static void sleeps_when_idle(void)
{
	pid_t threads[8];
	size_t count;

	wake_purger();
	let_purger(1500);
	count = process_threads(threads, COUNT(threads));
	for (size_t i = 0; i < count; i++) {
		if (threads[i] == getpid())
			continue;
		unsigned long before = process_switches(threads[i]);

		process_sleep_ms(5000);
		CHECK_THAT(process_switches(threads[i]) == before, "%lu wake-ups in five idle seconds",
		           process_switches(threads[i]) - before);
	}
}

/* Descriptors: none is opened, or each is closed by exec. */
static void descriptors_close_on_exec(void)
{
	bool open_before[256];

	for (int fd = 0; fd < (int)COUNT(open_before); fd++)
		open_before[fd] = fcntl(fd, F_GETFD) >= 0;
	wake_purger();
	for (int fd = 0; fd < (int)COUNT(open_before); fd++) {
		int flags = fcntl(fd, F_GETFD);

		CHECK(flags < 0 || open_before[fd] || (flags & FD_CLOEXEC) != 0);
	}
}

static void *large_thread(void *arg)
{
	for (size_t i = 0; i < 10; i++)
		heap_free(memset(heap_malloc(100 << 10), 1, 100 << 10));
	return arg;
}

static void *small_thread(void *arg)
{
	heap_free(heap_malloc(100));
	return arg;
}

static void join_many(void)
{
	pthread_t threads[16];

	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < COUNT(threads); i++)
			CHECK(pthread_create(&threads[i], NULL,
			                     i % 4 == 0 ? large_thread : small_thread, NULL) == 0);
		for (size_t i = 0; i < COUNT(threads); i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
	}
}

/* The purger is made by a free, maybe one that libc makes while it joins: neither
 * may wait for the other.  It is made once a process, so there are many. */
static void made_in_storm_of_joins(void)
{
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		int status;

		CHECK(child >= 0);
		if (child == 0) {
			alarm(20);
			join_many();
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child);
		CHECK_THAT(status == 0, "the child ended with wait status %#x", (unsigned)status);
	}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "gives_back_asleep", gives_back_asleep, 20 },
		{ "gives_large_blocks_back", gives_large_blocks_back, 20 },
		{ "gives_back_of_sleeping_thread", gives_back_of_sleeping_thread, 20 },
		{ "trim_takes_what_sleeping_threads_cache", trim_takes_what_sleeping_threads_cache, 20 },
		{ "trim_takes_what_ended_threads_cache", trim_takes_what_ended_threads_cache, 20 },
		{ "gives_back_of_ended_threads", gives_back_of_ended_threads, 20 },
		{ "gives_back_without_thread", gives_back_without_thread, 20 },
		{ "setuid_beside", setuid_beside, 20 },
		{ "single_threaded_stays", single_threaded_stays, 20 },
		{ "user_namespace", user_namespace, 20 },
		{ "signals_wait_for_program", signals_wait_for_program, 20 },
		{ "made_again_after_fork", made_again_after_fork, 30 },
		{ "sleeps_when_idle", sleeps_when_idle, 30 },
		{ "descriptors_close_on_exec", descriptors_close_on_exec, 20 },
		{ "made_in_storm_of_joins", made_in_storm_of_joins, 120 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
