#include "readers/ranges.h"

#include <stdlib.h>

static int range_compare(const void *a, const void *b)
{
	const struct range *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

void ranges_merge(struct ranges *ranges)
{
	size_t kept = 0;

	if (!ranges->count)
		return;
	qsort(ranges->items, ranges->count, sizeof(*ranges->items), range_compare);
	for (size_t i = 1; i < ranges->count; i++) {
		if (ranges->items[i].begin > ranges->items[kept].end)
			ranges->items[++kept] = ranges->items[i];
		else if (ranges->items[i].end > ranges->items[kept].end)
			ranges->items[kept].end = ranges->items[i].end;
	}
	ranges->count = kept + 1;
}

size_t ranges_find(const struct ranges *ranges, uint64_t address)
{
	size_t low = 0, high = ranges->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (ranges->items[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
