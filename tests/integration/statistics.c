/*
 * The statistics against a model: threads take and free random blocks, of one another
 * too, and when they rest mallinfo2, cede_stats and the sum of what they hold must
 * agree to the byte.  Layer: tests.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

#include "cede/cede.h"
#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"
#include "support/process.h"

#define SLAB_LARGEST 8192
#define THREADS_MOST 4
#define SLOTS        2000 /* of a thread */
#define ROUNDS       24
#define MAPPED       ((size_t)40 << 20)
#define IS_MMAPPED   2u

static char *slots[THREADS_MOST * SLOTS];
static size_t held[THREADS_MOST]; /* bytes, by who took; modulo 2^64 by who freed */
static unsigned threads, round_now;
static pthread_barrier_t begun, ended;

static struct cede_stats stats(void)
{
	int (*get)(struct cede_stats *, size_t);
	struct cede_stats now;

#ifdef TESTS_PREFIXED
	get = cede_stats;
#else
	*(void **)&get = dlsym(RTLD_DEFAULT, "cede_stats");
#endif
	CHECK(get != NULL && get(&now, sizeof(now)) == 0);
	return now;
}

/* What a block counts as: a chunk has a header of one word, one mapped by itself of two. */
static size_t counted(char *block)
{
	size_t usable = heap_usable_size(block);

	if (heap_is_default() && usable <= SLAB_LARGEST)
		return usable;
	return usable + (((size_t *)block)[-1] & IS_MMAPPED ? 2 : 1) * sizeof(size_t);
}

static size_t random_size(struct rng *rng)
{
	uint64_t kind = rng_below(rng, 100);

	if (kind < 70)
		return rng_below(rng, 500);
	if (kind < 95)
		return rng_below(rng, SLAB_LARGEST + 1);
	return SLAB_LARGEST + 1 + rng_below(rng, 100000);
}

static char *take(struct rng *rng)
{
	size_t size = random_size(rng);
	char *block = rng_below(rng, 16) == 0 && size <= SLAB_LARGEST
	                      ? heap_memalign((size_t)16 << rng_below(rng, 9), size)
	                      : heap_malloc(size);

	CHECK(block != NULL);
	return memset(block, 1, size);
}

/* In each round the slots of another thread, as it left them. */
static void change_slots(unsigned id)
{
	size_t first = (id + round_now) % threads * SLOTS;
	struct rng rng = { id + 100 * round_now };
	uint64_t share = rng_below(&rng, 100);

	for (size_t n = 0; n < SLOTS; n++) {
		char **slot = &slots[first + rng_below(&rng, SLOTS)];

		if (*slot != NULL) {
			held[id] -= counted(*slot);
			heap_free(*slot);
			*slot = NULL;
		}
		if (rng_below(&rng, 100) < share) {
			*slot = take(&rng);
			held[id] += counted(*slot);
		}
	}
}

static void free_slots(unsigned id)
{
	for (size_t n = id * SLOTS; n < (id + 1) * SLOTS; n++) {
		if (slots[n] != NULL)
			held[id] -= counted(slots[n]);
		heap_free(slots[n]);
		slots[n] = NULL;
	}
}

static void *work(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;

	/* Its arena is there before anything is counted. */
	heap_free(heap_malloc(1));
	for (unsigned round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&begun);
		if (round + 1 < ROUNDS)
			change_slots(id);
		else
			free_slots(id);
		pthread_barrier_wait(&ended);
	}
	return NULL;
}

static size_t live(void)
{
	struct mallinfo2 info = heap_mallinfo2();

	CHECK(info.arena == info.uordblks + info.fordblks);
	return info.uordblks + info.hblkhd;
}

/* The purger may be emptying a cache just now: then it takes a moment. */
static void becomes(size_t expected)
{
	for (int i = 0; i < 500 && (live() != expected || stats().live_bytes != expected); i++)
		process_sleep_ms(10);
	CHECK_THAT(live() == expected, "live are %zu and not %zu bytes", live(), expected);
	CHECK(stats().live_bytes == expected);
}

/* The purger may be giving back just now: then it takes a moment. */
static void agree_with_mallinfo(void)
{
	struct mallinfo2 info = { 0 };
	struct cede_stats s = { 0 };

	for (int i = 0; i < 500; i++) {
		info = heap_mallinfo2();
		s = stats();
		if (info.fordblks == s.free_bytes && info.arena + info.hblkhd == s.system_bytes)
			break;
		process_sleep_ms(10);
	}
	CHECK(info.fordblks == s.free_bytes && info.arena + info.hblkhd == s.system_bytes);
	CHECK(info.hblks == s.mapped_blocks && info.hblkhd == s.mapped_bytes);
}

