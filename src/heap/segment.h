/*
 * Segments: an arena's share of the window, and the units of it that no slab has.
 * Layer: heap.  Default policy.  All functions want the arena's lock.
 *
 * For each unit, slab or not, three sets of its pages, a bit each: those that may be
 * resident; of these the ones within a slab that the purger found free when it last
 * looked and that were not used since (slab_claim.h); and those that went back.
 *
 * I1: an arena's segments are in the list by their count of free units.
 * I2: idle is a subset of touched.
 * I3: a unit with idle pages is pending, and a segment with a pending unit is in
 *     the arena's queue.
 * I4: a->segments.touched is the number of touched pages of all units, and pending
 *     that of the pending ones.
 * I5: no page that went back is touched.
 * I6: a touched page without a live byte is of a pending unit.
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_SEGMENT_H
#define CEDE_HEAP_SEGMENT_H

#include "base/bits.h"
#include "heap/window.h"

struct arena;

struct segment {
	struct segment *next, *prev; /* of as many free units; spares: next */
	struct segment *later;       /* in the arena's queue */
	struct arena *arena;
	uint32_t free;               /* units that no slab has, a bit each */
	uint32_t pending;            /* units that the purger is to look at */
	uint32_t queued_at;          /* tick */
	uint8_t free_units;          /* how many: the list */
	bool queued;
	bool huge;                   /* the system may back it by a huge page */
	bool split;                  /* it did, until part of it went back */
	uint16_t touched[SEGMENT_UNITS]; /* pages that may be resident */
	uint16_t idle[SEGMENT_UNITS];
	uint16_t gone[SEGMENT_UNITS]; /* whichever arena has the segment */
	uint8_t freed_at[SEGMENT_UNITS]; /* tick in which its last slab ended, modulo 256 */
};

struct segments {
	struct segment *by_free[SEGMENT_UNITS + 1];
	uint64_t nonempty;           /* lists of by_free, a bit each */
	struct segment *queue, *queue_last;
	size_t count;
	size_t huge_from;            /* no huge pages below this count: the last was slow */
	size_t touched;              /* pages, of all */
	size_t pending;              /* of these, in pending units: no more are free */
};

#define UNIT_NONE SIZE_MAX

/* `count` units from a unit on, within their segment, as bits. */
static inline uint32_t segment_bits(size_t unit, unsigned count)
{
	return (uint32_t)(((uint64_t)1 << count) - 1) << unit % SEGMENT_UNITS;
}

static inline struct segment *segment_of_unit(size_t unit)
{
	return &window.segments[unit / SEGMENT_UNITS];
}

/*
 * `count` adjacent units (1, 2 or 8), the first a multiple of count, from the segment
 * with the fewest free ones; UNIT_NONE: no memory.
 */
size_t segment_take_units(struct arena *a, unsigned count);
void segment_return_units(struct arena *a, size_t unit, unsigned count);

/* A free unit leaves its segment for the purger's hands, or comes back: once or more. */
void segment_hide_unit(struct arena *a, size_t unit);
void segment_show_unit(struct arena *a, size_t unit);

/* Bytes [from, to) from a unit's start on will be written. */
void segment_touch(struct arena *a, size_t unit, size_t from, size_t to);
/* These pages of a unit may be resident, and are not known to be idle. */
void segment_mark(struct arena *a, size_t unit, uint16_t pages);
/* Pages [first, end), counted from a unit's start on, are about to go. */
void segment_unmark(struct arena *a, size_t unit, size_t first, size_t end);

/* The purger is to look at `count` units of a segment. */
void segment_queue(struct arena *a, size_t unit, unsigned count);
/* Its pending units, which are no longer: they are about to be looked at. */
uint32_t segment_unpend(struct arena *a, struct segment *s);
/* The segment that waits longest, when it was queued at `tick` or before; else NULL. */
struct segment *segment_unqueue(struct arena *a, uint32_t tick);

/*
 * A part of a segment is about to go back: from now on no huge page, which the system
 * would fill again.  Returns whether there may have been one.  Without the lock, for
 * pages that the purger holds.
 */
bool segment_split(struct segment *s);

/* Gives a segment without units in use and pages in memory back to the window. */
bool segment_retire(struct arena *a, struct segment *s);

#endif
