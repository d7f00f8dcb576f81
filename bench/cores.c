/*
 * cores: what threads cost each other.  Layer: a program of its own that links libc
 * alone; the runner preloads the allocator.
 *
 *   cores sharing THREADS TURNS WRITES   each thread inherits 8 blocks of 8 bytes
 *       that the main thread took in turn for all; in each turn it counts to WRITES in
 *       one, gives it back and takes another: slow when threads share a cache line
 *   cores crowd THREADS BLOCKS STEPS     as many threads live at once, each holding
 *       BLOCKS blocks of 24 B to 1.5 KiB, of which each step replaces one at random
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "block.h"

#define COUNTERS 8

/* One of THREADS; the numbers are const after start, the rest the thread's own. */
struct worker {
	LINES_OF_ITS_OWN pthread_t thread;
	pthread_barrier_t *together;
	struct rng rng;
	size_t turns, writes;  /* sharing */
	size_t blocks, steps;  /* crowd */
	uint64_t *counters[COUNTERS];
	uint64_t bytes;
};

static uint64_t *counter_take(void)
{
	uint64_t *counter = malloc(sizeof(*counter));

	CHECK(counter != NULL);
	return counter;
}

static void *worker_share(void *argument_of_thread)
{
	struct worker *worker = argument_of_thread;

	pthread_barrier_wait(worker->together);
	for (size_t turn = 0; turn < worker->turns; turn++) {
		uint64_t **slot = &worker->counters[turn % COUNTERS];
		volatile uint64_t *counter = *slot;

		*counter = 0;
		for (size_t i = 0; i < worker->writes; i++)
			++*counter;
		CHECK(*counter == worker->writes);
		worker->bytes += sizeof(*counter);
		free(*slot);
		*slot = counter_take();
	}
	for (size_t i = 0; i < COUNTERS; i++)
		free(worker->counters[i]);
	return NULL;
}

static size_t crowd_size(struct worker *worker)
{
	return size_skewed(&worker->rng, BLOCK_SMALLEST, 6);
}

static void *worker_crowd(void *argument_of_thread)
{
	struct worker *worker = argument_of_thread;
	struct block **held = calloc(worker->blocks, sizeof(*held));

	CHECK(held != NULL);
	pthread_barrier_wait(worker->together);
	for (size_t i = 0; i < worker->blocks; i++)
		held[i] = block_take(crowd_size(worker));
	for (size_t step = 0; step < worker->steps; step++) {
		struct block **slot = &held[rng_below(&worker->rng, worker->blocks)];

		worker->bytes += block_give(*slot);
		*slot = block_take(crowd_size(worker));
	}
	pthread_barrier_wait(worker->together);
	for (size_t i = 0; i < worker->blocks; i++)
		worker->bytes += block_give(held[i]);
	free(held);
	return NULL;
}

static uint64_t workers_run(size_t count, const struct worker *model, void *(*work)(void *))
{
	struct worker *workers = row_take(count, sizeof(*workers));
	pthread_barrier_t together;
	uint64_t bytes = 0;

	CHECK(pthread_barrier_init(&together, NULL, (unsigned)count) == 0);
	for (size_t i = 0; i < count; i++) {
		workers[i] = *model;
		workers[i].rng.state = i;
		workers[i].together = &together;
	}
	for (size_t i = 0; model->writes > 0 && i < COUNTERS * count; i++)
		workers[i % count].counters[i / count] = counter_take();
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	for (size_t i = 0; i < count; i++) {
		CHECK(pthread_join(workers[i].thread, NULL) == 0);
		bytes += workers[i].bytes;
	}
	free(workers);
	return bytes;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "sharing")) {
		struct worker model = { .turns = argument(argc, argv, 3),
			                .writes = argument(argc, argv, 4) };

		report(workers_run(argument(argc, argv, 2), &model, worker_share));
	} else if (!strcmp(pattern, "crowd")) {
		struct worker model = { .blocks = argument(argc, argv, 3),
			                .steps = argument(argc, argv, 4) };

		report(workers_run(argument(argc, argv, 2), &model, worker_crowd));
	} else {
		CHECK_THAT(false, "no such pattern: %s", pattern);
	}
	return 0;
}
