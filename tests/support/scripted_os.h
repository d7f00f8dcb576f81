/*
 * The operating system by script: the linker's --wrap leads the allocator's calls
 * of os/os.h here, and they go on to the real ones unless a test says otherwise.
 * Layer: tests.
 *
 * The break is a test's own from script_heap on: a reservation, outside of which
 * the heap faults, so that libc's malloc in the same process disturbs nothing and
 * "somebody else" moves it when the test says.
 */
#ifndef TESTS_SUPPORT_SCRIPTED_OS_H
#define TESTS_SUPPORT_SCRIPTED_OS_H

#include <stddef.h>
#include <stdint.h>

#include "heap/heap.h"
#include "os/os.h"

enum os_call {
	OS_SBRK, OS_MAP, OS_MAP_AT, OS_UNMAP, OS_REMAP, OS_PROTECT, OS_DISCARD, OS_THREAD,
	OS_CPUS, OS_CALLS
};

/* All calls are forwarded again; counts and records are empty. */
void script_reset(void);

/* The nth call from now on fails (1: the next). */
void script_fail(enum os_call call, unsigned nth);
/* That call and every later one fails, until script_reset. */
void script_fail_from(enum os_call call, unsigned nth);

/* Calls since script_reset, failed ones too. */
unsigned script_calls(enum os_call call);

/* The clock stands until the next such call; 0: the real one. */
void script_clock(uint64_t ms);

/* What lies between two readings of a thread's own clock takes so long; 0: what it takes. */
void script_thread_takes(uint64_t ns);

/* So many processors from now on. */
void script_cpus(unsigned count);

/* Memory is short, so many times; else it never is.  Atomic. */
extern unsigned script_shortages;

/* The next os_map asks for this place, which a free one gets. */
void script_map_at(void *address);

/* Somebody else moves the break; returns the old one. */
char *script_foreign_sbrk(intptr_t increment);
/* The next os_sbrk that grows gets its memory here, as if the break were there. */
void script_break_at(void *address);

/*
 * Called at each os_discard, before the system is; the heap's locks are free then,
 * but for the purge lock.  NULL: nobody.
 */
extern void (*script_discarding)(const struct os_range *ranges, unsigned count);
/* Bytes of all ranges that os_discard was asked for since script_reset. */
extern size_t script_discarded;

/*
 * An empty main arena on a break of its own, with glibc's settings and that
 * policy; the calling thread is attached to it.  Its blocks are never mapped by
 * themselves unless the test lowers settings.mmap_threshold.
 */
struct arena *script_heap(enum policy policy);

/* The same in the default policy with slabs, and with thread caches or without. */
struct arena *script_heap_of_slabs(bool caching);

/* The present break of that heap. */
char *script_break(void);

#endif
