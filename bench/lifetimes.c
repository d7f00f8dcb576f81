/*
 * lifetimes: blocks of mixed sizes that live differently long.  Layer: a program of
 * its own that links libc alone; the runner preloads the allocator.
 *
 *   lifetimes random THREADS SLOTS STEPS   each thread: in each step a slot chosen
 *       at random gives its block back and takes another, 24 B to 48 KiB, small
 *       ones more often; one in eight comes from calloc
 *   lifetimes phases COUNT KIB             each phase takes KIB of blocks of
 *       its own size (48 B to 40 KB), then gives back all but every 50th; those
 *       live until the phase after the next
 */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "block.h"

struct random_run {
	LINES_OF_ITS_OWN pthread_t thread;
	struct rng rng;
	size_t slots, steps;
	uint64_t bytes; /* given back so far */
};

static void *random_run_lives(void *argument_of_thread)
{
	struct random_run *run = argument_of_thread;
	struct block **held = calloc(run->slots, sizeof(*held));

	CHECK(held != NULL);
	for (size_t step = 0; step < run->steps; step++) {
		struct block **slot = &held[rng_below(&run->rng, run->slots)];
		size_t size = size_skewed(&run->rng, BLOCK_SMALLEST, 11);

		if (*slot != NULL)
			run->bytes += block_give(*slot);
		*slot = step % 8 == 0 ? block_take_clear(size) : block_take(size);
	}
	for (size_t i = 0; i < run->slots; i++)
		if (held[i] != NULL)
			run->bytes += block_give(held[i]);
	free(held);
	return NULL;
}

static uint64_t random_lives(size_t threads, size_t slots, size_t steps)
{
	struct random_run *runs = row_take(threads, sizeof(*runs));
	uint64_t bytes = 0;

	for (size_t i = 0; i < threads; i++) {
		runs[i] = (struct random_run){ .rng = { i }, .slots = slots, .steps = steps };
		CHECK(pthread_create(&runs[i].thread, NULL, random_run_lives, &runs[i]) == 0);
	}
	for (size_t i = 0; i < threads; i++) {
		CHECK(pthread_join(runs[i].thread, NULL) == 0);
		bytes += runs[i].bytes;
	}
	free(runs);
	return bytes;
}

/* Gives back the list but for every `keep`th block (0: none is kept), which are
 * left in the order they came; adds up what went. */
static struct block *list_give(struct block *list, size_t keep, uint64_t *bytes)
{
	struct block *kept = NULL, **end = &kept;

	for (size_t i = 1; list != NULL; i++) {
		struct block *next = list->next;

		if (keep != 0 && i % keep == 0) {
			*end = list;
			end = &list->next;
		} else {
			*bytes += block_give(list);
		}
		list = next;
	}
	*end = NULL;
	return kept;
}

static struct block *burst_take(struct rng *rng, size_t smallest, size_t bytes)
{
	struct block *list = NULL, **end = &list;

	for (size_t taken = 0; taken < bytes; taken += block_size(*end), end = &(*end)->next)
		*end = block_take(smallest + rng_below(rng, smallest));
	*end = NULL;
	return list;
}

static uint64_t phases(size_t count, size_t kib)
{
	static const size_t smallest[] = { 48, 5000, 160, 20000, 512, 1500 };
	struct block *kept[2] = { NULL, NULL };
	struct rng rng = { 1 };
	uint64_t bytes = 0;

	for (size_t phase = 0; phase < count; phase++) {
		size_t size = smallest[phase % (sizeof(smallest) / sizeof(smallest[0]))];
		struct block *burst = burst_take(&rng, size, kib << 10);

		list_give(kept[phase % 2], 0, &bytes);
		kept[phase % 2] = list_give(burst, 50, &bytes);
	}
	list_give(kept[0], 0, &bytes);
	list_give(kept[1], 0, &bytes);
	return bytes;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "random"))
		report(random_lives(argument(argc, argv, 2), argument(argc, argv, 3),
		                    argument(argc, argv, 4)));
	else if (!strcmp(pattern, "phases"))
		report(phases(argument(argc, argv, 2), argument(argc, argv, 3)));
	else
		CHECK_THAT(false, "no such pattern: %s", pattern);
	return 0;
}
