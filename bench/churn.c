/*
 * churn: the workload that all of bench/ but the curve measures.  Layer: a program
 * of its own that links libc alone; the runner preloads the allocator.
 *
 *   churn SIZE BATCH PAIRS
 *
 * takes BATCH blocks of SIZE bytes (16 or more), gives them back in the order they
 * came, and does so until PAIRS blocks were taken, at least one batch.  BATCH 1 is
 * the malloc+free pair, a batch of gigabytes is the first article's program.  Then
 * it writes "done" and waits for the end of its stdin, so that it can be looked at
 * while it is idle.
 *
 * The blocks are a list through their own first words: the program has no memory
 * beside them, and each block is touched, as a program's would be.
 *
 * Built with CHURN_EMPTY it takes the same block each time and calls no
 * allocator: what the loops themselves cost.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef CHURN_EMPTY

static void *block_take(size_t size)
{
	static void *block[2];

	(void)size;
	return block;
}

static void block_give(void *block)
{
	(void)block;
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

/* Each block's first word points to the next block. */
static void churn(size_t size, size_t batch)
{
	void *volatile first = NULL;
	void *block = (void *)&first, *next;

	for (size_t i = 0; i < batch; i++) {
		next = block_take(size);
		if (next == NULL)
			fail(1, "churn: no memory\n");
		*(void *volatile *)block = next;
		block = next;
	}
	next = first;
	for (size_t i = 0; i < batch; i++) {
		block = next;
		next = *(void *volatile *)block;
		block_give(block);
	}
}

int main(int argc, char **argv)
{
	size_t size = argc == 4 ? strtoul(argv[1], NULL, 10) : 0;
	size_t batch = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	size_t pairs = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	char byte;

	if (size < 2 * sizeof(void *) || batch == 0 || pairs == 0)
		fail(2, "usage: churn SIZE BATCH PAIRS\n");
	for (size_t taken = 0; taken < pairs; taken += batch)
		churn(size, batch);
	(void)!write(1, "done\n", 5);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
