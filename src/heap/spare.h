/*
 * Spares: what blocks that were mapped by themselves left behind, kept for the next
 * ones until the purger unmaps it.  Layer: heap.  Default policy.
 *
 * A page that is still there costs nothing, a new one is a page fault.  A spare's
 * pages hold what the program left in them.  Spares are ranges of whole pages, few
 * and large, in an array by age; what touches is one range, so a block that grows
 * may find the pages behind it here.
 *
 * Locks: each function takes the spares' lock, the last in rank, under which the
 * system is asked for nothing that takes long.  A signal handler that interrupted
 * its own thread here finds no spare and leaves none.
 *
 * I1: spares neither overlap nor touch.  A range that overlaps one was given
 *     before: spare_put() stops the program.
 */
#ifndef CEDE_HEAP_SPARE_H
#define CEDE_HEAP_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "os/lock.h"
#include "os/os.h"

/* Sizes are bytes, whole pages; addresses are pages' starts. */

/* The front of the least spare that has `room`, and `size`; or NULL. */
void *spare_take(size_t size, size_t room) MUST_USE;
/* The largest spare as a whole, to be made larger; false: there is none. */
bool spare_take_whole(struct os_range *out) MUST_USE;
/* Up to `size` bytes from `start` on, where a block ends; returns how many. */
size_t spare_take_behind(void *start, size_t size);
/* False: there is no place for it, it stays the caller's. */
bool spare_put(void *start, size_t size) MUST_USE;

size_t spare_bytes(void);
size_t spare_count(void);

/* Read without the lock, relaxed. */
struct spare_counts {
	size_t bytes;           /* of all spares */
	size_t refaulted_bytes; /* unmapped, and then mapped anew for want of a spare */
};
extern struct spare_counts spare_counts HIDDEN;

/* For who looks from outside. */
struct spare_places {
	const struct lock *lock;
	const unsigned *count;
	const struct os_range *ranges;
};
extern const struct spare_places spare_places HIDDEN;

/* A block of `size` found no spare and is mapped: perhaps one went too early. */
void spare_missed(size_t size);

/*
 * Ends a tick of the purger: what has been spare for `delay` ticks.  *wanted grows by
 * all bytes that ever went and were mapped anew.
 */
size_t spare_tick(unsigned delay, size_t *wanted);
/*
 * Gives back at most `want` bytes, the oldest; at most so much at a time that it
 * takes a few milliseconds.  Returns the bytes.  With the purge lock.
 */
size_t spare_release(size_t want);

/* Around fork, with the lock of every arena. */
void spare_fork_prepare(void);
void spare_fork_parent(void);
void spare_fork_child(void);

#endif
