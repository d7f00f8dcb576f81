/*
 * What the heap keeps for each thread: its arena and its cache.  Layer: heap.
 * Records are made, found dead and used again by registry.h; cache.h is what
 * works on the bins.
 */
#ifndef CEDE_HEAP_THREAD_H
#define CEDE_HEAP_THREAD_H

#include "heap/arena.h"
#include "heap/classes.h"

/*
 * Blocks of a class, newest last: those from slot `first` to the top are cached.  base is
 * that slot's address and limit where the array ends, or the bin is empty and full at once,
 * while the thread may not use it.
 */
struct cache_bin {
	void **top;     /* owner; another thread only while it owns the cache; NULL: no array */
	void **base;    /* atomic: whoever holds cache_lock */
	void **limit;   /* the same */
	uint32_t first; /* the same */
	uint32_t busy;  /* an operation of the owner's is under way; atomic (cache.h) */
};

enum cache_state {
	CACHE_OPEN,   /* its owner's */
	CACHE_SHUT,   /* to be emptied by somebody else, unless its owner opens it first */
	CACHE_DRAINED /* the same, and it is empty */
};

struct thread {
	struct arena *arena; /* written by its own thread only; atomic, because that
	                        the dead thread's last use comes before the next one's
	                        first is known to the kernel alone */
	struct thread *next; /* const once listed */

	bool caching;        /* const while its thread lives */
	uint32_t id;         /* of its thread, which may have ended; for who looks from outside */
	uint32_t settled;    /* generation that looked at it as an orphan; cache.c */
	uint32_t state;      /* enum cache_state; guarded by cache_lock, as all below */
	struct lock cache_lock;
	void **slots;        /* memory of the bins' arrays */
	size_t reserved;     /* bytes that the capacities below may hold */
	size_t most;         /* and might, when that was last worked out */
	size_t counted;      /* its part of cache_free_bytes: `full` of all bins */
	bool tell;           /* the purger is to be told once the lock is released */
	uint16_t capacity[CLASSES];
	uint16_t mark[CLASSES];        /* limit - base: the owner stops here, to count */
	uint16_t full[CLASSES];        /* the mark before: so many were cached at once */
	uint16_t ramp[CLASSES];        /* blocks of the next refill */
	uint32_t seen[CLASSES];        /* what it held when idle bins were last looked for */
	uint16_t strangers;            /* blocks that it sent home */
	uint16_t refusals;             /* times that a bin could not grow for the others, */
	uint16_t patience;             /* of so many until idle bins are looked for */
	uintptr_t witness;             /* what the last tick saw; guarded by the drain lock */
	uint32_t refused;              /* ticks that found it unchanged, but at work; likewise */
	_Alignas(sizeof(struct cache_bin)) struct cache_bin
		bins[CLASSES + 1]; /* by class + 1; the first is always empty and full */
};

static inline struct cache_bin *thread_bin(struct thread *t, unsigned class)
{
	return &t->bins[class + 1];
}

/* The first slot of its array; NULL: it has none. */
static inline void **thread_bin_array(const struct thread *t, const struct cache_bin *bin)
{
	return bin->top == NULL ? NULL : t->slots + bin->first;
}

/* Where it is among the bins: window.bins has this for each unit of a slab. */
static inline uint16_t thread_bin_offset(unsigned class)
{
	return (uint16_t)((class + 1) * sizeof(struct cache_bin));
}

/* The calling thread's record; &thread_nobody until registry_enter. */
extern __thread struct thread *thread_self HIDDEN;
extern struct thread thread_nobody HIDDEN;

#endif
