/*
 * Random numbers, and block contents made from a number, so that a test keeps
 * eight bytes to know every byte of a block.  Layer: tests; no heap.
 */
#ifndef TESTS_SUPPORT_PATTERN_H
#define TESTS_SUPPORT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* Uniform enough in 0..limit-1; limit > 0. */
static inline uint64_t rng_below(struct rng *rng, uint64_t limit)
{
	return rng_next(rng) % limit;
}

/* Fills `size` bytes at `block`, which is 8-byte aligned. */
void pattern_fill(void *block, size_t size, uint64_t seed);

/* Bytes from the start that hold the pattern of `seed`: `size` when all do. */
size_t pattern_match(const void *block, size_t size, uint64_t seed);

#endif
