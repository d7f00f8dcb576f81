/*
 * No step may be quadratic: prints processor time per operation as a heap grows,
 * and fails only when it grows much faster than caches explain.
 *
 *   linear scatter COUNT   COUNT blocks of 100 bytes, freed in random order, then
 *                          malloc_trim; at COUNT/8, /4, /2 and COUNT
 *   linear sizes COUNT     COUNT free chunks of COUNT/10 sizes in one arena, kept
 *                          apart by live blocks, then taken again by best fit
 *
 * In classic, ptmalloc's own walk along the sizes of a large bin makes `sizes`
 * superlinear: that is a test of the default policy alone.  Layer: tests.
 */
#include <sys/mman.h>
#include <time.h>

#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

#define STEPS  4
#define LEAST  (128u << 10) /* neither slabs nor caches: a chunk of just that size */
#define GROWTH 8.0 /* allowed from the first step to the last, for 8 times the size */

/* Nanoseconds per operation. */
struct cost {
	double take, give, again;
};

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Room for pointers, outside the heap. */
static void **pointers_map(size_t count)
{
	void **pointers = mmap(NULL, count * sizeof(void *), PROT_READ | PROT_WRITE,
	                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	CHECK(pointers != MAP_FAILED);
	return pointers;
}

static void shuffle(void **pointers, size_t count)
{
	struct rng rng = { count };

	for (size_t i = count - 1; i > 0; i--) {
		size_t j = rng_below(&rng, i + 1);
		void *swapped = pointers[i];

		pointers[i] = pointers[j];
		pointers[j] = swapped;
	}
}

static struct cost scatter(size_t count)
{
	void **blocks = pointers_map(count);
	double start = cpu_ns();
	struct cost cost;

	for (size_t i = 0; i < count; i++)
		CHECK((blocks[i] = heap_malloc(100)) != NULL);
	cost.take = cpu_ns() - start;
	shuffle(blocks, count);
	start = cpu_ns();
	for (size_t i = 0; i < count; i++)
		heap_free(blocks[i]);
	cost.give = cpu_ns() - start;
	start = cpu_ns();
	heap_trim(0);
	cost.again = cpu_ns() - start;
	munmap(blocks, count * sizeof(void *));
	return cost;
}

static size_t nth_size(size_t i, size_t count)
{
	return LEAST + i * 7919 % (count / 10) * 16;
}

static struct cost sizes(size_t count)
{
	void **blocks = pointers_map(count), **fences = pointers_map(count);
	struct cost cost;

	for (size_t i = 0; i < count; i++) {
		CHECK((blocks[i] = heap_malloc(nth_size(i, count))) != NULL);
		CHECK((fences[i] = heap_malloc(LEAST)) != NULL);
	}
	shuffle(blocks, count);

	double start = cpu_ns();

	for (size_t i = 0; i < count; i++)
		heap_free(blocks[i]);
	cost.give = cpu_ns() - start;
	/* The first request that no free chunk serves sorts them all into bins. */
	start = cpu_ns();
	heap_free(heap_malloc(4 << 20));
	cost.again = cpu_ns() - start;
	start = cpu_ns();
	for (size_t i = 0; i < count; i++)
		CHECK((blocks[i] = heap_malloc(nth_size(i, count))) != NULL);
	cost.take = cpu_ns() - start;
	for (size_t i = 0; i < count; i++) {
		heap_free(blocks[i]);
		heap_free(fences[i]);
	}
	heap_trim(0);
	munmap(blocks, count * sizeof(void *));
	munmap(fences, count * sizeof(void *));
	return cost;
}

static double cost_print(const char *step, size_t count, struct cost cost)
{
	double n = (double)count;

	dprintf(1, "%10zu  malloc %7.1f ns  free %7.1f ns  %s %7.1f ns\n", count, cost.take / n,
	        cost.give / n, step, cost.again / n);
	return (cost.take + cost.give + cost.again) / n;
}

int main(int argc, char **argv)
{
	size_t largest = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	bool by_size = argc == 3 && strcmp(argv[1], "sizes") == 0;
	double first = 0, last = 0;

	if (largest < 80 || (!by_size && strcmp(argv[1], "scatter") != 0)) {
		dprintf(2, "usage: linear scatter|sizes COUNT\n");
		return 2;
	}
	/* One arena holds all: nothing is mapped by itself. */
	CHECK(heap_mallopt(M_MMAP_MAX, 0) == 1);
	for (size_t step = 0; step < STEPS; step++) {
		size_t count = largest >> (STEPS - 1 - step);

		last = by_size ? cost_print("sorting", count, sizes(count))
		               : cost_print("malloc_trim", count, scatter(count));
		if (step == 0)
			first = last;
	}
	dprintf(1, "time per block grew %.1f times\n", last / first);
	return last / first > GROWTH;
}
