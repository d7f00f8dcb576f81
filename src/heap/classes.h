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
/* All classes above CLASS_EVEN are multiples of it. */
#define CLASS_GRAIN   (CLASS_EVEN / 8)
#define CLASS_GRAINS  (CLASS_LARGEST / CLASS_GRAIN)
#define SLAB_CLASSES  88
#define SLAB_LARGEST  ((size_t)8 << 10)
/* Not a class: what a chunk below the smallest counts as. */
#define CLASS_NONE    CLASSES

/* Above CLASS_EVEN, by grains: the smallest class that holds so many. */
extern uint8_t class_up[CLASS_GRAINS + 1] HIDDEN;
/* From there on: the largest class that so many grains hold. */
extern uint8_t class_down[CLASS_GRAINS + 1] HIDDEN;
/* Bytes of a class's block. */
extern uint32_t class_sizes[CLASSES] HIDDEN;

/* Fills the tables; once, before the first use. */
void classes_init(void);

/* Of a request of at most CLASS_LARGEST bytes. */
static inline unsigned class_of_request(size_t bytes)
{
	if (bytes <= CLASS_EVEN)
		return (unsigned)((bytes - (bytes != 0)) / CLASS_STEP);
	/* A thread's first request may come while another one's fills the table; it is asked
	 * again then, by registry_self(). */
	return __atomic_load_n(&class_up[(bytes + CLASS_GRAIN - 1) / CLASS_GRAIN], __ATOMIC_RELAXED);
}

/* The class that a block of `usable` bytes counts as, or CLASS_NONE. */
static inline unsigned class_of_usable(size_t usable)
{
	if (usable < CLASS_EVEN)
		return usable < CLASS_STEP ? CLASS_NONE : (unsigned)(usable / CLASS_STEP - 1);
	return usable < CLASS_LARGEST + CLASS_STEP ? class_down[usable / CLASS_GRAIN] : CLASS_NONE;
}

#endif
