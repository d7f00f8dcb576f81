/*
 * churn: blocks of one size, taken and given back in batches.  Layer: a program of
 * its own that links libc alone; the runner preloads the allocator.
 *
 *   churn SIZE BATCH PAIRS
 *
 * takes BATCH blocks of SIZE bytes (16 or more), gives them back in the order they
 * came, and does so until PAIRS blocks were taken, at least one batch.  BATCH 1 is
 * the malloc+free pair, a batch of gigabytes is the first article's program.
 *
 * The blocks are a list through their own first words: the program has no memory
 * beside them, and each block is touched, as a program's would be.
 *
 * Built with CHURN_EMPTY it takes the same block each time and calls no allocator:
 * what the loops themselves cost.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct block {
	struct block *next;
	size_t number;
};

#ifdef CHURN_EMPTY

/* Calls that do nothing, so that the cost of a call is the loop's. */
static __attribute__((noinline)) void *block_take(size_t size)
{
	static struct block block;
	void *taken = &block;

	__asm__ volatile("" : "+r"(taken), "+r"(size) : : "memory");
	return taken;
}

static __attribute__((noinline)) void block_give(void *block)
{
	__asm__ volatile("" : "+r"(block) : : "memory");
}

#else

#define block_take malloc
#define block_give free

#endif

static void fail(int status, const char *text)
{
	(void)!write(2, text, strlen(text));
	_exit(status);
}

/* Numbers the blocks from `first` and returns the sum of the numbers found in them,
 * which tells whether each block was one of its own.  The last time it says when it holds
 * the most (measure.c). */
static size_t churn(size_t size, size_t batch, size_t first, bool is_last)
{
	struct block head, *last = &head, *next;
	size_t sum = 0;

	for (size_t i = 0; i < batch; i++) {
		struct block *block = block_take(size);

		if (block == NULL)
			fail(1, "churn: no memory\n");
		block->number = first + i;
		last->next = block;
		last = block;
	}
	if (is_last)
		raise(SIGURG);
	next = head.next;
	for (size_t i = 0; i < batch; i++) {
		struct block *block = next;

		next = block->next;
		sum += block->number;
		block_give(block);
	}
	return sum;
}

int main(int argc, char **argv)
{
	size_t size = argc == 4 ? strtoul(argv[1], NULL, 10) : 0;
	size_t batch = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	size_t pairs = argc == 4 ? strtoul(argv[3], NULL, 10) : 0, sum = 0;

	if (size < sizeof(struct block) || batch == 0 || pairs == 0)
		fail(2, "usage: churn SIZE BATCH PAIRS\n");
	for (size_t taken = 0; taken < pairs; taken += batch)
		sum += churn(size, batch, taken, taken + batch >= pairs);
	dprintf(1, "numbers add up to %zu\n", sum);
	return 0;
}
