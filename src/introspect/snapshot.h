/*
 * A snapshot of the heap as numbers, and its texts: malloc_stats, malloc_info,
 * mallinfo.  Layer: introspect.  Filled by introspect/snapshot.c under each
 * arena's lock in turn; printed afterwards with no lock held.
 */
#ifndef CEDE_INTROSPECT_SNAPSHOT_H
#define CEDE_INTROSPECT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_BINS 127        /* ptmalloc's bins 1..126; [0] unused */
#define SNAPSHOT_FASTBINS 10
#define SNAPSHOT_CLASSES  88     /* of slabs */

struct bin_sizes {
	size_t from, to;         /* smallest and largest chunk seen, bytes; 0 when empty */
	size_t total;            /* bytes in the bin */
	size_t count;            /* chunks in the bin */
};

/* Free blocks of the slabs of one class; a class serves requests of `from` to `to` bytes. */
struct class_blocks {
	uint32_t from, to;
	size_t free;
};

/*
 * Slabs, of one arena or of all.  A unit counts as got from the system while a slab
 * has it or a page of it may be resident, and its bytes are live or free: the end of
 * a slab, where no block fits, is free.
 */
struct slab_sums {
	size_t segments;
	size_t units, free_units;      /* of slabs, and of none but perhaps resident */
	size_t system_bytes;           /* both */
	size_t live_bytes;
	size_t free_blocks;            /* those that the purger holds, too */
	size_t resident_bytes;         /* pages that may be */
	size_t free_resident_bytes;    /* of these, pages without a live byte */
	size_t record_bytes;           /* what describes all this, at most; not in system_bytes */
};

/* One arena.  All bytes include headers. */
struct arena_snapshot {
	struct bin_sizes fast[SNAPSHOT_FASTBINS];
	struct bin_sizes bins[SNAPSHOT_BINS];  /* [1] unsorted, 2..63 small, 64..126 large */
	size_t fast_bytes, fast_chunks;        /* all fast bins */
	struct class_blocks classes[SNAPSHOT_CLASSES];
	struct slab_sums slabs;                /* all below count them, but for the top */
	size_t free_bytes, free_chunks;        /* unsorted, small and large bins, the top, and
	                                          of slabs blocks and units */
	size_t top_bytes;
	size_t system_bytes, max_system_bytes;
	size_t heaps;                          /* mmapped heaps; 0 for the main arena */
	size_t address_space, address_space_writable; /* reserved and writable bytes */
	size_t dirty_bytes;                    /* whole free pages that may be resident */
	size_t pinned_bytes;                   /* free, on resident pages that are not free */
	size_t refaulted_bytes;                /* went back, and were handed out again */
	size_t lock_waits, lock_sleeps;        /* as in os/lock.h */
	bool is_main;
};

/* Outside the arenas. */
struct mapped_snapshot {
	size_t blocks, bytes, max_blocks, max_bytes;
	size_t spares, spare_bytes;            /* what they left: free, not yet given back */
	size_t refaulted_bytes;
};

/* arena->system_bytes - free_bytes - fast_bytes: what is in blocks. */
static inline size_t arena_snapshot_in_use(const struct arena_snapshot *a)
{
	return a->system_bytes - a->free_bytes - a->fast_bytes;
}

static inline void slab_sums_add(struct slab_sums *sum, const struct slab_sums *one)
{
	sum->segments += one->segments;
	sum->units += one->units;
	sum->free_units += one->free_units;
	sum->system_bytes += one->system_bytes;
	sum->live_bytes += one->live_bytes;
	sum->free_blocks += one->free_blocks;
	sum->resident_bytes += one->resident_bytes;
	sum->free_resident_bytes += one->free_resident_bytes;
	sum->record_bytes += one->record_bytes;
}

/* The policy of the process. */
bool snapshot_is_default(void);
size_t snapshot_arena_count(void);
/* Index 0 is the main arena.  Returns false past the last. */
bool snapshot_arena(size_t index, struct arena_snapshot *out);
void snapshot_mapped(struct mapped_snapshot *out);

#endif
