/*
 * A block that knows its size and bears a mark at its end, so that a workload sees
 * when a block was given twice, overlapped or overwritten.  Layer: bench; header
 * only.  Whoever takes a block owns it until block_give.
 *
 * I1: a held block's `seal` is its size mixed with its address, and its last byte
 *     is the seal's low byte (block_give checks the second).
 */
#ifndef BENCH_BLOCK_H
#define BENCH_BLOCK_H

#include <stdlib.h>
#include <string.h>

#include "support/check.h"
#include "support/pattern.h"

struct block {
	uint64_t seal;
	struct block *next; /* the owner's, for lists */
};

#define BLOCK_SMALLEST 24 /* the two words and a byte of its own for the mark */

static inline struct block *block_sealed(struct block *block, size_t size)
{
	CHECK(block != NULL);
	block->seal = size ^ (uintptr_t)block;
	((unsigned char *)block)[size - 1] = (unsigned char)block->seal;
	return block;
}

/* A block of `size` bytes, BLOCK_SMALLEST or more; ends the program without memory. */
static inline struct block *block_take(size_t size)
{
	return block_sealed(malloc(size), size);
}

/* The same from calloc, whose first word and last byte must be zero. */
static inline struct block *block_take_clear(size_t size)
{
	struct block *block = calloc(1, size);

	CHECK(block != NULL && block->seal == 0 && ((unsigned char *)block)[size - 1] == 0);
	return block_sealed(block, size);
}

/* The size that the block itself remembers. */
static inline size_t block_size(const struct block *block)
{
	return block->seal ^ (uintptr_t)block;
}

/* Gives the block back and returns its size. */
static inline size_t block_give(struct block *block)
{
	size_t size = block_size(block);

	CHECK(((unsigned char *)block)[size - 1] == (unsigned char)block->seal);
	free(block);
	return size;
}

/* To begin a struct of which each thread has one, in a row. */
#define LINES_OF_ITS_OWN _Alignas(128)

/*
 * A row of `count` structs of `size` bytes that begin so, zeroed; free() ends it.  Did two
 * threads write to one cache line here, that would cost more than the blocks, or nothing,
 * by where the allocator happens to put the row.
 */
static inline void *row_take(size_t count, size_t size)
{
	void *row = aligned_alloc(128, count * size);

	CHECK(row != NULL && size % 128 == 0);
	return memset(row, 0, count * size);
}

/* From `smallest` up to 2^doublings times that, each doubling half as often as the
 * one before: small blocks are many, and every doubling holds about as many bytes. */
static inline size_t size_skewed(struct rng *rng, size_t smallest, unsigned doublings)
{
	uint64_t coins = rng_next(rng) | (1ul << (doublings - 1));
	size_t low = smallest << __builtin_ctzl(coins);

	return low + rng_below(rng, low);
}

/* A workload's number from the command line; ends the program when there is none. */
static inline size_t argument(int argc, char **argv, int index)
{
	size_t number = index < argc ? strtoul(argv[index], NULL, 10) : 0;

	CHECK_THAT(number > 0, "argument %d must be a number above 0", index);
	return number;
}

/* What the workload did, the same under every allocator. */
static inline void report(uint64_t bytes)
{
	dprintf(1, "%lu bytes given back\n", bytes);
}

#endif
