/*
 * How a tool reads the heap of a process that runs on cede, or of its core,
 * without its help: the data symbol `cede_descriptor` of libcede.so says where
 * everything is.  All values are of the target's own word size; pointers are
 * addresses in the target.
 */
#ifndef CEDE_DESCRIPTOR_H
#define CEDE_DESCRIPTOR_H

#include <stdint.h>

/* Found by the symbol, or by this text in a writable segment. */
#define CEDE_DESCRIPTOR_MAGIC "cede descriptor"

/* Raised when a field changes its meaning; fields are only added at the end. */
#define CEDE_DESCRIPTOR_VERSION 2

/*
 * The offsets lead into struct arena, whose chunks, bins, fast bins and binmap
 * have ptmalloc's layout.  Large bins of the default policy are trees instead: a
 * node's fd_nextsize and bk_nextsize are its children, its fd and bk a ring of
 * equal sizes.
 *
 * Small blocks of the default policy lie in the window, from its base on to where it is
 * open.  It is cut into units, and each has a record; a slab is one unit or more, and
 * what it is says the record of its first.
 */
struct cede_descriptor {
	char magic[16];
	uint32_t version;
	uint32_t size;               /* of this structure */
	uint8_t library_version[4];  /* major, minor, patch, 0 */
	uint32_t reserved;
	uint64_t policy;             /* address of 4 bytes: enum cede_policy */
	uint64_t page_size;          /* address of 8 bytes */

	uint64_t main_arena;         /* address; the list goes on by arena_next.  Its
	                                top is NULL until the heap is first used */
	uint32_t arena_size;
	uint32_t arena_lock;         /* offset of 4 bytes: 0 when nobody holds it, else its
	                                holder's thread id, and perhaps the highest bit */
	uint32_t arena_fastbins;     /* 10 pointers to chunks */
	uint32_t arena_top;
	uint32_t arena_bins;         /* 254 pointers */
	uint32_t arena_binmap;       /* 4 words of 32 bits */
	uint32_t arena_system_bytes;
	uint32_t arena_region;       /* main arena: where the top's region begins */
	uint32_t arena_trees;        /* 63 pointers: roots, by large bin */
	uint32_t arena_dirty_bytes;
	uint32_t arena_claimed_bytes;
	uint32_t arena_top_claimed;
	uint32_t arena_next;

	uint32_t chunk_dirty_lo;     /* offsets into a free chunk of at least a page */
	uint32_t chunk_dirty_hi;
	uint64_t heap_max;           /* other arenas: heaps are aligned to this */
	uint64_t mapped;             /* address of: blocks, bytes, max blocks, max bytes */
	uint64_t purge_counts;       /* address of: bytes, calls, passes, nanoseconds of
	                                these; releases because memory was short, when
	                                the last was; 1 while all memory is locked; how
	                                long free memory waits; when an absent thread is
	                                tried again.  Times in milliseconds */

	uint32_t arena_lock_waits;   /* 8 bytes: times its lock was not free */
	uint32_t arena_lock_sleeps;  /* 8 bytes: times a thread slept for it */

	uint32_t arena_slab_live;    /* 8 bytes: bytes in blocks of slabs */
	uint32_t arena_slab_units;   /* 8 bytes: units of slabs */
	uint32_t arena_slab_pages;   /* 8 bytes: pages of the window that may be resident */
	uint32_t unit_size;
	uint64_t window;             /* address of 6 words: base, 0 when there is none; open
	                                bytes / 16; 2 bytes for each unit, 0 of one that no
	                                slab has; the records; bitmaps that are not in
	                                records, one of unit_size / 128 bytes for each unit;
	                                the segments */
	uint32_t record_size;
	uint32_t record_arena;       /* pointer */
	uint32_t record_bits;        /* pointer to 64-bit words: 1 is a free block */
	uint32_t record_block_size;  /* 4 bytes */
	uint32_t record_blocks;      /* 2 bytes */
	uint32_t record_units;       /* 1 byte */
	uint32_t record_free;        /* 2 bytes: blocks, as the bits say */
	uint32_t record_claimed;     /* 2 bytes: blocks that are free without such a bit */

