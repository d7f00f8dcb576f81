/*
 * An arena's slabs worked by hand: blocks with patterns, and the purger's part without
 * its thread.  Layer: tests.  For children of child_test.
 */
#ifndef TESTS_SUPPORT_SLABS_H
#define TESTS_SUPPORT_SLABS_H

#include "heap/slab_claim.h"

extern struct arena *slabs_arena;   /* since slabs_start */
extern struct claim slabs_claimed;  /* what the purger's part holds */

void slabs_start(void);
void slabs_audit(void);

/* Blocks of a class, each filled with a pattern of its own; checked when given back. */
void slabs_take(unsigned class, char **to, unsigned count);
void slabs_check(const char *block, size_t size);
void slabs_give(char *block);
unsigned slabs_blocks_of(unsigned class);

/* One claim of what was queued at `tick` or before; returns whether it looked at any. */
bool slabs_claim(uint32_t tick, bool at_once);
/* Gives the claim to the system, and back; returns the bytes. */
size_t slabs_discard(void);
/* Both until nothing is left to look at. */
size_t slabs_pass(uint32_t tick, bool at_once);
size_t slabs_tick(void);
size_t slabs_ticks(unsigned count);
/* What malloc_trim does. */
size_t slabs_release(void);

/* Resident bytes of a block's slab. */
size_t slabs_resident(const void *block);
/* Each page of a slab is resident when a block in use is on it, or not at all. */
void slabs_keep_live_pages(const struct slab *s);

#endif
