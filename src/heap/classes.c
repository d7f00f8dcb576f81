#include "heap/classes.h"

#include <stdbool.h>

#define EVEN_CLASSES (CLASS_EVEN / CLASS_STEP)

uint8_t class_up[CLASS_GRAINS + 1];
uint8_t class_down[CLASS_GRAINS + 1];
uint32_t class_sizes[CLASSES];

void classes_init(void)
{
	size_t size = 0, step = CLASS_STEP;

	for (unsigned c = 0; c < CLASSES; c++) {
		/* From CLASS_EVEN on, an eighth of the last power of two. */
		if (size >= CLASS_EVEN && (size & (size - 1)) == 0)
			step = size / 8;
		size += step;
		class_sizes[c] = (uint32_t)size;
	}
	for (unsigned g = CLASS_EVEN / CLASS_GRAIN, at = EVEN_CLASSES - 1; g <= CLASS_GRAINS; g++) {
		bool larger = class_sizes[at] < g * CLASS_GRAIN;

		__atomic_store_n(&class_up[g], (uint8_t)(at + larger), __ATOMIC_RELAXED);
		at += larger && class_sizes[at + 1] == g * CLASS_GRAIN;
		class_down[g] = (uint8_t)at;
	}
}