	uint32_t arena_binned;       /* 8 bytes: free chunks, but for the top */
	uint32_t arena_gone;         /* 8 bytes: of these, pages that went back */
	uint32_t segment_size;       /* of what describes a segment */
	uint32_t segment_units;      /* units of a segment */
	uint32_t segment_touched;    /* 2 bytes for each unit: which of its pages may be
	                                resident */
	uint32_t arena_segments;     /* 8 bytes: how many it has */
	uint32_t arena_slab_peak;    /* 8 bytes: the most units; like the next, a peak */
	uint32_t arena_peak;         /* 8 bytes: system bytes but for slabs */
	uint32_t arena_top_dirty;    /* 2 words: which pages of the top may be resident */
	uint32_t arena_refaulted;    /* 8 bytes: bytes that went back and were wanted again */

	uint64_t background;         /* address of 1 byte: 0 when it may have no thread */
	uint64_t purger;             /* address of 4 bytes: enum cede_purger, if it may */
	uint64_t spares;             /* address of 2 words: bytes; those wanted again */
	uint64_t threads;            /* address of a pointer to the first thread's record */
	uint32_t thread_next;        /* pointer to the next, NULL of the last */
	uint32_t thread_bins;        /* for each class 4 words, of which the first is where its
	                                cached blocks end, of 8 bytes each; of the last the low
	                                half is the slot where they begin, and the high half is
	                                not 0 while the thread moves them.  Nothing is cached
	                                where they do not begin below their end */
	uint32_t classes;
	uint32_t reserved_2;
	uint64_t class_sizes;        /* address of 4 bytes for each class */
	uint64_t retain_max;         /* address of 8 bytes: the option; all ones: no bound */

	uint64_t purger_asked;       /* address of 4 bytes: 1, written by a tool, asks the purger
	                                to give all back; it writes 0 when it has.  Asleep it
	                                must also be told that it is awake (purger) and be
	                                interrupted */
	uint32_t arena_contiguous;   /* main arena, 1 byte: 0 once the break could not move */
	uint32_t arena_lowest;       /* main arena: address where its memory begins */
	uint32_t heap_header;        /* other arenas: bytes at a heap's begin, of which the
	                                first 3 words are the addresses of its arena and of
	                                the heap before it, and its bytes.  The arena follows
	                                in its first heap, then come chunks */
	uint32_t segment_arena;      /* pointer; of a segment without slabs and touched pages
	                                without meaning */
	uint32_t thread_id;          /* 4 bytes: as the system calls it; it may have ended */
	uint32_t thread_caching;     /* 1 byte: 0 when it has no cache, and its bins look busy */
	uint32_t thread_lock;        /* 4 bytes, as arena_lock */
	uint32_t thread_slots;       /* pointer to the first of its bins' slots, or NULL */
	uint32_t claim_size;         /* what the purger holds just now: free, but it looks used */
	uint32_t claim_arena;        /* pointer; whole while nobody holds its lock */
	uint32_t claim_count;        /* 4 bytes: of ranges */
	uint32_t claim_ranges;       /* start and bytes of each, whole pages: of free chunks, of
	                                what was the top's end, or of the window */
	uint32_t setting_trim_threshold; /* 8 bytes, as the next four */
	uint32_t setting_mmap_threshold;
	uint32_t setting_top_pad;
	uint32_t setting_arena_max;
	uint32_t setting_mmap_max;
	uint32_t setting_dynamic;    /* 1 byte: 0 once the program set a threshold */
	uint64_t settings;           /* address of them */
	uint64_t claim;              /* address of a pointer to it */
	uint64_t slots_bytes;        /* address of 8 bytes: of the memory at thread_slots */
	uint64_t spare_places;       /* address of 3 pointers: to 4 bytes as arena_lock, to 4
	                                bytes, the count, and to start and bytes of each */
	uint64_t window_parts;       /* address of begin and bytes of what else has the window's
	                                addresses: they are no pointers to blocks */
};

#endif
