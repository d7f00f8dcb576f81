/*
 * Size classes of what threads cache: chunk sizes.  Layer: heap.
 *
 * To 1 KiB every chunk size is a class.  Above, eight to a doubling: a request is
 * rounded up to one, so that a block wastes at most 12.5%, and a chunk of another
 * size counts as the class below it.
 */
#ifndef CEDE_HEAP_CLASSES_H
#define CEDE_HEAP_CLASSES_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* The next one up would be mapped by itself, by the first threshold. */
#define CLASSES       118
#define CLASS_LARGEST ((size_t)120 << 10)
#define CLASS_UNITS   (CLASS_LARGEST / 16)
/* Not a class: what a chunk below the smallest counts as. */
#define CLASS_NONE    CLASSES

/* By units of 16 bytes: the smallest class that holds a chunk of so many. */
extern uint8_t class_up[CLASS_UNITS + 1] HIDDEN;
/* The largest class that such a chunk holds, or CLASS_NONE. */
extern uint8_t class_down[CLASS_UNITS + 1] HIDDEN;
/* Bytes of a class's chunk. */
extern uint32_t class_sizes[CLASSES] HIDDEN;

/* Fills the tables; once, before the first use. */
void classes_init(void);

/* Of a request below CLASS_LARGEST - 8 bytes. */
static inline unsigned class_of_request(size_t bytes)
{
	return class_up[(bytes + 23) >> 4];
}

#endif
