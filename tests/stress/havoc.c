/*
 * Everything at once, in rounds: threads of two kinds, those that work in bursts and
 * sleep, and those that live for a moment and end in any way; a signal handler that
 * takes and gives back blocks wherever it interrupts them; forks, trims and counts
 * meanwhile.  Blocks of all sizes and alignments change hands by all ways; their
 * contents are checked when they are freed.  After each round all is free, and a
 * moment later hardly a page may be left.  Layer: tests.
 *
 *   havoc ROUNDS THREADS
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "support/parcel.h"
#include "support/process.h"

#define ROUND_MS     2500
#define MOST_THREADS 64
#define OTHERS       3    /* threads that are no workers */
#define OWN          1500 /* blocks a worker holds, at most */
#define MEETING      256  /* places where blocks change hands */
#define LEFTOVER     64   /* the same, of the handler's */
#define A_SIGNAL     8    /* blocks that a handler takes */
#define SIGNAL_US    100
#define FORK_MS      60
#define MEDDLE_MS    4
#define PAUSE_MS     500  /* now and then: the caches fill up */
#define CALM_MS      100
#define CALMS        30   /* under load the purger may be late */
#define USED_BYTES   ((size_t)256 << 10) /* in use at the end: what libc keeps for threads */
#define LEFT_BYTES   ((size_t)3 << 20)   /* what nobody need tell of, and stacks */

static _Atomic(struct parcel *) meeting[MEETING], leftover[LEFTOVER];
static atomic_bool stop;
static atomic_ulong operations, handled;
static unsigned workers;

static size_t some_size(struct rng *rng)
{
	unsigned bits = 3 + (unsigned)rng_below(rng, 8);

	switch (rng_below(rng, 64)) {
	case 0:
		return rng_below(rng, 200 << 10);
	case 1:
	case 2:
		return rng_below(rng, 16 << 10);
	default:
		return rng_below(rng, (uint64_t)1 << bits);
	}
}

static bool is_zero(const char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static struct parcel *some_parcel(struct rng *rng)
{
	size_t size = some_size(rng), bytes = sizeof(struct parcel) + size;
	size_t alignment = (size_t)16 << rng_below(rng, 13);
	void *block;

	switch (rng_below(rng, 24)) {
	case 0:
		CHECK(heap_posix_memalign(&block, alignment, bytes) == 0);
		CHECK((uintptr_t)block % alignment == 0);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		block = heap_calloc(1, bytes);
		CHECK(block != NULL && is_zero(block, bytes));
		break;
	default:
		block = heap_malloc(bytes);
	}
	CHECK_THAT(block != NULL && heap_usable_size(block) >= bytes, "%p holds %zu bytes of %zu",
	           block, heap_usable_size(block), bytes);
	return parcel_fill(rng, block, size);
}

static void step(struct rng *rng, struct parcel **p)
{
	if (*p == NULL) {
		*p = some_parcel(rng);
	} else if (rng_below(rng, 6) == 0) {
		*p = atomic_exchange(&meeting[rng_below(rng, MEETING)], *p);
	} else if (rng_below(rng, 6) == 0) {
		*p = parcel_resize(rng, *p, some_size(rng));
	} else {
		parcel_open(*p);
		*p = NULL;
	}
}

static void open_all(_Atomic(struct parcel *) *places, size_t count)
{
	for (size_t i = 0; i < count; i++)
		parcel_open(atomic_exchange(&places[i], NULL));
}

/* ---- the handler: allocates, and frees what another thread's handler left ---- */

static void handler(int signal_number)
{
	static atomic_ulong number;
	struct rng rng = { atomic_fetch_add(&number, 1) };
	int saved = errno;

	(void)signal_number;
	for (int i = 0; i < A_SIGNAL; i++)
		parcel_open(atomic_exchange(&leftover[rng_below(&rng, LEFTOVER)], some_parcel(&rng)));
	parcel_open(atomic_exchange(&meeting[rng_below(&rng, MEETING)], NULL));
	atomic_fetch_add(&handled, 1);
	errno = saved;
}

/* It signals all but the first thread, which waits, and itself. */
static void *pest(void *unused)
{
	pid_t ids[2 * MOST_THREADS], self = (pid_t)syscall(SYS_gettid);
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!stop) {
		size_t count = process_threads(ids, 2 * MOST_THREADS);

		for (size_t i = 1; i < count && i < 2 * MOST_THREADS && !stop; i++) {
			struct timespec pause = { 0, SIGNAL_US * 1000 };

			if (ids[i] != self)
				(void)syscall(SYS_tgkill, getpid(), ids[i], SIGUSR1);
			nanosleep(&pause, NULL);
		}
	}
	return unused;
}

/* ---- threads ---- */

