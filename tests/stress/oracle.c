/*
 * A long random run of the whole API beside an oracle that knows, of each live
 * block, where it is, how long and what is in it.  Every answer is checked:
 * contents, alignment, overlap with any other block, usable size.
 *
 *   oracle [--seed N] [--steps N] [--threads N] [--blocks N]
 *
 * The seed (from the system unless given) is printed; with one thread the same
 * seed makes the same calls.  The policy comes from CEDE_OPTIONS.
 *
 * Layer: tests.  Everything of the oracle's own is static or mapped, so that the
 * heap under test serves the run alone.  Blocks are owned by one thread at a time;
 * `shelf`, where threads leave blocks for each other, has its own lock.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "stress/spans.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

#define MAX_THREADS 64
#define SHELF_SLOTS 64
#define PAGE        4096u

struct block {
	unsigned char *start; /* NULL: a free slot */
	size_t asked;
	size_t usable;
	uint64_t seed; /* of its contents, which fill all of `usable` */
};

struct worker {
	pthread_t thread;
	struct rng rng;
	struct block *blocks;
	size_t limit; /* slots in `blocks` */
	unsigned long steps;
	bool knobs; /* mallopt is not for programs with threads */
};

static struct {
	pthread_mutex_t lock;
	struct block slots[SHELF_SLOTS];
} shelf = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Sizes as programs ask for them: mostly small, now and then very large. */
static size_t random_size(struct rng *rng)
{
	uint64_t kind = rng_below(rng, 1000);

	if (kind < 500)
		return rng_below(rng, 129);
	if (kind < 800)
		return rng_below(rng, 1 << 10);
	if (kind < 957)
		return rng_below(rng, 32 << 10);
	if (kind < 997)
		return rng_below(rng, 256 << 10);
	return rng_below(rng, 4 << 20);
}

static size_t random_alignment(struct rng *rng)
{
	return (size_t)8 << rng_below(rng, rng_below(rng, 20) == 0 ? 14 : 8);
}

static void block_verify(const struct block *b, const char *when)
{
	size_t good = pattern_match(b->start, b->usable, b->seed);

	CHECK_THAT(good == b->usable, "%s: block %p of %zu (usable %zu) changed at byte %zu", when,
	           (const void *)b->start, b->asked, b->usable, good);
	CHECK_THAT(heap_usable_size(b->start) == b->usable,
	           "%s: block %p of %zu: usable %zu, was %zu", when, (const void *)b->start,
	           b->asked, heap_usable_size(b->start), b->usable);
}

/* A block that the heap has just given out. */
static void block_adopt(struct worker *w, struct block *b, void *start, size_t asked,
                        size_t alignment)
{
	CHECK_THAT(start != NULL, "no memory for %zu bytes", asked);
	CHECK_THAT((uintptr_t)start % alignment == 0, "%p is not aligned to %zu", start, alignment);
	b->start = start;
	b->asked = asked;
	b->usable = heap_usable_size(start);
	b->seed = rng_next(&w->rng);
	CHECK_THAT(b->usable >= asked, "%p: %zu usable of %zu", start, b->usable, asked);
	spans_add((uintptr_t)start, b->usable);
	pattern_fill(start, b->usable, b->seed);
}

static void block_drop(struct block *b)
{
	block_verify(b, "free");
	spans_remove((uintptr_t)b->start, b->usable);
	heap_free(b->start);
	b->start = NULL;
}

static void block_take_zeroed(struct worker *w, struct block *b)
{
	size_t count = 1 + rng_below(&w->rng, 16);
	size_t each = random_size(&w->rng) / count;
	unsigned char *start = heap_calloc(count, each);

	for (size_t i = 0; i < count * each; i++)
		CHECK_THAT(start[i] == 0, "calloc(%zu, %zu): byte %zu is not 0", count, each, i);
	block_adopt(w, b, start, count * each, 16);
}

static void block_take_aligned(struct worker *w, struct block *b)
{
	size_t alignment = random_alignment(&w->rng), size = random_size(&w->rng);
	size_t effective = alignment < 16 ? 16 : alignment;
	void *start;

	switch (rng_below(&w->rng, 8)) {
	case 0:
	case 1:
		start = heap_memalign(alignment, size);
		break;
	case 2:
	case 3:
		start = heap_aligned_alloc(alignment, size);
		break;
	case 4:
	case 5:
		CHECK(heap_posix_memalign(&start, alignment, size) == 0);
		break;
	case 6:
		effective = PAGE;
		start = heap_valloc(size);
		break;
	default:
		effective = PAGE;
		size = (size + PAGE - 1) / PAGE * PAGE;
		start = heap_pvalloc(size);
		break;
	}
	block_adopt(w, b, start, size, effective);
}

static void block_resize(struct worker *w, struct block *b)
{
	size_t size = random_size(&w->rng) + 1, kept;
	struct block old = *b;
	void *start;

	block_verify(&old, "realloc");
	spans_remove((uintptr_t)old.start, old.usable);
	if (rng_below(&w->rng, 8) == 0)
		start = heap_reallocarray(old.start, 1, size);
	else
		start = heap_realloc(old.start, size);
	CHECK_THAT(start != NULL, "realloc(%p, %zu) failed", (void *)old.start, size);
	kept = heap_usable_size(start);
	kept = kept < old.usable ? kept : old.usable;
	/* The last word of the old pattern may be cut: compare whole words. */
	kept -= kept % sizeof(uint64_t);
	CHECK_THAT(pattern_match(start, kept, old.seed) == kept,
	           "realloc(%p, %zu) to %zu lost contents", (void *)old.start, old.asked, size);
	block_adopt(w, b, start, size, 16);
}

