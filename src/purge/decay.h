/*
 * How much free memory has been free long enough to give back: a calculator
 * that touches no memory but its own.  Layer: purge.
 *
 * The low-water rule: what an arena had free at *every* moment of the last ticks is
 * not part of a pool that the program cycles through, so it may go.  A pool that
 * empties and fills faster than that costs nothing.  How many ticks: regret.h.
 *
 * Ownership: part of an arena, guarded by its lock.
 */
#ifndef CEDE_PURGE_DECAY_H
#define CEDE_PURGE_DECAY_H

#include <stddef.h>

#define DECAY_TICK_MS 50
#define DECAY_TICKS   5  /* the least delay */
#define DECAY_MOST    13 /* the longest; with what caches take, 800 ms */

struct decay {
	size_t low;              /* least free bytes in the current tick */
	size_t lows[DECAY_MOST]; /* and in the ticks before it, newest at `at` */
	unsigned at;
};

/* The free bytes fell to `now`. */
static inline void decay_fell(struct decay *d, size_t now)
{
	if (now < d->low)
		d->low = now;
}

/* Ends a tick at which `now` bytes are free. */
void decay_tick(struct decay *d, size_t now);

/*
 * Of the bytes that are free now, those that were throughout the last `delay` ticks, at
 * most DECAY_MOST, and since: they may go.
 */
size_t decay_due(const struct decay *d, size_t now, unsigned delay);

/*
 * `gone` bytes were given back: the record of the past shrinks by as much.  The
 * present tick's fell when they were taken.
 */
void decay_purged(struct decay *d, size_t gone);

#endif
