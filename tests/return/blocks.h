/*
 * Many blocks: taken, written to and freed in some order.  Layer: tests.  Their table
 * is from rest_table, so that it is no block itself.
 */
#ifndef TESTS_RETURN_BLOCKS_H
#define TESTS_RETURN_BLOCKS_H

#include <stddef.h>

#include "support/pattern.h"

struct block {
	char *start;
	size_t size;
};

struct blocks {
	struct block *items;
	size_t count, room;
	struct rng rng;
};

/* A table for as many blocks of `low` to `high` bytes as `bytes` hold. */
void blocks_make(struct blocks *blocks, size_t low, size_t high, size_t bytes);

/* Takes blocks of `low` to `high` bytes until they are `bytes`, and fills them. */
void blocks_take(struct blocks *blocks, size_t low, size_t high, size_t bytes);

/* Into random order. */
void blocks_shuffle(struct blocks *blocks);

/* Frees all but one in `keep_one_in`, chosen at random, which go to rest_keep; 0: all. */
void blocks_free(struct blocks *blocks, size_t keep_one_in);

#endif
