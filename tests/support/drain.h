/*
 * A thread that fills its cache when it is told, for others to empty.  Layer: tests.  For
 * children of child_test, in programs linked with --wrap=os_barrier_everywhere.
 */
#ifndef TESTS_SUPPORT_DRAIN_H
#define TESTS_SUPPORT_DRAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "heap/cache.h"

#define BLOCKS 150 /* that fill() leaves in the caller's cache */
#define BYTES  500

/* ---- the scripted barrier ---- */

extern bool barrier_works;
extern unsigned barriers; /* asked for; atomic */
/* Called at the next one, when the caches of its pass are shut. */
extern void (*at_barrier)(void);

/* ---- the heap ---- */

extern bool with_slabs; /* small blocks are of slabs, not chunks */
extern struct arena *drain_arena;
extern size_t live; /* bytes, when nothing is cached */

/* The worker has a record from then on. */
void drain_start(void);
size_t live_bytes(void);

/* ---- the worker ---- */

extern struct thread *record; /* its */

void worker_begins(void (*what)(void));
void worker_ends(void);
void worker_does(void (*what)(void));
void worker_starts(void);
void worker_dies(void);
/* It begins, and has come to hold_up(); it goes on and ends. */
void worker_is_held_up(void (*what)(void));
void worker_goes_on(void);

/* ---- what it does, or another thread ---- */

void fill(void);
void take_the_newest(void);
void take_one(void);
void take_any(void);
void drain_all(void);
void hold_up(void);
/* A pass inside the pass of the same thread, which has shut the worker's cache. */
void come_again(void);
/* What a newcomer finds, when it took the worker's record over. */
void takes_over(void);
/* drain_all of a thread of its own, without a record: it would take another's. */
void *drain_in_thread(void *unused);

/* ---- what is so ---- */

void sleeps_on(const struct lock *lock);
bool is_empty(struct thread *t);
bool is_whole(struct thread *t);
/* The worker's, not open or open: filled, taken from and emptied. */
void is_used_again(struct thread *t);

#endif
