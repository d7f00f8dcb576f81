/*
 * retain_max: what is free and resident never exceeds it by more than the threads' caches
 * may hold, whoever frees, how fast, and whether there is a purger.  Layer: tests.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"
#include "support/process.h"

#define KIB          ((size_t)1 << 10)
#define MIB          ((size_t)1 << 20)
#define MOST         (8 * MIB)
#define CACHE        MIB /* of a thread, at most */
#define CACHE_OF_CLASS 2048 /* blocks, the same */
#define THREADS      4
#define BLOCKS       20000
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void begin(const char *options)
{
	CHECK(setenv("CEDE_OPTIONS", options, 1) == 0);
}

static struct cede_stats stats(void)
{
	struct cede_stats now;

	CHECK(cede_stats(&now, sizeof(now)) == 0);
	return now;
}

/* Statistics empty the caches, which is a free of what they held. */
static void expect_bounded(size_t most)
{
	struct cede_stats now = stats();

	CHECK_THAT(now.free_resident_bytes <= most, "%zu KiB are free and resident",
	           (size_t)now.free_resident_bytes >> 10);
}

static void *filled(size_t bytes)
{
	return memset(heap_malloc(bytes), 1, bytes);
}

/* All sizes, in any order, and a few much larger. */
static void mix(uint64_t seed, unsigned steps, unsigned look_every)
{
	struct rng rng = { seed };
	void **blocks = heap_calloc(1000, sizeof(*blocks));

	for (unsigned i = 1; i <= steps; i++) {
		size_t at = rng_below(&rng, 1000);
		size_t bytes = rng_below(&rng, i % 64 == 0 ? 400 * KIB : 9 * KIB);

		heap_free(blocks[at]);
		blocks[at] = filled(bytes);
		if (look_every != 0 && i % look_every == 0)
			expect_bounded(MOST);
	}
	for (size_t i = 0; i < 1000; i++)
		heap_free(blocks[i]);
	heap_free(blocks);
}

/* One size after the other, all freed at random: pages go singly, then whole slabs. */
static void phases(unsigned look_every)
{
	static void *blocks[BLOCKS];
	static const size_t sizes[] = { 100, 1000, 3000, 8000, 20000 };
	struct rng rng = { 5 };

	for (size_t k = 0; k < COUNT(sizes); k++) {
		size_t count = 64 * MIB / sizes[k] < BLOCKS ? 64 * MIB / sizes[k] : BLOCKS;

		for (size_t i = 0; i < count; i++)
			blocks[i] = filled(sizes[k]);
		for (size_t left = count; left > 0; left--) {
			size_t at = rng_below(&rng, left);

			heap_free(blocks[at]);
			blocks[at] = blocks[left - 1];
			if (left % look_every == 0)
				expect_bounded(MOST);
		}
	}
}

static void one_thread(void)
{
	begin("retain_max=8M");
	phases(500);
	mix(1, 30000, 500);
}

static void without_purger(void)
{
	begin("retain_max=8M,background=off");
	phases(500);
	mix(1, 30000, 500);
	CHECK(process_threads(NULL, 0) == 1);
}

/* As the system sees it, without a look that would empty the cache. */
static void resident_bytes(void)
{
	static void *blocks[256 * KIB];
	size_t start, live = COUNT(blocks) * 1008;

	begin("retain_max=8M");
	memset(blocks, 1, sizeof(blocks));
	heap_free(heap_malloc(1));
	start = process_anonymous();
	for (size_t i = 0; i < COUNT(blocks); i++)
		blocks[i] = filled(1000);
	for (size_t i = 0; i < COUNT(blocks); i++) {
		heap_free(blocks[i]);
		live -= 1008;
		/* Slabs end with a rest, and are described: 3%. */
		if (i % 4096 == 0) {
			size_t now = process_anonymous() - start;

			CHECK_THAT(now <= live + live / 32 + MOST + CACHE_OF_CLASS * 1008 + MIB,
			           "%zu KiB with %zu live", now >> 10, live >> 10);
		}
	}
}

static void large_blocks(void)
{
	char *grown;

	begin("retain_max=8M");
	for (size_t size = MIB; size < 100 * MIB; size *= 2) {
		heap_free(filled(size));
		expect_bounded(MOST);
	}
	/* What realloc cuts off is freed too: in the heap, and of a mapping. */
	for (size_t size = 20 * MIB; size < 100 * MIB; size *= 2) {
		grown = heap_realloc(filled(size), 300 * KIB);
		expect_bounded(MOST);
		heap_free(grown);
	}
}

static void *mix_thread(void *running)
{
	static atomic_uint seed;

	mix(seed++, 60000, 0);
	(*(atomic_uint *)running)--;
	return NULL;
}

/* A batch of each thread may be on its way, and what its cache held. */
static void many_threads(void)
{
	atomic_uint running = THREADS;
	pthread_t threads[THREADS];

	begin("retain_max=8M");
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, mix_thread, &running) == 0);
	while (running != 0) {
		expect_bounded(MOST + THREADS * CACHE);
		process_sleep_ms(1);
	}
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	expect_bounded(MOST);
}

/* Nothing may stay: each free gives back its pages. */
static void nothing_retained(void)
{
	begin("retain_max=0");
	mix(1, 5000, 100);
	heap_free(filled(10 * MIB));
	expect_bounded(0);
}

/* Below it nothing happens, as without it. */
static void below_it_nothing_goes(void)
{
	begin("retain_max=8M,background=off");
	for (int i = 0; i < 100; i++)
		heap_free(filled(4 * MIB));
	CHECK(stats().purged_bytes == 0 && stats().free_resident_bytes >= 4 * MIB - 8 * KIB);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "one_thread", one_thread, 60 },
		{ "without_purger", without_purger, 60 },
		{ "resident_bytes", resident_bytes, 60 },
		{ "large_blocks", large_blocks, 60 },
		{ "many_threads", many_threads, 60 },
		{ "nothing_retained", nothing_retained, 60 },
		{ "below_it_nothing_goes", below_it_nothing_goes, 20 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
