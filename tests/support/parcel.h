/*
 * A block whose first words say how to check the rest, so that any thread, or a child,
 * can check it when it frees it.  Layer: tests; header only, for heap.h gives the heap's
 * functions another name in each program.
 */
#ifndef TESTS_SUPPORT_PARCEL_H
#define TESTS_SUPPORT_PARCEL_H

#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

struct parcel {
	size_t size; /* of contents */
	uint64_t seed;
	uint64_t contents[];
};

/* Makes a parcel of any block of that many bytes and its two words. */
static inline struct parcel *parcel_fill(struct rng *rng, void *block, size_t size)
{
	struct parcel *parcel = block;

	CHECK(parcel != NULL);
	parcel->size = size;
	parcel->seed = rng_next(rng);
	pattern_fill(parcel->contents, size, parcel->seed);
	return parcel;
}

static inline struct parcel *parcel_make(struct rng *rng, size_t size)
{
	return parcel_fill(rng, heap_malloc(sizeof(struct parcel) + size), size);
}

static inline void parcel_check(const struct parcel *parcel)
{
	CHECK_THAT(pattern_match(parcel->contents, parcel->size, parcel->seed) == parcel->size,
	           "block %p of %zu bytes is damaged", (const void *)parcel, parcel->size);
}

/* Checks and frees it, one in eight by its size, if there is one. */
static inline void parcel_open(struct parcel *parcel)
{
	if (parcel == NULL)
		return;
	parcel_check(parcel);
	if (parcel->seed % 8 == 0)
		heap_free_sized(parcel, sizeof(*parcel) + parcel->size);
	else
		heap_free(parcel);
}

/* Checks the contents before and after the move, as far as they are kept. */
static inline struct parcel *parcel_resize(struct rng *rng, struct parcel *parcel, size_t size)
{
	size_t kept = size < parcel->size ? size : parcel->size;

	parcel_check(parcel);
	parcel = heap_realloc(parcel, sizeof(*parcel) + size);
	CHECK(parcel != NULL);
	kept -= kept % sizeof(uint64_t);
	CHECK(pattern_match(parcel->contents, kept, parcel->seed) == kept);
	return parcel_fill(rng, parcel, size);
}

#endif
