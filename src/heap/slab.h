/*
 * Slabs: runs of units cut into blocks of one size, without headers.
 * Layer: heap.  Default policy.  All functions want the arena's lock, unless they
 * say otherwise.
 *
 * Which blocks are free says a bitmap out of line.  Blocks are handed out by
 * ascending address, from the slab that is best to fill (slab.c), so that live
 * blocks lie dense; a slab without live blocks gives its units back at once.
 *
 * I1: s->free is the number of bits set, and bits past the last block are clear.
 * I2: a slab with free blocks is in the ring of its class and fullness; one without
 *     is in none.
 * I3: every block that is not free lies on touched pages (segment.h).
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_SLAB_H
#define CEDE_HEAP_SLAB_H

#include "heap/classes.h"
#include "heap/segment.h"

#define SLAB_RINGS 3
/* As many blocks as have their bits in the slab's own record, of 256 bytes. */
#define SLAB_FEW   1600

/* Of its first unit; of the others of a slab, `back` alone. */
struct slab {
	struct slab *next, *prev;  /* of its class and fullness */
	struct arena *arena;       /* const while it has live blocks */
	uint64_t *bits;            /* const, as all to `back` */
	uint32_t size;             /* bytes of a block */
	uint32_t inverse;          /* slab_index; 0: of a block of 16 bytes */
	uint16_t blocks;
	uint8_t class, units;
	uint8_t back;              /* units before this one */
	uint8_t ring;              /* SLAB_RINGS: none */
	uint16_t free;
	uint16_t first;            /* no word of bits before it has a free block */
	uint16_t claimed;          /* blocks that the purger holds */
	uint64_t few[SLAB_FEW / 64]; /* the bits, when they fit */
};

struct slabs {
	struct slab *rings[SLAB_CLASSES][SLAB_RINGS];
	size_t live_bytes;         /* in blocks handed out */
	size_t units;              /* of all slabs */
	size_t most_units;         /* the most that these ever were, or that statistics saw
	                              with the free ones that may be resident */
	size_t freed;              /* bytes given back since the purger saw none left */
};

/* Whether the policy has slabs, and caches; const after start-up, true before.  Atomic. */
extern bool slabs_on HIDDEN;

/* What start-up settled before it said no is settled. */
static inline bool slabs_are_on(void)
{
	return __atomic_load_n(&slabs_on, __ATOMIC_ACQUIRE);
}

#define SLAB_UNITS_MOST 8

static inline unsigned slab_class_units(uint32_t size)
{
	return size <= 4096 ? 1 : size <= 8192 ? 2 : SLAB_UNITS_MOST;
}

/* The slab of an address within the window; it may be none. */
static inline struct slab *slab_at(const void *block)
{
	struct slab *s = &window.slabs[window_unit(block)];

	return s - s->back;
}

static inline char *slab_start(const struct slab *s)
{
	return window_address((size_t)(s - window.slabs));
}

/* The number of the block that holds the byte at `offset`: by a product, not a division. */
static inline uint32_t slab_index(const struct slab *s, size_t offset)
{
	uint64_t inverse = s->inverse != 0 ? s->inverse : (uint64_t)1 << 32;

	return (uint32_t)(offset / 16 * inverse >> 32);
}

/*
 * The blocks of a slab that touch [start, start + size).  Pages behind the last block go with
 * it: a claim must hold a block of the slab, or that may end meanwhile and its units be used.
 */
static inline void slab_blocks_on(const struct slab *s, const void *start, size_t size,
                                  uint32_t *from, uint32_t *to)
{
	size_t offset = (size_t)((const char *)start - slab_start(s));
	uint32_t end = slab_index(s, offset + size - 1) + 1;

	*to = end < s->blocks ? end : s->blocks;
	*from = slab_index(s, offset);
	if (*from == *to)
		--*from;
}

/*
 * The slab of a block that the program gave to `function`; stops it when the
 * address cannot be a block in use.  Without the lock.
 */
struct slab *slab_of(const void *block, const char *function);

/* Up to `want` blocks of a class; returns how many: less only without memory. */
unsigned slab_take(struct arena *a, unsigned class, void **blocks, unsigned want);

/*
 * Takes the blocks at the front of a row back, as far as they are of this arena's slabs;
 * returns how many.  Each must hold `least` bytes.
 */
unsigned slab_give(struct arena *a, void **blocks, unsigned count, uint32_t least);

/* Whether the blocks [from, to) of a slab all are free, or all are not. */
bool slab_range_is(const struct slab *s, uint32_t from, uint32_t to, bool is_free);
/* Blocks [from, to) of a slab, all free, leave it for the purger, or come back. */
void slab_hide(struct arena *a, struct slab *s, uint32_t from, uint32_t to);
void slab_show(struct arena *a, struct slab *s, uint32_t from, uint32_t to);

#endif
