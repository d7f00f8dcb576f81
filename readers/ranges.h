/*
 * Spans of addresses, in order.  Layer: readers.  Who fills struct ranges owns its array.
 */
#ifndef CEDE_READERS_RANGES_H
#define CEDE_READERS_RANGES_H

#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t begin, end;
};

struct ranges {
	struct range *items;
	size_t count;
};

/* Sorts them, and makes one of those that touch. */
void ranges_merge(struct ranges *ranges);

/* The first range that ends beyond this address; `count` of them when none does.  They
 * must be merged. */
size_t ranges_find(const struct ranges *ranges, uint64_t address);

#endif
