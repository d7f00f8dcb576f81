#include "heap/classes.h"

uint8_t class_up[CLASS_UNITS + 1];
uint8_t class_down[CLASS_UNITS + 1];
uint32_t class_sizes[CLASSES];

void classes_init(void)
{
	unsigned class = 0, units = 2, step = 1;

	while (class < CLASSES) {
		class_sizes[class++] = (uint32_t)(units * 16);
		/* From 64 units on, an eighth of the last power of two. */
		if (units >= 64 && (units & (units - 1)) == 0)
			step = units / 8;
		units += step;
	}
	class_down[0] = class_down[1] = CLASS_NONE;
	for (unsigned u = 2, at = 0; u <= CLASS_UNITS; u++) {
		while (at + 1 < CLASSES && class_sizes[at + 1] <= u * 16)
			at++;
		class_down[u] = (uint8_t)at;
	}
	for (unsigned u = 0, at = 0; u <= CLASS_UNITS; u++) {
		while (class_sizes[at] < u * 16)
			at++;
		class_up[u] = (uint8_t)at;
	}
}