/* Swaps a block with one that some thread has left: others will free ours. */
static void block_exchange(struct worker *w, struct block *b)
{
	struct block *slot = &shelf.slots[rng_below(&w->rng, SHELF_SLOTS)];
	struct block mine = *b;

	pthread_mutex_lock(&shelf.lock);
	*b = *slot;
	*slot = mine;
	pthread_mutex_unlock(&shelf.lock);
}

static void heap_turn_a_knob(struct worker *w)
{
	static const struct {
		int param, value;
	} knobs[] = {
		{ M_MXFAST, 0 },
		{ M_MXFAST, 64 },
		{ M_MXFAST, 128 },
		{ M_MXFAST, 160 },
		{ M_MMAP_THRESHOLD, 128 << 10 },
		{ M_MMAP_THRESHOLD, 4 << 10 },
		{ M_MMAP_THRESHOLD, 1 << 20 },
		{ M_TRIM_THRESHOLD, 64 },
		{ M_TRIM_THRESHOLD, 128 << 10 },
		{ M_TOP_PAD, 0 },
		{ M_TOP_PAD, 128 << 10 },
		{ M_MMAP_MAX, 0 },
		{ M_MMAP_MAX, 65536 },
		{ M_PERTURB, 0x5a },
		{ M_PERTURB, 0 },
	};
	size_t i = rng_below(&w->rng, sizeof(knobs) / sizeof(knobs[0]));

	CHECK(heap_mallopt(knobs[i].param, knobs[i].value) == 1);
}

static void worker_step(struct worker *w)
{
	struct block *b = &w->blocks[rng_below(&w->rng, w->limit)];
	uint64_t kind = rng_below(&w->rng, 10000);

	if (kind < 5) {
		int released = heap_trim(rng_below(&w->rng, 2) * (64 << 10));

		CHECK(released == 0 || released == 1);
	} else if (kind < 10 && w->knobs) {
		heap_turn_a_knob(w);
	} else if (kind < 300) {
		block_exchange(w, b);
	} else if (b->start != NULL) {
		if (kind < 3000)
			block_resize(w, b);
		else if (kind < 4000)
			block_verify(b, "look");
		else
			block_drop(b);
	} else if (kind < 2000) {
		block_take_zeroed(w, b);
	} else if (kind < 3500) {
		block_take_aligned(w, b);
	} else {
		size_t size = random_size(&w->rng);

		block_adopt(w, b, heap_malloc(size), size, 16);
	}
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	for (unsigned long i = 0; i < w->steps; i++)
		worker_step(w);
	for (size_t i = 0; i < w->limit; i++) {
		if (w->blocks[i].start != NULL)
			block_drop(&w->blocks[i]);
	}
	return NULL;
}

static void oracle_run(uint64_t seed, unsigned long steps, unsigned long threads, size_t blocks)
{
	static struct worker workers[MAX_THREADS];
	size_t bytes = threads * blocks * sizeof(struct block);
	struct block *slots =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(slots != MAP_FAILED);
	for (unsigned long i = 0; i < threads; i++) {
		workers[i] = (struct worker){
			.rng = { seed + i },
			.blocks = slots + i * blocks,
			.limit = blocks,
			.steps = steps / threads,
			.knobs = threads == 1,
		};
	}
	/* One thread is the main thread: a run that makes no thread at all is a case. */
	if (threads == 1) {
		worker_run(&workers[0]);
	} else {
		for (unsigned long i = 0; i < threads; i++) {
			struct worker *w = &workers[i];

			CHECK(pthread_create(&w->thread, NULL, worker_run, w) == 0);
		}
		for (unsigned long i = 0; i < threads; i++)
			CHECK(pthread_join(workers[i].thread, NULL) == 0);
	}
	for (size_t i = 0; i < SHELF_SLOTS; i++) {
		if (shelf.slots[i].start != NULL)
			block_drop(&shelf.slots[i]);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "steps", required_argument, NULL, 'n' },
		{ "threads", required_argument, NULL, 't' },
		{ "blocks", required_argument, NULL, 'b' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned long steps = 200000, threads = 1, blocks = 512;
	uint64_t seed = 0;
	int option;

	CHECK(getrandom(&seed, 4, 0) == 4);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long value = option == '?' ? 0 : strtoul(optarg, NULL, 0);

		switch (option) {
		case 's':
			seed = value;
			break;
		case 'n':
			steps = value;
			break;
		case 't':
			threads = value;
			break;
		case 'b':
			blocks = value;
			break;
		default:
			return 2;
		}
	}
	if (threads < 1 || threads > MAX_THREADS || blocks < 1 ||
	    threads * blocks + SHELF_SLOTS > SPANS_MAX) {
		dprintf(2, "oracle: threads 1..%d, threads * blocks at most %d\n", MAX_THREADS,
		        SPANS_MAX - SHELF_SLOTS);
		return 2;
	}
	dprintf(1, "seed %lu, %lu steps, %lu threads of %lu blocks\n", seed, steps, threads,
	        blocks);

	size_t before = heap_mallinfo2().uordblks + heap_mallinfo2().hblkhd;

	oracle_run(seed, steps, threads, blocks);

	size_t after = heap_mallinfo2().uordblks + heap_mallinfo2().hblkhd;

	/* libc's own blocks for threads live in the heap too, unless it is only ours. */
	if (threads == 1)
		CHECK_THAT(after == before, "%zu bytes in use at the end, %zu at the start", after,
		           before);
	return 0;
}
