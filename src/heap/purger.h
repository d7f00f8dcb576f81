/*
 * Giving back: when, by whom, and how much (how: heap/giving.h).  Layer: heap.  Default policy.
 *
 * A thread that libc does not know of (os_thread_start says how) ticks while any
 * arena has whole free pages that may be resident, gives back those that stayed
 * free long enough (purge/decay.h), and sleeps for ever when there are none.  It
 * is made when more than PURGE_START bytes wait, by the first free that sees it,
 * after that free has let go of its locks.
 *
 * With retain_max, what is free and resident beyond it goes at once, by whoever frees.
 * Caches apart: with each batch that leaves one.
 *
 * When memory is short (os/pressure.c) it gives back all at once, whatever its age, at
 * most once a second.  Asleep it has nothing to give, and does not look; of what it was
 * told meanwhile it hears when it wakes.
 *
 * Without the thread (background=off, or it could not be made) frees end the ticks and
 * give back what is due, a slice each, and nobody looks whether memory is short; they also
 * try to make it again, ever more seldom.
 */
#ifndef CEDE_HEAP_PURGER_H
#define CEDE_HEAP_PURGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap/extent.h"

#define PURGE_START ((size_t)1 << 20)
#define PURGE_STEP  ((size_t)64 << 10) /* an arena tells of no less */

/* What the purger is doing; the values of enum cede_purger. */
enum purger_state { PURGER_NONE, PURGER_ASLEEP, PURGER_AWAKE, PURGER_ABSENT };

/* All atomic.  Times are of os_now_ms. */
struct purge_counts {
	uint64_t bytes, calls, passes;
	uint64_t ns;        /* processor time of the passes */
	uint64_t reliefs;   /* times that memory was short */
	uint64_t relief_ms; /* when it last was; 0: never */
	uint64_t locked;    /* memory was, at the last look: nothing is claimed */
	uint64_t delay_ms;  /* how long free memory waits */
	uint64_t retry_ms;  /* when the thread that is absent is tried again */
};
extern struct purge_counts purge_counts;

/* Its state while it may run; else it is absent. */
extern uint32_t purger_state HIDDEN;

/* Not 0: all is to go at once.  Set from outside, by who can write this memory; the thread
 * sees it at its next tick, and sets it back when it is done.  Atomic. */
extern uint32_t purger_asked HIDDEN;

enum purger_state purger_now(void);

static inline bool purger_is_absent(void)
{
	return purger_now() == PURGER_ABSENT;
}

/* With the arena's lock: bytes that may be to give back; of slabs, at most so many. */
static inline size_t purger_dirty(const struct arena *a)
{
	return extent_dirty_bytes(a) + a->slabs.freed;
}

/*
 * With the arena's lock: bytes that may be free and resident.  Of slabs, units in which
 * blocks came back count whole until they are looked at.
 */
static inline size_t purger_retained(const struct arena *a)
{
	return extent_dirty_bytes(a) + a->segments.pending * os_page_size;
}

/* With the arena's lock: what the purger may know, and when it is to hear more. */
void purger_publish(struct arena *a, size_t dirty);

/*
 * With the arena's lock: whether purger_tell must be called once it is released.
 */
static inline bool purger_should_tell(struct arena *a)
{
	size_t dirty = purger_dirty(a);

	if (likely(dirty <= a->poke_above))
		return false;
	purger_publish(a, dirty);
	return true;
}

/*
 * With no lock: starts or wakes the thread when there is enough to give back.  What is
 * above retain_max the caller gives back itself.
 */
void purger_tell(void);

/* In the child of a fork: the thread stayed behind. */
void purger_fork_child(void);

#endif
