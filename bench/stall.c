/*
 * stall: what giving back costs who goes on.  Layer: a program of its own that links libc
 * alone; the runner preloads the allocator.
 *
 *   stall calls MIB MS     frees MIB of blocks of 100 bytes to 16 KiB (0: none); from then
 *       on, for MS, takes and gives back blocks of 24 B to 48 KiB at random, and times each
 *       call.  Prints, for malloc and for free: calls, and nanoseconds at the median, 99.9%,
 *       99.99% and the most
 *   stall pool MIB MS COUNT   COUNT times MIB of blocks of 4 KiB are taken, written to
 *       and given back, once in MS.  Prints seconds of processor time, user and system,
 *       and page faults, of all of the process after the first round
 */
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "block.h"
#include "support/process.h"

#define MIB   ((size_t)1 << 20)
#define SLOTS 20000

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- calls --- */

/* 32 to a doubling: a bucket's start is at most 3% below what is in it. */
#define STEPS_LOG 5
#define BUCKETS   (64 << STEPS_LOG)

struct times {
	uint64_t counts[BUCKETS], calls, most;
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned log = 63 - (unsigned)__builtin_clzl(ns | 1);

	if (log < STEPS_LOG)
		return (unsigned)ns;
	return ((log - STEPS_LOG + 1) << STEPS_LOG) + (unsigned)(ns >> (log - STEPS_LOG)) -
	       (1u << STEPS_LOG);
}

static uint64_t bucket_start(unsigned bucket)
{
	unsigned log = bucket >> STEPS_LOG;
	uint64_t step = bucket & ((1u << STEPS_LOG) - 1);

	return log == 0 ? step : (step + (1u << STEPS_LOG)) << (log - 1);
}

static void times_add(struct times *times, uint64_t ns)
{
	times->counts[bucket_of(ns)]++;
	times->calls++;
	if (ns > times->most)
		times->most = ns;
}

/* What `share` of the calls took at most. */
static uint64_t times_at(const struct times *times, double share)
{
	uint64_t left = (uint64_t)((double)times->calls * share);
	unsigned bucket = 0;

	for (; bucket < BUCKETS - 1 && times->counts[bucket] <= left; bucket++)
		left -= times->counts[bucket];
	return bucket_start(bucket);
}

static void times_print(const char *name, const struct times *times)
{
	dprintf(1, "%s %lu %lu %lu %lu %lu\n", name, times->calls, times_at(times, 0.5),
	        times_at(times, 0.999), times_at(times, 0.9999), times->most);
}

/* In the arena whose calls are timed: whoever gives it back needs that arena's lock. */
static void fill_and_free(size_t left)
{
	struct rng rng = { 1 };
	struct block *list = NULL;

	while (left > 0) {
		struct block *block = block_take(size_skewed(&rng, 100, 7));
		size_t size = block_size(block);

		memset(block + 1, 1, size - sizeof(*block) - 1);
		block->next = list;
		list = block;
		left -= size < left ? size : left;
	}
	while (list != NULL) {
		struct block *next = list->next;

		block_give(list);
		list = next;
	}
}

static struct times takes, gives;

static void calls_time(size_t ms)
{
	struct block **slots = calloc(SLOTS, sizeof(*slots));
	uint64_t end = now_ns() + ms * 1000000;
	struct rng rng = { 2 };

	CHECK(slots != NULL);
	for (uint64_t before = 0, between, after = 0; after < end;) {
		struct block **slot = &slots[rng_below(&rng, SLOTS)];
		size_t size = size_skewed(&rng, BLOCK_SMALLEST, 11);
		struct block *old = *slot;

		before = now_ns();
		*slot = block_take(size);
		between = now_ns();
		times_add(&takes, between - before);
		after = between;
		if (old == NULL)
			continue;
		block_give(old);
		after = now_ns();
		times_add(&gives, after - between);
	}
}

static void calls(size_t mib, size_t ms)
{
	fill_and_free(mib * MIB);
	calls_time(ms);
	times_print("malloc", &takes);
	times_print("free", &gives);
}

/* --- pool --- */

static struct rusage usage_now(void)
{
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage;
}

static double seconds_of(const struct rusage *usage)
{
	return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
	       (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

static void pool(size_t mib, size_t ms, size_t count)
{
	size_t blocks = mib * MIB / 4096;
	void **held = calloc(blocks, sizeof(*held));
	struct rusage first = { 0 }, last;

	CHECK(held != NULL);
	for (size_t round = 0; round <= count; round++) {
		for (size_t i = 0; i < blocks; i++) {
			held[i] = malloc(4096);
			CHECK(held[i] != NULL);
			memset(held[i], 1, 4096);
		}
		for (size_t i = 0; i < blocks; i++)
			free(held[i]);
		process_sleep_ms((unsigned)ms);
		if (round == 0)
			first = usage_now();
	}
	last = usage_now();
	dprintf(1, "%.6f %ld\n", seconds_of(&last) - seconds_of(&first),
	        last.ru_minflt - first.ru_minflt);
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "calls") && argc == 4)
		calls(strtoul(argv[2], NULL, 10), argument(argc, argv, 3));
	else if (!strcmp(pattern, "pool"))
		pool(argument(argc, argv, 2), argument(argc, argv, 3), argument(argc, argv, 4));
	else
		CHECK_THAT(false, "no such pattern: %s", pattern);
	return 0;
}
