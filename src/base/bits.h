/*
 * Alignment arithmetic.  Layer: base.
 */
#ifndef CEDE_BASE_BITS_H
#define CEDE_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool is_power_of_two(size_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* `to` is a power of two. */
static inline uintptr_t align_up(uintptr_t n, size_t to)
{
	return (n + to - 1) & ~(uintptr_t)(to - 1);
}

static inline uintptr_t align_down(uintptr_t n, size_t to)
{
	return n & ~(uintptr_t)(to - 1);
}

static inline size_t size_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

#endif
