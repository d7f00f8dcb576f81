/*
 * Size classes of what threads cache, by the bytes that a block holds.
 * Layer: heap.
 *
 * To 1 KiB every multiple of 16 is a class.  Above, eight to a doubling, so that a
 * block wastes at most 12.5%.  The first SLAB_CLASSES are cut from slabs; the
 * others, and all when no slab is to be had, are chunks of request_to_size(class),
 * and a chunk of another size counts as the class below it.
 */
#ifndef CEDE_HEAP_CLASSES_H
#define CEDE_HEAP_CLASSES_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#define CLASS_STEP    ((size_t)16)
/* To here a request's class is its count of steps: no table. */
#define CLASS_EVEN    ((size_t)1 << 10)
#define CLASSES       119
/* The next one up would be mapped by itself, by the first threshold. */
#define CLASS_LARGEST ((size_t)120 << 10)
#define CLASS_UNITS   (CLASS_LARGEST / CLASS_STEP)
#define SLAB_CLASSES  88
#define SLAB_LARGEST  ((size_t)8 << 10)
/* Not a class: what a chunk below the smallest counts as. */
#define CLASS_NONE    CLASSES

/* By steps: the smallest class that holds so many. */
extern uint8_t class_up[CLASS_UNITS + 1] HIDDEN;
/* The largest class that so many steps hold, or CLASS_NONE. */
extern uint8_t class_down[CLASS_UNITS + 1] HIDDEN;
/* Bytes of a class's block. */
extern uint32_t class_sizes[CLASSES] HIDDEN;

/* Fills the tables; once, before the first use. */
void classes_init(void);

/* Of a request of at most CLASS_LARGEST bytes. */
static inline unsigned class_of_request(size_t bytes)
{
	/* A thread's first request may come while another one's fills the table; it is asked
	 * again then, by registry_self(). */
	return __atomic_load_n(&class_up[(bytes + CLASS_STEP - 1) / CLASS_STEP], __ATOMIC_RELAXED);
}

/* The class that a block of `usable` bytes counts as, or CLASS_NONE. */
static inline unsigned class_of_usable(size_t usable)
{
	size_t steps = usable / CLASS_STEP;

	return steps <= CLASS_UNITS ? class_down[steps] : CLASS_NONE;
}

#endif
