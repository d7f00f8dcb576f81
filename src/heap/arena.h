/*
 * The arena: ptmalloc's malloc_state, a heap with a lock of its own.
 * Layer: heap.
 *
 * The main arena grows by the break.  Each other one lies at the start of its
 * first mmapped heap (subheap.h).  Arenas are never destroyed, so their list is
 * read without a lock.
 *
 * I1: every free byte of an arena is in a fast bin, a bin, or the top; the top
 *     is the chunk that ends at the arena's end.
 * I2: default policy: the fast bins are empty, and large bins are trees.
 * I3: dirty_bytes is the sum of the extents on the dirty list (extent.h).
 * I4: binned_bytes is the sum of the chunks in bins and fast bins, gone_bytes that of
 *     their pages that went back (extent.h).
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_ARENA_H
#define CEDE_HEAP_ARENA_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap/chunk.h"
#include "heap/slab.h"
#include "os/lock.h"
#include "purge/decay.h"

#define FAST_BINS   10
#define BINS        128 /* 0 and 127 do not exist, 1 is the unsorted bin */
#define SMALL_BINS  64  /* 2..63 */
#define LARGE_BINS  63  /* 64..126 */
#define BINMAP_BITS 32u
#define BINMAP_SIZE (BINS / BINMAP_BITS)

#define CACHE_LINE 64 /* bytes */

struct dirty_chunk;

/*
 * By lines of the processor's cache: what is written under the lock begins beside it,
 * so that it comes with the lock, and what all threads read without it lies where
 * nobody writes.
 */
struct arena {
	alignas(CACHE_LINE) struct lock lock;
	/* All below: guarded by lock, unless it says otherwise. */
	bool have_fastchunks;
	bool contiguous;             /* the system's next memory borders the top */
	size_t system_bytes;
	size_t binned_bytes;
	size_t dirty_bytes;          /* default policy, as the next */
	size_t gone_bytes;
	struct chunk *top;
	struct chunk *last_remainder;
	/* Heads of circular lists; two words each, read as a chunk's fd and bk. */
	struct chunk *bins[2 * (BINS - 1)];
	uint32_t binmap[BINMAP_SIZE];
	struct chunk *fastbins[FAST_BINS];

	size_t max_system_bytes;
	char *region;                /* main arena: where the top's region begins */
	unsigned regions;            /* so many so far */

	/* Default policy. */
	struct chunk *trees[LARGE_BINS];   /* roots, by large bin */
	struct dirty_chunk *dirty_newest;  /* free chunks with pages to give back */
	struct dirty_chunk *dirty_oldest;
	uintptr_t top_dirty_lo, top_dirty_hi; /* the same, of the top */
	uintptr_t top_reached;       /* pages of the top from here on were never handed out */
	uintptr_t taken_hi;          /* where they end in the free chunk last taken */
	void *deferred;              /* blocks freed by a signal handler that interrupted
	                                an operation on this arena; an atomic stack */
	size_t claimed_bytes;        /* free chunks the purger holds as if in use */
	size_t top_claimed;          /* bytes past the top's end that it holds */
	size_t dirty_published;      /* dirty bytes last told to the purger; atomic */
	size_t retained;             /* what was free and resident then; atomic */
	size_t poke_above;           /* dirty bytes above which free tells it again */
	struct decay decay;
	uint32_t ticks;              /* of the purger, here */
	size_t refaulted_bytes;      /* pages that went back and were handed out again */
	struct segments segments;
	struct slabs slabs;

	struct arena *next_free;     /* guarded by the arenas lock */
	size_t threads;              /* attached ones; guarded by the arenas lock */

	/* Main arena: every chunk of it lies within these.  Read by every free of every
	 * thread without the lock, so relaxed; they only widen. */
	alignas(CACHE_LINE) char *lowest;
	char *highest;
	struct arena *next;          /* const once listed; the list ends with NULL */
};

extern struct arena main_arena HIDDEN;

static inline bool arena_is_main(const struct arena *a)
{
	return a == &main_arena;
}

static inline size_t arena_bit(const struct arena *a)
{
	return arena_is_main(a) ? 0 : NON_MAIN_ARENA;
}

/* Empty bins and no top; order is the arena's index. */
void arena_init(struct arena *a, uint16_t order);

static inline struct arena *arena_following(const struct arena *a)
{
	return __atomic_load_n(&a->next, __ATOMIC_ACQUIRE);
}

/* The initial top: a size of 0, so that the first request grows the arena. */
static inline struct chunk *arena_initial_top(struct arena *a)
{
	return (struct chunk *)((char *)&a->bins[0] - offsetof(struct chunk, fd));
}

/* ---- which arena a thread uses (arena.c) ---- */

/*
 * Gives a thread an arena: one that no thread uses, a new one while the limit
 * allows, else as ptmalloc does one whose lock is free, or in the default policy the
 * one of the fewest threads.  Counts the thread.  Never NULL.
 */
struct arena *arena_attach(void);
void arena_detach(struct arena *a);
/*
 * The same for who takes a dead thread's record over: its arena, in which what it cached
 * belongs, unless another has fewer threads.  classic, as ptmalloc: the one freed last.
 */
struct arena *arena_inherit(struct arena *dead);

/*
 * The arena to try after `a` had no memory, or when `a` is busy with an
 * operation of this very thread (a signal handler).  Never NULL; `a` itself when
 * there is no other.
 */
struct arena *arena_other(struct arena *a);

size_t arena_count(void);
/* Whether the calling thread holds any arena's lock. */
bool arena_any_mine(void);
/*
 * Waits for an arena's lock; false, without it, when a signal handler interrupted its
 * thread in this arena or another one: whoever has this one may be waiting for that.
 */
bool arena_enter_slow(struct arena *a) MUST_USE;
extern struct lock arenas_lock;

/*
 * Around fork.  In the child no other thread is attached, and a lock that the
 * caller held before (it forks in a signal handler) is still its own.
 */
void arena_fork_prepare(void);
void arena_fork_parent(void);
void arena_fork_child(struct arena *of_caller);

#endif
