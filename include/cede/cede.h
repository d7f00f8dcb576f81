/*
 * cede: the memory allocator that gives memory back.
 *
 * Link with -lcede, or preload libcede.so: either way malloc, free and the rest
 * of libc's family come from cede.  This header declares what libc does not
 * have.  Every function is safe to call from any thread.
 */
#ifndef CEDE_CEDE_H
#define CEDE_CEDE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CEDE_VERSION_MAJOR 0
#define CEDE_VERSION_MINOR 1
#define CEDE_VERSION_PATCH 0

/* The version of the library that runs, "major.minor.patch". */
const char *cede_version(void);

/*
 * Options, read once at the first allocation: from this string, when the
 * program defines it, then from the environment variable CEDE_OPTIONS, which
 * wins.  The form is "name=value,name=value"; an unknown name or value gets one
 * line on stderr and is ignored.
 *
 *   policy=default|classic   default gives memory back by itself; classic is
 *                            ptmalloc as it is, and keeps it
 *   background=on|off        whether the default policy may start its thread;
 *                            when off, or when the thread cannot be made,
 *                            memory goes back on slow paths of malloc and free,
 *                            at most 2 MiB by each, and nobody sees when memory is
 *                            short
 *   retain_max=BYTES         at most so much is kept that is free and resident;
 *                            "64M": K, M and G are units.  Whoever frees more gives
 *                            it back at once.  Not counted is what threads cache,
 *                            to 1 MiB each.  Default policy; unset: no bound
 *   huge=off|on              whether slabs of large arenas (above 32 MiB) ask for
 *                            huge pages
 *
 * A program defines it as:  const char *cede_options = "policy=classic";
 */
extern const char *cede_options;

enum cede_policy { CEDE_POLICY_DEFAULT = 0, CEDE_POLICY_CLASSIC = 1 };

/* What the thread that gives memory back is doing. */
enum cede_purger {
	CEDE_PURGER_NONE = 0,    /* not started: there was never enough to give back */
	CEDE_PURGER_ASLEEP = 1,  /* nothing to do */
	CEDE_PURGER_AWAKE = 2,   /* waiting for free memory to age, or giving it back */
	CEDE_PURGER_ABSENT = 3   /* switched off, or it could not be made */
};

/*
 * A snapshot of the heap.  All sizes are bytes and include each block's header;
 * blocks of slabs have none.
 * Fields are only ever added at the end.
 */
struct cede_stats {
	uint32_t policy;               /* enum cede_policy */
	uint32_t purger;               /* enum cede_purger */
	uint64_t arenas;               /* arenas made so far */
	uint64_t live_bytes;           /* in blocks the program holds, mapped ones too */
	uint64_t free_bytes;           /* in free chunks, fast bins, tops, spares, and what
	                                  is not live of slabs */
	uint64_t free_resident_bytes;  /* whole free pages that may be resident: an
	                                  upper bound.  Default policy; 0 in classic */
	uint64_t system_bytes;         /* got from the system: arenas and mapped blocks */
	uint64_t system_peak_bytes;
	uint64_t mapped_bytes;         /* in blocks mapped one by one */
	uint64_t mapped_blocks;
	uint64_t purged_bytes;         /* given back with madvise since the start */
	uint64_t purge_calls;          /* system calls that took */
	uint64_t purge_passes;         /* times the heap was looked over */
	uint64_t lock_waits;           /* times a thread found an arena's lock taken */
	uint64_t lock_sleeps;          /* times it slept then: many of these want more
	                                  arenas, or fewer threads */
	/* Slabs, which small blocks come from.  Default policy; 0 in classic. */
	uint64_t slab_bytes;           /* of system_bytes */
	uint64_t slab_live_bytes;      /* of live_bytes */
	uint64_t slab_free_blocks;     /* blocks that are free in slabs */
	uint64_t slab_resident_bytes;  /* of slab_bytes: pages that may be resident */
	uint64_t slab_record_bytes;    /* what describes slabs, beside system_bytes: an
	                                  upper bound */
	uint64_t cached_bytes;         /* of live_bytes: free, but in the caches of threads
	                                  that were at work just then */
	uint64_t pressure_releases;    /* times that all went because memory was short */
	uint64_t slab_free_resident_bytes; /* of free_resident_bytes */
	uint64_t spare_bytes;          /* of free_resident_bytes: what mapped blocks left */
	uint64_t pinned_bytes;         /* of free_bytes: on resident pages that are not wholly
	                                  free.  Default policy; 0 in classic */
	uint64_t caching_threads;      /* those threads */
	uint64_t refaulted_bytes;      /* given back, and then wanted again */
	uint64_t purge_ns;             /* processor time of purge_passes, nanoseconds */
	/* Why free memory is still there.  Times are milliseconds of CLOCK_MONOTONIC. */
	uint64_t pressure_ms;          /* when memory last was short; 0: never */
	uint64_t memory_locked;        /* 1: all is (mlockall), and nothing can go, as of the
	                                  last look */
	uint64_t delay_ms;             /* how long it must have been free: 250, and more while
	                                  what went is soon wanted */
	uint64_t thread_retry_ms;      /* when the system, which refused the thread, is asked
	                                  again; 0: it did not */
};

/*
 * Fills the first `size` bytes of *stats, so that a program built against an
 * older header runs on a newer library; a larger size than the library knows is
 * filled with zeros.  Returns 0, or EINVAL when stats is NULL.
 */
int cede_stats(struct cede_stats *stats, size_t size);

/*
 * Gives free memory back now: whole free pages, at most about max_bytes of them
 * (0: all).  Returns the bytes given back.  In classic it is malloc_trim(0)
 * and max_bytes has no effect.
 */
size_t cede_release(size_t max_bytes);

/*
 * libc's family under names of its own, for programs that keep another malloc.
 * Each behaves as the function it is named after, errno included.
 */
void *cede_malloc(size_t size);
void cede_free(void *ptr);
void *cede_calloc(size_t count, size_t size);
void *cede_realloc(void *ptr, size_t size);
void *cede_reallocarray(void *ptr, size_t count, size_t size);
void *cede_memalign(size_t alignment, size_t size);
void *cede_aligned_alloc(size_t alignment, size_t size);
int cede_posix_memalign(void **ptr, size_t alignment, size_t size);
void *cede_valloc(size_t size);
void *cede_pvalloc(size_t size);
size_t cede_malloc_usable_size(void *ptr);
void cede_free_sized(void *ptr, size_t size);
void cede_free_aligned_sized(void *ptr, size_t alignment, size_t size);
int cede_mallopt(int param, int value);
int cede_malloc_trim(size_t pad);
void cede_malloc_stats(void);
/* `stream` is a FILE *, kept opaque so that this header needs no <stdio.h>. */
int cede_malloc_info(int options, void *stream);
/* Each fills the structure of <malloc.h> that its name ends in. */
struct mallinfo;
struct mallinfo2;
void cede_mallinfo(struct mallinfo *info);
void cede_mallinfo2(struct mallinfo2 *info);

#ifdef __cplusplus
}
#endif
#endif
