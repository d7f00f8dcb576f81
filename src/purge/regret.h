/*
 * How long free memory waits before it goes back: longer for a program that wants
 * again what went.  A calculator that touches no memory but its own.  Layer: purge.
 *
 * A page that goes and soon comes back costs a system call's share and a page fault.
 * Where a longer delay would have kept it, that cost is regret, and is owed.  What is
 * owed is paid off at one percent of the time, and as long as anything is owed the
 * delay is longer, in proportion.  So a pool that cycles just slower than the least
 * delay costs one percent of a processor in the long run.  One that no delay allowed
 * would keep costs what it costs.
 *
 * Ownership: one for the purger, guarded by its lock.
 */
#ifndef CEDE_PURGE_REGRET_H
#define CEDE_PURGE_REGRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "purge/decay.h"

/* What goes, units of slabs after three ticks already, and is wanted later than this, no
 * delay would have kept. */
#define REGRET_TICKS (DECAY_MOST - 3)
/* To give a page back and to fault it in again. */
#define REGRET_PAGE_NS 2400
/* Owed so much, the delay is the longest; and never is more owed than the second. */
#define REGRET_FULL_NS ((uint64_t)10000000)
#define REGRET_MOST_NS ((uint64_t)600000000)
/* Pages that the system takes in a tick, to say the least of it. */
#define REGRET_TICK_PAGES 65536

struct regret {
	size_t gone[REGRET_TICKS]; /* pages not wanted since, by tick; newest at `at` */
	unsigned at;
	uint64_t owed_ns;
	size_t free;               /* pages lately free, at most */
};

/*
 * Ends a tick, elapsed_ms after the last one, in which `wanted` pages were touched
 * that had been given back at some time, and at which `free` ones are in memory.
 */
void regret_tick(struct regret *r, uint64_t elapsed_ms, size_t wanted, size_t free);

/* In the present tick these pages were given back because of their age. */
static inline void regret_gave(struct regret *r, size_t pages)
{
	r->gone[r->at] += pages;
}

/*
 * The present delay in ticks.  Giving many pages back takes time itself, so they wait
 * less, the last of them too: all is to be gone within a second.
 */
unsigned regret_delay(const struct regret *r);

/* Whether it is worth another tick to see if what went is wanted. */
bool regret_is_watching(const struct regret *r);

#endif
