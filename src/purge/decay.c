#include "purge/decay.h"

void decay_tick(struct decay *d, size_t now)
{
	d->at = (d->at + 1) % DECAY_MOST;
	d->lows[d->at] = d->low;
	d->low = now;
}

size_t decay_due(const struct decay *d, size_t now, unsigned delay)
{
	size_t least = now < d->low ? now : d->low;

	for (unsigned i = 0; i < delay; i++) {
		size_t low = d->lows[(d->at + DECAY_MOST - i) % DECAY_MOST];

		if (low < least)
			least = low;
	}
	return least;
}

void decay_purged(struct decay *d, size_t gone)
{
	for (unsigned i = 0; i < DECAY_MOST; i++)
		d->lows[i] -= d->lows[i] < gone ? d->lows[i] : gone;
}
