/*
 * Claims of slab pages.  Layer: heap.  Default policy.
 *
 * A page within a slab goes when it is wholly free at two looks in a row and was
 * not used between them, a free unit when it has been one for as long, or for twice
 * that when the delay is longer than the least: the rule of the low-water mark, page by
 * page.  Blocks on claimed pages look in use meanwhile, and free units are not in
 * their segment.
 */
#ifndef CEDE_HEAP_SLAB_CLAIM_H
#define CEDE_HEAP_SLAB_CLAIM_H

#include "heap/claim.h"

/* Ticks between two looks for a delay, and for the least one. */
#define SLAB_TICKS_FOR(delay) (((delay) + 1) / 2)
#define SLAB_TICKS            SLAB_TICKS_FOR(DECAY_TICKS)

/*
 * Looks at some of the segments that were queued at `tick` or before, so many ticks ago
 * as are between two looks, and takes aside what may go (`at_once`: after one look),
 * until it has `most` bytes or a slab's more; of all but the first it takes no part.
 * Returns whether it looked at any.  Takes the arena's lock itself.
 */
bool slab_claim_take(struct claim *claim, struct arena *a, uint32_t tick, bool at_once,
                     size_t most);

/* Makes ready for the system what is within huge pages; before the discard, no lock. */
void slab_claim_split(const struct claim *claim, uint64_t *calls);

/* Puts all back, with the arena's lock; called by claim_return. */
void slab_claim_return(struct claim *claim, bool clean);

#endif
