/*
 * How much a thread's cache may hold, and takes at once.  Layer: heap; for cache.c alone.
 * All by size: a class's slots, a thread's bytes.
 */
#ifndef CEDE_HEAP_CACHE_BOUNDS_H
#define CEDE_HEAP_CACHE_BOUNDS_H

#include "heap/registry.h"

/*
 * A bin's array: first up to 16 slots of an area in which all classes lie side by side, so
 * that a thread of few blocks touches few pages; then up to 128 of another such area; once
 * it has grown further, pages of its own.  Capacities double at each miss, up to a class's
 * bytes and the thread's.
 */
#define SMALL_SLOTS   16
#define MIDDLE_SLOTS  128
#define CLASS_SLOTS   2048
#define FIRST_BYTES   ((size_t)4 << 10)
#define FIRST_PART    64                 /* of what the thread may cache, if that is less */
#define FIRST_MARK    ((size_t)4 << 10)
#define FIRST_MARKS   ((size_t)32 << 10) /* of all threads, for one class */
#define THREAD_BYTES  ((size_t)4 << 20)
#define TOTAL_BYTES   ((size_t)32 << 20)
#define THREAD_TABLES ((size_t)36 << 10) /* of these for a thread's record and arrays */
#define THREAD_FLOOR  ((size_t)64 << 10)
#define THREAD_LEAST  ((size_t)768 << 10)
#define TOTAL_LEAST   ((size_t)2 << 20)
/* Blocks that move under one lock of an arena: 256 and 64 KiB at most, but 64 in any case. */
#define RUN           256
#define RUN_BYTES     ((size_t)64 << 10)
#define RUN_LEAST     64

static inline unsigned most_slots(unsigned class)
{
	size_t slots = THREAD_BYTES / class_sizes[class];

	return (unsigned)(slots < CLASS_SLOTS ? slots : CLASS_SLOTS);
}

static inline size_t most_at_once(unsigned class)
{
	return size_max(size_min(RUN, RUN_BYTES / class_sizes[class]), RUN_LEAST);
}

static inline unsigned first_slots(const struct thread *t, unsigned class)
{
	size_t bytes = t->most == 0 ? FIRST_BYTES : size_min(FIRST_BYTES, t->most / FIRST_PART);

	return (unsigned)size_max(size_min(bytes / class_sizes[class], SMALL_SLOTS), 1);
}

/*
 * What one thread may cache: its share of TOTAL_BYTES, or of half of what the heap has,
 * as far as the thread's own arena tells, when that is less and above THREAD_LEAST.
 */
static inline size_t thread_bytes(const struct thread *t)
{
	const struct arena *a = registry_arena(t);
	size_t has = (__atomic_load_n(&a->system_bytes, __ATOMIC_RELAXED) +
	              __atomic_load_n(&a->slabs.live_bytes, __ATOMIC_RELAXED)) * arena_count();
	size_t threads = registry_count(), most = TOTAL_BYTES / threads;
	size_t share = size_max(size_max(has / 2, TOTAL_LEAST) / threads, THREAD_LEAST);

	most = most > THREAD_TABLES + THREAD_FLOOR ? most - THREAD_TABLES : THREAD_FLOOR;
	return size_min(size_min(share, most), THREAD_BYTES);
}

#endif
