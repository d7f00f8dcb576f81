/*
 * curve: what an operation costs as threads, memory or blocks grow.  Layer: a program
 * of its own that links libc alone; the runner preloads the allocator.
 *
 *   curve replace THREADS BLOCKS SMALLEST LARGEST STEPS   each thread holds BLOCKS
 *       blocks of SMALLEST (16 or more) to LARGEST bytes and gives back one at random
 *       for another in each step; prints ns per step
 *   curve cycle BLOCKS SIZE TIMES   takes BLOCKS blocks and gives them back in random
 *       order, TIMES times; prints ns per malloc, then per free
 *
 * It is processor time of the whole process, user and system, so that what the
 * allocator's own threads do meanwhile counts.  Before the clock starts each pattern
 * runs unmeasured: a quarter of the steps, one cycle.
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "block.h"

/* One of THREADS; the numbers are const after start, the rest the thread's own. */
struct worker {
	LINES_OF_ITS_OWN pthread_t thread;
	pthread_barrier_t *together;
	struct rng rng;
	size_t blocks, smallest, largest, steps;
};

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* What two readings find between them when nothing is there. */
static double cpu_ns_idle(void)
{
	double start = cpu_ns();

	for (int i = 0; i < 9999; i++)
		cpu_ns();
	return (cpu_ns() - start) / 10000;
}

static struct block *worker_take(struct worker *worker)
{
	size_t range = worker->largest - worker->smallest + 1;

	return block_take(worker->smallest + rng_below(&worker->rng, range));
}

static void worker_replace(struct worker *worker, struct block **held, size_t steps)
{
	for (size_t i = 0; i < steps; i++) {
		struct block **slot = &held[rng_below(&worker->rng, worker->blocks)];

		block_give(*slot);
		*slot = worker_take(worker);
	}
}

static void *worker_run(void *argument_of_thread)
{
	struct worker *worker = argument_of_thread;
	struct block **held = calloc(worker->blocks, sizeof(*held));

	CHECK(held != NULL);
	for (size_t i = 0; i < worker->blocks; i++)
		held[i] = worker_take(worker);
	worker_replace(worker, held, worker->steps / 4);
	pthread_barrier_wait(worker->together);
	pthread_barrier_wait(worker->together);
	worker_replace(worker, held, worker->steps);
	pthread_barrier_wait(worker->together);
	for (size_t i = 0; i < worker->blocks; i++)
		block_give(held[i]);
	free(held);
	return NULL;
}

static void replace(size_t threads, const struct worker *model)
{
	struct worker *workers = row_take(threads, sizeof(*workers));
	pthread_barrier_t together;
	double start;

	CHECK(model->smallest >= 16 && model->largest >= model->smallest);
	CHECK(pthread_barrier_init(&together, NULL, (unsigned)threads + 1) == 0);
	for (size_t i = 0; i < threads; i++) {
		workers[i] = *model;
		workers[i].rng.state = i;
		workers[i].together = &together;
		CHECK(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) == 0);
	}
	/* Everyone waits twice: between the two nothing runs but this clock. */
	pthread_barrier_wait(&together);
	start = cpu_ns();
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
	dprintf(1, "%.1f\n", (cpu_ns() - start) / (double)(threads * model->steps));
	for (size_t i = 0; i < threads; i++)
		CHECK(pthread_join(workers[i].thread, NULL) == 0);
	free(workers);
}

static void shuffle(struct rng *rng, struct block **held, size_t blocks)
{
	for (size_t i = blocks - 1; i > 0; i--) {
		size_t j = rng_below(rng, i + 1);
		struct block *swapped = held[i];

		held[i] = held[j];
		held[j] = swapped;
	}
}

static void cycle(size_t blocks, size_t size, size_t times)
{
	struct block **held = calloc(blocks, sizeof(*held));
	double idle = cpu_ns_idle(), taking = 0, giving = 0;
	double operations = (double)(blocks * times);
	struct rng rng = { 1 };

	CHECK(held != NULL && size >= 16);
	for (size_t time = 0; time <= times; time++) {
		double start = cpu_ns(), taken, shuffled, given;

		for (size_t i = 0; i < blocks; i++)
			held[i] = block_take(size);
		taken = cpu_ns();
		shuffle(&rng, held, blocks);
		shuffled = cpu_ns();
		for (size_t i = 0; i < blocks; i++)
			block_give(held[i]);
		given = cpu_ns();
		if (time > 0) {
			taking += taken - start - idle;
			giving += given - shuffled - idle;
		}
	}
	free(held);
	dprintf(1, "%.1f %.1f\n", taking / operations, giving / operations);
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "replace")) {
		struct worker model = { .blocks = argument(argc, argv, 3),
			                .smallest = argument(argc, argv, 4),
			                .largest = argument(argc, argv, 5),
			                .steps = argument(argc, argv, 6) };

		replace(argument(argc, argv, 2), &model);
	} else if (!strcmp(pattern, "cycle")) {
		cycle(argument(argc, argv, 2), argument(argc, argv, 3), argument(argc, argv, 4));
	} else {
		CHECK_THAT(false, "no such pattern: %s", pattern);
	}
	return 0;
}
