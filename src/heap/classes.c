#include "heap/classes.h"

#define EVEN_STEPS (CLASS_EVEN / CLASS_STEP)

uint8_t class_up[CLASS_UNITS + 1];
uint8_t class_down[CLASS_UNITS + 1];
uint32_t class_sizes[CLASSES];

void classes_init(void)
{
	size_t units = 0, step = 1;

	for (unsigned c = 0; c < CLASSES; c++) {
		/* From EVEN_STEPS on, an eighth of the last power of two. */
		if (units >= EVEN_STEPS && (units & (units - 1)) == 0)
			step = units / 8;
		units += step;
		class_sizes[c] = (uint32_t)(units * CLASS_STEP);
	}
	class_down[0] = CLASS_NONE;
	for (unsigned u = 1, at = 0; u <= CLASS_UNITS; u++) {
		while (at + 1 < CLASSES && class_sizes[at + 1] <= u * CLASS_STEP)
			at++;
		class_down[u] = (uint8_t)at;
	}
	for (unsigned u = 0, at = 0; u <= CLASS_UNITS; u++) {
		while (class_sizes[at] < u * CLASS_STEP)
			at++;
		__atomic_store_n(&class_up[u], (uint8_t)at, __ATOMIC_RELAXED);
	}
}
