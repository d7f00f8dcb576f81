/*
 * The window: one range of addresses for all slabs, so that a block's owner is found
 * by arithmetic.  Layer: heap.  Default policy.
 *
 *   | segments | slabs | bits | bins |  window: units of 64 KiB, segments of 2 MiB  |
 *
 * What describes a unit or a segment lies before the window, by its number: nothing
 * that a program writes beyond a block is near it.  Nothing is reserved: each part is
 * mapped from its start on, in steps that grow with the heap, where the system has
 * nothing else.  So limits of address space and of commitment count what is used.
 *
 * The window may end early, or not begin: the system refuses, or something else is
 * mapped there.  Then small requests go to the chunk heap.
 */
#ifndef CEDE_HEAP_WINDOW_H
#define CEDE_HEAP_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#define UNIT          ((size_t)64 << 10)
#define UNIT_SHIFT    16
#define SEGMENT_UNITS 32
#define SEGMENT       (SEGMENT_UNITS * UNIT)

struct os_range;
struct segment;
struct slab;

/*
 * The open part.  Empty at first; base and arrays are const once it is not.  Read
 * without a lock: whoever was handed a block was handed what was stored before.
 */
struct window {
	uintptr_t base;
	uintptr_t steps;          /* open bytes / 16; grows */
	uint16_t *bins;           /* by unit: of a slab, where its class's bin is in a
	                             thread's record (thread.h), else 0; atomic */
	struct slab *slabs;       /* by unit */
	uint64_t (*bits)[UNIT / 16 / 64]; /* by unit */
	struct segment *segments; /* by segment */
};
extern struct window window HIDDEN;

/* For who looks from outside: what else holds these addresses. */
extern const struct os_range window_parts HIDDEN;

/*
 * Relaxed.  Said to the sanitizer alone: the compiler compares with memory only when it
 * may read plainly, and these are words.
 */
#ifdef __SANITIZE_THREAD__
#define WINDOW_READ(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#else
#define WINDOW_READ(word) (word)
#endif

/*
 * Where in the window an address is, in steps of 16 bytes.  Not below window.steps
 * for one that is elsewhere or no multiple of 16.
 */
static inline uintptr_t window_step(const void *at)
{
	uintptr_t offset = (uintptr_t)at - WINDOW_READ(window.base);

	return offset >> 4 | offset << 60;
}

static inline bool window_has(const void *at)
{
	return (uintptr_t)at - WINDOW_READ(window.base) < WINDOW_READ(window.steps) * 16;
}

static inline size_t window_unit(const void *at)
{
	return ((uintptr_t)at - WINDOW_READ(window.base)) >> UNIT_SHIFT;
}

static inline char *window_address(size_t unit)
{
	return (char *)WINDOW_READ(window.base) + unit * UNIT;
}

/*
 * A segment that no arena has, or NULL without address space or memory.  Its pages
 * read zero.  Takes the window's lock, within an arena's.
 */
struct segment *window_take_segment(void);
/* Takes one back whose pages were all given back. */
void window_return_segment(struct segment *segment);

/*
 * Gives the memory that describes returned segments back; false: there was none.
 * Without locks, but one call at a time.
 */
bool window_scrub(uint64_t *calls);

/* Around fork, with the locks of all arenas. */
void window_fork_prepare(void);
void window_fork_parent(void);
void window_fork_child(void);

#endif
