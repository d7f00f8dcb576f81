/*
 * Threads that work in bursts and sleep in between, so that their caches are
 * emptied behind their backs; another that trims and counts all the time; and
 * forks in the middle of it.  Every block's contents are checked when it is freed,
 * by whatever thread that is, or by a child.  Layer: tests.
 *
 *   drain SECONDS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

#include "support/parcel.h"
#include "support/process.h"

#define THREADS    8
#define OWN        400 /* blocks a thread keeps over its sleep, at most */
#define MEETING    64  /* places where blocks change hands */
#define NEWCOMERS  3   /* threads of a child */
#define LEAST_MS   50
#define MOST_MS    400
#define FORK_MS    40
#define MEDDLE_MS  3
#define PAUSE_MS   500 /* after a hundred times: then caches fill up */
#define LEFT_BYTES ((size_t)256 << 10) /* in use at the end: what libc keeps for threads */

/* The sanitizer's own locks may be held by who stayed in the parent. */
#ifdef __SANITIZE_ADDRESS__
#define CHILD_HAS_THREADS false
#else
#define CHILD_HAS_THREADS true
#endif

static _Atomic(struct parcel *) meeting[MEETING];
static atomic_bool stop;
static atomic_ulong operations;

/* Mostly what is cached, of few sizes at a time and of many over time. */
static size_t some_size(struct rng *rng)
{
	switch (rng_below(rng, 40)) {
	case 0:
		return rng_below(rng, 300000);
	case 1:
	case 2:
		return rng_below(rng, 40000);
	default:
		return rng_below(rng, 1000);
	}
}

static void burst(struct rng *rng, struct parcel **own)
{
	uint64_t steps = 100 + rng_below(rng, 20000);

	for (uint64_t step = 0; step < steps && !stop; step++) {
		struct parcel **p = &own[rng_below(rng, OWN)];

		if (*p == NULL) {
			*p = parcel_make(rng, some_size(rng));
		} else if (rng_below(rng, 8) == 0) {
			*p = atomic_exchange(&meeting[rng_below(rng, MEETING)], *p);
		} else if (rng_below(rng, 8) == 0) {
			*p = parcel_resize(rng, *p, some_size(rng));
		} else {
			parcel_open(*p);
			*p = NULL;
		}
	}
	atomic_fetch_add(&operations, steps);
}

static void *work_and_sleep(void *number)
{
	struct rng rng = { (uintptr_t)number };
	struct parcel *own[OWN] = { NULL };

	while (!stop) {
		/* Some go to sleep with much in their caches, some with much in use. */
		uint64_t keep = rng_below(&rng, OWN);

		burst(&rng, own);
		for (uint64_t i = keep; i < OWN; i++) {
			parcel_open(own[i]);
			own[i] = NULL;
		}
		process_sleep_ms(LEAST_MS + (unsigned)rng_below(&rng, MOST_MS - LEAST_MS));
	}
	for (size_t i = 0; i < OWN; i++)
		parcel_open(own[i]);
	return NULL;
}

static void *meddle(void *unused)
{
	for (unsigned i = 0; !stop; i++) {
		if (i % 3 == 0)
			(void)heap_trim(0);
		else
			(void)heap_mallinfo2();
		process_sleep_ms(i % 100 == 99 ? PAUSE_MS : MEDDLE_MS);
	}
	return unused;
}

static void *newcomer(void *number)
{
	struct rng rng = { (uintptr_t)number };
	struct parcel *own[OWN] = { NULL };

	burst(&rng, own);
	for (size_t i = 0; i < OWN; i++)
		parcel_open(own[i]);
	return NULL;
}

/* All threads but one stayed behind, wherever they were; what they held is whole. */
static void child(uintptr_t number)
{
	pthread_t threads[NEWCOMERS];

	alarm(60);
	for (size_t i = 0; i < MEETING; i++)
		parcel_open(atomic_exchange(&meeting[i], NULL));
	for (uintptr_t i = 0; CHILD_HAS_THREADS && i < NEWCOMERS; i++)
		CHECK(pthread_create(&threads[i], NULL, newcomer, (void *)(number + i)) == 0);
	if (number / (NEWCOMERS + 1) % 2 == 0)
		(void)heap_trim(0);
	(void)newcomer((void *)(number + NEWCOMERS));
	for (size_t i = 0; CHILD_HAS_THREADS && i < NEWCOMERS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (size_t i = 0; i < MEETING; i++)
		parcel_open(meeting[i]);
	(void)heap_trim(0);
	_exit(0);
}

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS], meddler;
	uintptr_t forks = 0;
	size_t before;
	time_t end;

	if (argc != 2 || atoi(argv[1]) <= 0) {
		dprintf(2, "usage: drain SECONDS\n");
		return 2;
	}
	end = seconds_now() + atoi(argv[1]);
	before = heap_mallinfo2().uordblks;
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, work_and_sleep, (void *)(i + 1)) == 0);
	CHECK(pthread_create(&meddler, NULL, meddle, NULL) == 0);
	while (seconds_now() < end) {
		process_fork(child, 1000 + (NEWCOMERS + 1) * forks++);
		process_sleep_ms(FORK_MS);
	}
	stop = true;
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(pthread_join(meddler, NULL) == 0);
	for (size_t i = 0; i < MEETING; i++)
		parcel_open(meeting[i]);
	CHECK_THAT(heap_mallinfo2().uordblks <= before + LEFT_BYTES, "%zu bytes in use, %zu at first",
	           heap_mallinfo2().uordblks, before);
	dprintf(1, "%lu operations, %lu forks\n", (unsigned long)operations, (unsigned long)forks);
	return 0;
}
