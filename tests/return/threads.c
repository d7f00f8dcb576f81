#include "return/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "return/blocks.h"
#include "return/rest.h"
#include "support/check.h"
#include "support/process.h"

#define MIB  ((size_t)1 << 20)
#define KIB  ((size_t)1 << 10)
#define LOW  16          /* the sizes that each thread takes: from slabs and */
#define HIGH (200 * KIB) /* chunks, through the cache and past it */

static pthread_barrier_t together;
static atomic_size_t done;

/* As many bytes in each range, or nearly all would be in large blocks. */
static void mixture_make(struct blocks *blocks, size_t bytes)
{
	blocks_make(blocks, LOW, 16 * LOW, bytes);
}

static void mixture_take(struct blocks *blocks, size_t bytes)
{
	for (size_t low = LOW; low < HIGH; low *= 16)
		blocks_take(blocks, low, low * 16 < HIGH ? low * 16 : HIGH, bytes / 4);
}

static void wait_for(size_t count)
{
	while (done < count)
		process_sleep_ms(1);
}

/* --- threads that sleep --- */

struct sleeper {
	pthread_t thread;
	struct blocks blocks;
	void (*take)(struct blocks *blocks, size_t bytes);
	size_t bytes;
};

static void *sleeper_lives(void *argument)
{
	struct sleeper *sleeper = argument;

	sleeper->take(&sleeper->blocks, sleeper->bytes);
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
	blocks_free(&sleeper->blocks, 0);
	done++;
	for (;;)
		pause();
	return NULL;
}

static void sleepers_rest(const char *way, size_t count, size_t bytes,
                          void (*take)(struct blocks *blocks, size_t bytes))
{
	struct sleeper *sleepers = rest_table(count * sizeof(*sleepers));

	for (size_t i = 0; i < count; i++) {
		sleepers[i].take = take;
		sleepers[i].bytes = bytes;
		mixture_make(&sleepers[i].blocks, bytes);
	}
	rest_start(way);
	CHECK(pthread_barrier_init(&together, NULL, (unsigned)count + 1) == 0);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_create(&sleepers[i].thread, NULL, sleeper_lives, &sleepers[i]) == 0);
	pthread_barrier_wait(&together);
	rest_full();
	pthread_barrier_wait(&together);
	wait_for(count);
	rest_check("freed", (unsigned)count);
}

void threads_asleep(const char *way, const size_t *numbers)
{
	sleepers_rest(way, numbers[0], numbers[1] * MIB, mixture_take);
}

/* Const once the threads are made. */
static struct {
	size_t low, high, step, bytes;
} crumbs;

/* What no single bin of a cache makes much of. */
static void crumbs_take(struct blocks *blocks, size_t bytes)
{
	(void)bytes;
	for (size_t size = crumbs.low; size <= crumbs.high; size += crumbs.step)
		blocks_take(blocks, size, size, size > crumbs.bytes ? size : crumbs.bytes);
}

void threads_crumbs(const char *way, const size_t *numbers)
{
	crumbs.low = numbers[1];
	crumbs.high = numbers[2];
	crumbs.step = numbers[3];
	crumbs.bytes = numbers[4];
	sleepers_rest(way, numbers[0], crumbs.high / crumbs.step * crumbs.bytes, crumbs_take);
}

/* --- threads that ended --- */

#define AT_ONCE 8

/* Each frees half of its blocks and leaves the others to main. */
static void *short_lives(void *argument)
{
	struct sleeper *thread = argument;
	size_t first = thread->blocks.count;

	mixture_take(&thread->blocks, thread->bytes);
	for (size_t i = first; i < thread->blocks.count; i += 2) {
		free(thread->blocks.items[i].start);
		thread->blocks.items[i].start = NULL;
	}
	return NULL;
}

void threads_ended(const char *way, const size_t *numbers)
{
	struct sleeper threads[AT_ONCE];
	size_t rounds = numbers[0] / AT_ONCE;

	for (size_t i = 0; i < AT_ONCE; i++) {
		threads[i].bytes = numbers[1] * MIB;
		mixture_make(&threads[i].blocks, numbers[1] * MIB * rounds);
	}
	rest_start(way);
	for (size_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < AT_ONCE; i++)
			CHECK(pthread_create(&threads[i].thread, NULL, short_lives, &threads[i]) == 0);
		for (size_t i = 0; i < AT_ONCE; i++)
			CHECK(pthread_join(threads[i].thread, NULL) == 0);
	}
	rest_full();
	for (size_t i = 0; i < AT_ONCE; i++)
		blocks_free(&threads[i].blocks, 0);
	rest_check("freed", AT_ONCE);
}

/* --- a producer and a consumer --- */

struct relay {
	struct blocks blocks;
	size_t count;
	atomic_size_t made;
};

static void *producer_lives(void *argument)
{
	struct relay *relay = argument;

	while (relay->made < relay->count) {
		blocks_take(&relay->blocks, 100, 100, 100);
		relay->made++;
	}
	done++;
	for (;;)
		pause();
	return NULL;
}

/* Begins when half is there, and then follows. */
static void *consumer_lives(void *argument)
{
	struct relay *relay = argument;

	while (relay->made < relay->count / 2)
		process_sleep_ms(1);
	rest_full();
	for (size_t i = 0; i < relay->count; i++) {
		while (i >= relay->made)
			sched_yield();
		free(relay->blocks.items[i].start);
	}
	done++;
	for (;;)
		pause();
	return NULL;
}

void threads_relay(const char *way, const size_t *numbers)
{
	static struct relay relay;
	pthread_t producer, consumer;

	relay.count = numbers[0];
	blocks_make(&relay.blocks, 100, 100, 100 * numbers[0]);
	rest_start(way);
	CHECK(pthread_create(&producer, NULL, producer_lives, &relay) == 0);
	CHECK(pthread_create(&consumer, NULL, consumer_lives, &relay) == 0);
	wait_for(2);
	rest_check("freed", 2);
}

/* --- a fork --- */

void threads_fork(const char *way, const size_t *numbers)
{
	size_t bytes = numbers[0] * MIB;
	struct blocks blocks;
	int status;

	mixture_make(&blocks, bytes);
	rest_start(way);
	mixture_take(&blocks, bytes);
	rest_full();
	pid_t child = fork();

	CHECK(child >= 0);
	blocks_free(&blocks, 0);
	rest_check(child == 0 ? "child" : "parent", 0);
	if (child == 0)
		_exit(0);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_THAT(status == 0, "the child ended with wait status %#x", (unsigned)status);
}

/* --- nothing to do --- */

/* A thread that did not go to sleep again has not run, nor made a system call. */
static unsigned long switches_of_others(void)
{
	pid_t threads[64];
	size_t count = process_threads(threads, 64);
	unsigned long sum = 0;

	CHECK(count > 1 && count <= 64);
	for (size_t i = 0; i < count; i++)
		if (threads[i] != getpid())
			sum += process_switches(threads[i]);
	return sum;
}

void threads_idle(const char *way, const size_t *numbers)
{
	static const size_t sleepers[] = { 16, 16 };

	threads_asleep(way, sleepers);
	/* What it gave back last may end in a look or two that find nothing. */
	process_sleep_ms(1000);
	unsigned long before = switches_of_others();

	process_sleep_ms((unsigned)numbers[0] * 1000);
	CHECK_THAT(switches_of_others() == before, "%lu wake-ups in %zu idle seconds",
	           switches_of_others() - before, numbers[0]);
}
