#include "return/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "return/rest.h"
#include "support/check.h"

void blocks_make(struct blocks *blocks, size_t low, size_t high, size_t bytes)
{
	/* Chance may make more of them than the mean size does. */
	size_t mean = (low + high) / 2, room = bytes / mean + bytes / mean / 8 + 64;

	*blocks = (struct blocks){ rest_table(room * sizeof(struct block)), 0, room, { 1 } };
}

void blocks_take(struct blocks *blocks, size_t low, size_t high, size_t bytes)
{
	for (size_t taken = 0, size; taken + high <= bytes; taken += size) {
		size = low + rng_below(&blocks->rng, high - low + 1);
		CHECK(blocks->count < blocks->room);
		struct block *block = &blocks->items[blocks->count++];

		*block = (struct block){ malloc(size), size };
		CHECK(block->start != NULL);
		memset(block->start, 'a', size);
	}
}

void blocks_shuffle(struct blocks *blocks)
{
	for (size_t left = blocks->count; left > 1; left--) {
		size_t pick = rng_below(&blocks->rng, left);
		struct block last = blocks->items[left - 1];

		blocks->items[left - 1] = blocks->items[pick];
		blocks->items[pick] = last;
	}
}

void blocks_free(struct blocks *blocks, size_t keep_one_in)
{
	for (size_t i = 0; i < blocks->count; i++) {
		struct block *block = &blocks->items[i];

		if (keep_one_in != 0 && rng_below(&blocks->rng, keep_one_in) == 0)
			rest_keep(block->start, block->size);
		else
			free(block->start);
	}
	blocks->count = 0;
}
