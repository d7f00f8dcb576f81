#include "purge/regret.h"

/* Less than 1 MiB in a tick is not worth staying awake for. */
#define WATCHED_PAGES 256
/* What the delay may grow by. */
#define LONGER_TICKS (DECAY_MOST - DECAY_TICKS)

void regret_tick(struct regret *r, uint64_t elapsed_ms, size_t wanted, size_t free)
{
	uint64_t paid = elapsed_ms * 10000; /* a percent, in nanoseconds */
	size_t regretted = 0;

	/* So long a tick began with sleep: when in it they were wanted is not known. */
	if (elapsed_ms > REGRET_TICKS * DECAY_TICK_MS)
		wanted = 0;
	for (unsigned i = 0; i < REGRET_TICKS; i++) {
		size_t taken = wanted - regretted < r->gone[i] ? wanted - regretted : r->gone[i];

		r->gone[i] -= taken;
		regretted += taken;
	}
	r->owed_ns -= r->owed_ns < paid ? r->owed_ns : paid;
	r->owed_ns += (uint64_t)regretted * REGRET_PAGE_NS;
	if (r->owed_ns > REGRET_MOST_NS)
		r->owed_ns = REGRET_MOST_NS;
	r->at = (r->at + 1) % REGRET_TICKS;
	r->gone[r->at] = 0;
	/* Many wait less until the last of them went: it falls by half in a second. */
	r->free -= r->free / 32;
	if (r->free < free)
		r->free = free;
}

unsigned regret_delay(const struct regret *r)
{
	uint64_t owed = r->owed_ns < REGRET_FULL_NS ? r->owed_ns : REGRET_FULL_NS;
	size_t longer = (size_t)(owed * LONGER_TICKS / REGRET_FULL_NS);
	size_t taking = r->free / REGRET_TICK_PAGES;

	return DECAY_TICKS + (unsigned)(longer > taking ? longer - taking : 0);
}

bool regret_is_watching(const struct regret *r)
{
	for (unsigned i = 0; i < REGRET_TICKS; i++)
		if (r->gone[i] >= WATCHED_PAGES)
			return true;
	return false;
}
