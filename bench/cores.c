/*
 * cores: what threads cost each other.  Layer: a program of its own that links libc
 * alone; the runner preloads the allocator.
 *
 *   cores sharing THREADS TURNS WRITES   each thread counts in a block of 8 bytes
 *       that the main thread took beside those of the others, WRITES times, gives it
 *       back, takes another, TURNS times: slow when two blocks share a cache line
 *   cores crowd THREADS BLOCKS STEPS     as many threads live at once, each holding
 *       BLOCKS blocks of 24 B to 1.5 KiB, of which each step replaces one at random
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "block.h"

/* One of THREADS; the numbers are const after start, the rest the thread's own. */
struct worker {
	pthread_t thread;
	pthread_barrier_t *together;
	struct rng rng;
	size_t turns, writes;  /* sharing */
	size_t blocks, steps;  /* crowd */
	uint64_t *counter;
	uint64_t bytes;
};

static void *worker_share(void *argument_of_thread)
{
	struct worker *worker = argument_of_thread;

	pthread_barrier_wait(worker->together);
	for (size_t turn = 0; turn < worker->turns; turn++) {
		volatile uint64_t *counter = worker->counter;

		*counter = 0;
		for (size_t i = 0; i < worker->writes; i++)
			++*counter;
		CHECK(*counter == worker->writes);
		worker->bytes += sizeof(*counter);
		free(worker->counter);
		worker->counter = malloc(sizeof(*counter));
		CHECK(worker->counter != NULL);
	}
	free(worker->counter);
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
	struct worker *workers = calloc(count, sizeof(*workers));
	pthread_barrier_t together;
	uint64_t bytes = 0;

	CHECK(workers != NULL && pthread_barrier_init(&together, NULL, (unsigned)count) == 0);
	for (size_t i = 0; i < count; i++) {
		workers[i] = *model;
		workers[i].rng.state = i;
		workers[i].together = &together;
		workers[i].counter = NULL;
		if (model->writes > 0) {
			workers[i].counter = malloc(sizeof(*workers[i].counter));
			CHECK(workers[i].counter != NULL);
		}
	}
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
