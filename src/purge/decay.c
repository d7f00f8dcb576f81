#include "purge/decay.h"

size_t decay_tick(struct decay *d, size_t now)
{
	size_t least;

	d->at = (d->at + 1) % DECAY_TICKS;
	d->lows[d->at] = d->low;
	d->low = now;
	least = now;
	for (unsigned i = 0; i < DECAY_TICKS; i++)
		if (d->lows[i] < least)
			least = d->lows[i];
	return least;
}

void decay_purged(struct decay *d, size_t gone)
{
	for (unsigned i = 0; i < DECAY_TICKS; i++)
		d->lows[i] -= d->lows[i] < gone ? d->lows[i] : gone;
}