static void *worker(void *number)
{
	struct rng rng = { (uintptr_t)number };
	struct parcel *own[OWN] = { NULL };

	while (!stop) {
		uint64_t steps = 100 + rng_below(&rng, 20000), keep = rng_below(&rng, OWN);

		for (uint64_t i = 0; i < steps && !stop; i++)
			step(&rng, &own[rng_below(&rng, OWN)]);
		atomic_fetch_add(&operations, steps);
		for (uint64_t i = keep; i < OWN; i++) {
			parcel_open(own[i]);
			own[i] = NULL;
		}
		usleep((unsigned)rng_below(&rng, 2) * (unsigned)rng_below(&rng, 300000));
	}
	for (size_t i = 0; i < OWN; i++)
		parcel_open(own[i]);
	return NULL;
}

static pthread_key_t key;

/* Runs after the thread's other destructors, and comes back as long as it may. */
static void late(void *value)
{
	static __thread int times;

	parcel_open(value);
	if (++times < PTHREAD_DESTRUCTOR_ITERATIONS) {
		struct rng rng = { (uintptr_t)value };

		pthread_setspecific(key, some_parcel(&rng));
	}
}

static void *mayfly(void *number)
{
	struct rng rng = { (uintptr_t)number };
	struct parcel *own[50] = { NULL };

	for (int i = 0; i < 400; i++)
		step(&rng, &own[rng_below(&rng, 50)]);
	for (size_t i = 0; i < 50; i++)
		parcel_open(own[i]);
	if (rng_below(&rng, 3) == 0)
		syscall(SYS_exit, 0);
	pthread_setspecific(key, some_parcel(&rng));
	return NULL;
}

static void *mayflies(void *seed)
{
	for (uintptr_t n = (uintptr_t)seed; !stop; n++) {
		pthread_t some[4];

		for (uintptr_t i = 0; i < 4; i++)
			CHECK(pthread_create(&some[i], NULL, mayfly, (void *)(4 * n + i)) == 0);
		for (size_t i = 0; i < 4; i++)
			CHECK(pthread_join(some[i], NULL) == 0);
	}
	return NULL;
}

static void *meddle(void *unused)
{
	for (unsigned i = 0; !stop; i++) {
		if (i % 3 == 0)
			(void)heap_trim(0);
		else
			(void)heap_mallinfo2();
		process_sleep_ms(i % 50 == 49 ? PAUSE_MS : MEDDLE_MS);
	}
	return unused;
}

/* ---- forks ---- */

static void child(uintptr_t number)
{
	struct rng rng = { number };
	struct parcel *own[OWN] = { NULL };

	alarm(60);
	open_all(meeting, MEETING);
	for (int i = 0; i < 20000; i++)
		step(&rng, &own[rng_below(&rng, OWN)]);
	if (number % 2 == 0)
		(void)heap_trim(0);
	else if (number % 16 == 1)
		process_sleep_ms(400);
	for (size_t i = 0; i < OWN; i++)
		parcel_open(own[i]);
	open_all(meeting, MEETING);
	(void)heap_trim(0);
	_exit(0);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void run_round(uintptr_t number)
{
	void *(*others[])(void *) = { mayflies, meddle, pest };
	pthread_t threads[MOST_THREADS + OTHERS];
	uint64_t end = now_ms() + ROUND_MS;
	uintptr_t forks = 0;

	stop = false;
	for (uintptr_t i = 0; i < workers + OTHERS; i++)
		CHECK(pthread_create(&threads[i], NULL, i < workers ? worker : others[i - workers],
		                     (void *)(number * 1000 + i)) == 0);
	while (now_ms() < end) {
		process_fork(child, number * 100000 + forks++);
		process_sleep_ms(FORK_MS);
	}
	stop = true;
	for (size_t i = 0; i < workers + OTHERS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	open_all(meeting, MEETING);
	open_all(leftover, LEFTOVER);
}

/* Nothing is in use: hardly anything may stay, and nothing that nobody knows of. */
static void check_calm(size_t before)
{
	size_t left = SIZE_MAX;

	for (int i = 0; i < CALMS && left > before + LEFT_BYTES; i++) {
		process_sleep_ms(CALM_MS);
		left = process_anonymous();
	}
	CHECK_THAT(heap_mallinfo2().uordblks <= USED_BYTES, "%zu bytes are in use",
	           heap_mallinfo2().uordblks);
	CHECK_THAT(left <= before + LEFT_BYTES, "%zu KiB are left of %zu before", left >> 10,
	           before >> 10);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	int rounds = argc == 3 ? atoi(argv[1]) : 0;
	size_t before;

	workers = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	if (rounds <= 0 || workers == 0 || workers > MOST_THREADS) {
		dprintf(2, "usage: havoc ROUNDS THREADS\n");
		return 2;
	}
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(pthread_key_create(&key, late) == 0);
	before = process_anonymous();
	for (int round = 0; round < rounds; round++) {
		run_round((uintptr_t)round);
		if (heap_has_purger())
			check_calm(before);
	}
	dprintf(1, "%lu operations, %lu signals\n", (unsigned long)operations,
	        (unsigned long)handled);
	return 0;
}