static void agree(void)
{
	struct cede_stats s = stats();

	agree_with_mallinfo();
	CHECK(s.live_bytes + s.free_bytes == s.system_bytes);
	CHECK(s.free_resident_bytes <= s.free_bytes && s.system_peak_bytes >= s.live_bytes);
	CHECK(s.slab_live_bytes <= s.live_bytes && s.slab_bytes <= s.system_bytes);
	CHECK(s.slab_live_bytes <= s.slab_resident_bytes && s.slab_resident_bytes <= s.slab_bytes);
	CHECK((s.slab_bytes != 0) == (s.slab_record_bytes != 0));
	CHECK(s.slab_live_bytes + s.slab_free_resident_bytes <= s.slab_resident_bytes);
	CHECK(s.slab_free_resident_bytes + s.spare_bytes <= s.free_resident_bytes);
	CHECK(s.free_resident_bytes + s.pinned_bytes <= s.free_bytes);
	CHECK(s.cached_bytes <= s.live_bytes && (s.cached_bytes != 0) == (s.caching_threads != 0));
	CHECK(s.refaulted_bytes <= s.purged_bytes);
	CHECK((s.purge_passes != 0) == (s.purge_ns != 0));
	if (heap_is_default())
		return;
	CHECK(s.slab_bytes == 0 && s.slab_free_blocks == 0 && s.slab_free_resident_bytes == 0);
	CHECK(s.pinned_bytes == 0 && s.spare_bytes == 0 && s.caching_threads == 0);
	CHECK(s.refaulted_bytes == 0 && s.purged_bytes == 0);
}

static void run_threads(unsigned count)
{
	pthread_t ids[THREADS_MOST];
	size_t before, sum;

	threads = count;
	pthread_barrier_init(&begun, NULL, count + 1);
	pthread_barrier_init(&ended, NULL, count + 1);
	for (unsigned i = 0; i < count; i++)
		CHECK(pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)i) == 0);
	/* They wait, and have what they need for it. */
	process_sleep_ms(100);
	before = live();
	for (round_now = 0; round_now < ROUNDS; round_now++) {
		pthread_barrier_wait(&begun);
		pthread_barrier_wait(&ended);
		sum = before;
		for (unsigned i = 0; i < count; i++)
			sum += held[i];
		becomes(sum);
		agree();
		if (round_now % 3 == 2)
			(void)heap_trim(0);
	}
	CHECK(sum == before);
	for (unsigned i = 0; i < count; i++)
		pthread_join(ids[i], NULL);
}

static void one_thread(void)
{
	run_threads(1);
}

static void some_threads(void)
{
	run_threads(THREADS_MOST);
}

static void mapped_blocks(void)
{
	size_t before = live();
	struct mallinfo2 was = heap_mallinfo2(), is;
	char *block = heap_malloc(MAPPED);

	CHECK(block != NULL);
	becomes(before + counted(block));
	is = heap_mallinfo2();
	CHECK(is.hblks == was.hblks + 1 && is.uordblks == was.uordblks);
	heap_free(block);
	becomes(before);
	agree();
}

/* Slabs and all go when nothing is live in them: little of the system's memory stays. */
static void nothing_stays(void)
{
	enum { COUNT = 20000 };
	struct cede_stats before = stats(), most, after;
	static char *blocks[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		blocks[i] = memset(heap_malloc(i % 700), 1, i % 700);
	most = stats();
	CHECK(most.system_bytes >= before.system_bytes + COUNT * 300);
	for (size_t i = 0; i < COUNT; i++)
		heap_free(blocks[i]);
	becomes(before.live_bytes);
	(void)heap_trim(0);
	/* A second time, for what the purger had in its hands. */
	(void)heap_trim(0);
	after = stats();
	agree();
	if (heap_is_default())
		CHECK(after.slab_bytes <= before.slab_bytes + (64 << 10) && after.free_resident_bytes == 0);
}

/* Small blocks, chunks and mapped ones: given back, then as much of each again. */
static void wanted_again(void)
{
	enum { SMALL = 4000, LARGE = 40 };
	static char *small[SMALL], *large[LARGE];
	size_t bytes = SMALL * 1000 + LARGE * 100000 + MAPPED, again;
	char *block;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < SMALL; i++)
			small[i] = memset(heap_malloc(1000), 1, 1000);
		for (size_t i = 0; i < LARGE; i++)
			large[i] = memset(heap_malloc(100000), 1, 100000);
		block = memset(heap_malloc(MAPPED), 1, MAPPED);
		if (round == 1)
			break;
		/* Else the break falls, and what it gives is new. */
		CHECK(heap_malloc(100000) != NULL);
		again = stats().refaulted_bytes;
		CHECK(again <= bytes / 100);
		for (size_t i = 0; i < SMALL; i++)
			heap_free(small[i]);
		for (size_t i = 0; i < LARGE; i++)
			heap_free(large[i]);
		heap_free(block);
		(void)heap_trim(0);
		/* A second time, for what the purger had in its hands. */
		(void)heap_trim(0);
	}
	again = stats().refaulted_bytes - again;
	CHECK_THAT(again <= bytes + bytes / 50 && (!heap_is_default() || again >= bytes - bytes / 50),
	           "%zu of %zu bytes were wanted again", again, bytes);
	agree();
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "one_thread", one_thread, 60 },
		{ "some_threads", some_threads, 60 },
		{ "mapped_blocks", mapped_blocks, 20 },
		{ "nothing_stays", nothing_stays, 20 },
		{ "wanted_again", wanted_again, 20 },
	};

	return cases_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
