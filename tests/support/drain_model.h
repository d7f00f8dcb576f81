/*
 * The state of the model that test_drain_model.c searches, and the processor: each thread
 * has a queue of stores that others do not see yet; its own loads do.  Layer: tests.
 */
#ifndef TESTS_SUPPORT_DRAIN_MODEL_H
#define TESTS_SUPPORT_DRAIN_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BLOCKS     3
#define SLOTS      2
#define QUEUE      5 /* stores under way in a thread; an operation makes 4 */

/* Slots are numbered from 1; 0 is the null pointer of a bin without an array. */
#define ARRAY      1
#define BASE_SHUT  15
#define LIMIT_SHUT 0

enum location { BUSY, TOP, BASE, LIMIT, STATE, SLOT, LOCATIONS = SLOT + ARRAY + SLOTS };
enum cache { OPEN, SHUT, DRAINED };
enum place { IN_HEAP, IN_CACHE, WITH_OWNER };
enum who { OWNER, PURGER, TRIMMER, THREADS, NOBODY = THREADS };

enum owner_at {
	OWNER_CHOOSES, SET_BUSY, READ_TOP, READ_BOUND, TEST_BOUND, MOVE_TOP, CLEAR_BUSY,
	SLOW_SET_BUSY, SLOW_LOCK, SLOW_WORK, SLOW_UNLOCK, SLOW_CLEAR_BUSY
};
enum drainer_at {
	BEGIN_PASS, FIRST_LOCK, SHUT_BASE, SHUT_LIMIT, UNLOCK_SHUT, BARRIER, AWAIT_BARRIER,
	SECOND_LOCK, READ_BUSY, TAKE_TOP, TAKE_SLOT, SET_TOP, UNLOCK_DRAINED, OPEN_BASE, OPEN_LIMIT,
	UNLOCK_OPEN, UNLOCK, END_PASS
};

struct store {
	uint8_t location, value;
};

/* Bytes only: states are compared as memory. */
struct state {
	uint8_t memory[LOCATIONS];
	struct store queue[THREADS][QUEUE];
	uint8_t queued[THREADS];
	uint8_t lock, pass;     /* enum who: has the cache's, the pass's */
	uint8_t capacity;       /* guarded by the lock */
	uint8_t barrier_due[THREADS]; /* the owner has yet to pass that drainer's */
	uint8_t at[THREADS];
	uint8_t left[THREADS];  /* operations, passes to come */
	uint8_t frees, served;  /* the owner's operation: a free; needs no slow path */
	uint8_t block;          /* in its hand */
	uint8_t top[THREADS], bound; /* registers */
	uint8_t place[BLOCKS];  /* where each block is in truth */
};

/* ---- the processor ---- */

static inline bool store(struct state *s, enum who who, unsigned location, unsigned value)
{
	if (s->queued[who] == QUEUE)
		return false;
	s->queue[who][s->queued[who]++] = (struct store){ (uint8_t)location, (uint8_t)value };
	return true;
}

static inline uint8_t load(const struct state *s, enum who who, unsigned location)
{
	for (unsigned i = s->queued[who]; i > 0; i--) {
		if (s->queue[who][i - 1].location == location)
			return s->queue[who][i - 1].value;
	}
	return s->memory[location];
}

static inline bool reach_memory(struct state *s, enum who who)
{
	struct store *queue = s->queue[who];

	if (s->queued[who] == 0)
		return false;
	s->memory[queue[0].location] = queue[0].value;
	memmove(queue, queue + 1, (QUEUE - 1) * sizeof(*queue));
	queue[--s->queued[who]] = (struct store){ 0, 0 };
	return true;
}

/* The owner is interrupted for a membarrier. */
static inline bool pass_barrier(struct state *s, enum who whose)
{
	if (!s->barrier_due[whose] || s->queued[OWNER] != 0)
		return false;
	s->barrier_due[whose] = 0;
	return true;
}

#endif
