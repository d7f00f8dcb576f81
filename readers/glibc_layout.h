/*
 * Where glibc keeps what in its heap, by version.  Layer: readers.
 *
 * Offsets of struct malloc_state are told from `bins`, its most recognisable field;
 * those before and after it have kept their distance to it:
 *
 *   -112/-104/-24  lock word; flags 4 further        start of the structure
 *   -96            fast bins, 10 pointers            (none from 2.43 on)
 *   -16            top
 *     0            127 pairs of links; a bin's header begins 16 before its pair
 *   2048           next arena
 *   2072 / 2064    system_mem                        (2064 before 2.23)
 */
#ifndef CEDE_READERS_GLIBC_LAYOUT_H
#define CEDE_READERS_GLIBC_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GLIBC_BINS 127            /* bins have numbers from 1 on; 1 is the unsorted one */
#define GLIBC_FAST_BINS 10
#define GLIBC_LINKS 16            /* from a chunk, or a bin's header, to its links */
#define GLIBC_CHUNK_LEAST 32u
#define GLIBC_FENCE 16u           /* size of a fencepost, which is no chunk */

/* The low bits of a chunk's size. */
#define GLIBC_PREVIOUS_USED 1ul
#define GLIBC_IS_MAPPED 2ul
#define GLIBC_NOT_MAIN 4ul
#define GLIBC_FLAGS 7ul

/* From `bins`. */
#define GLIBC_FROM_BINS_FAST (-96)
#define GLIBC_FROM_BINS_TOP (-16)
#define GLIBC_FROM_BINS_NEXT 2048

/* How a thread's cache counts. */
enum glibc_cache {
	GLIBC_CACHE_NONE,
	GLIBC_CACHE_BYTES,      /* 64 counts of a byte */
	GLIBC_CACHE_COUNTS,     /* 64 counts of two bytes */
	GLIBC_CACHE_SLOTS       /* 76 counts of two bytes, of blocks that still fit */
};

struct glibc_layout {
	unsigned first, last;           /* versions, 217 for 2.17 */
	/* struct malloc_state */
	uint32_t bins;
	uint32_t from_bins_system;
	uint32_t state_bytes;
	bool fast_bins;
	/* struct malloc_par: trim_threshold, top_pad, mmap_threshold, arena_test and
	 * arena_max are its first five words; n_mmaps, n_mmaps_max, max_n_mmaps and
	 * no_dyn_threshold follow each other as ints, sbrk_base comes after
	 * mmapped_mem, max_mmapped_mem and what else there was. */
	uint32_t params_bytes;
	uint32_t huge_page;             /* 0: none */
	uint32_t mapped_count, mapped_bytes, break_begin;
	/* struct heap_info */
	uint32_t heap_header;
	enum glibc_cache cache;
	bool links_are_masked;          /* fast bins and caches: by their address / 4096 */
	bool mapped_size_is_net;        /* of a mapped chunk: without its header */
	bool mapped_bytes_drift;        /* upwards by 16 with each realloc of a mapped chunk */
	unsigned mapped_race_last;      /* up to this version threads miscount mapped chunks */
	/* Of cede, whose chunks lie as glibc's do: */
	bool mapped_flag_varies;        /* a mapped chunk may say that the one before is used */
	bool main_ends_as_heaps;        /* the main arena's regions, as other heaps: see fence_step */
};

/* The layout of a version, or NULL when none is known. */
const struct glibc_layout *glibc_layout_of(unsigned version);

/* All, the newest first. */
const struct glibc_layout *glibc_layout_list(size_t *count);

/* A cache's table: how many bins, where the pointers begin, and the size of its chunk. */
unsigned glibc_layout_cache_bins(const struct glibc_layout *layout);
size_t glibc_layout_cache_entries(const struct glibc_layout *layout);
size_t glibc_layout_cache_chunk(const struct glibc_layout *layout);

/* The bin for chunks of this size. */
unsigned glibc_layout_bin(uint64_t chunk_bytes);

#endif
