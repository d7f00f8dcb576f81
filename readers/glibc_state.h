/*
 * What is copied of a glibc heap while its process is stopped: the arenas' own
 * structures, the parameters, the lists' links and the threads' caches.  The blocks
 * go straight to the model.  Layer: readers.
 *
 * Only copying happens while the process waits; lists are followed afterwards, in
 * the copies (glibc_lists).  struct glibc_state owns its arrays.
 */
#ifndef CEDE_READERS_GLIBC_STATE_H
#define CEDE_READERS_GLIBC_STATE_H

#include "model/model.h"
#include "readers/glibc_find.h"
#include "readers/window.h"

struct glibc_arena {
	uint64_t address;
	bool contiguous;             /* the break has always given what it was asked for */
	uint64_t system_bytes;
	uint64_t top;                /* address of the top chunk, 0 when there is none yet */
	uint64_t top_aside;          /* bytes behind it that are being given back */
	uint64_t fast[GLIBC_FAST_BINS];
	uint64_t links[2 * GLIBC_BINS];   /* of the bins' headers */
	uint64_t region_bytes;       /* of the regions found, and of gaps between them */
	uint64_t gap_bytes;          /* of the gaps alone */
	size_t free_blocks;          /* chunks that the next one says are free */
};

/* The links of a chunk that is free, or that may be in a fast bin; by ascending block. */
struct glibc_link {
	uint64_t forward, backward;
	size_t block;
};

/* A chunk in a thread's cache. */
struct glibc_cached {
	uint64_t chunk;
	uint64_t bytes;              /* what its bin says of its size; 0: nothing */
	size_t cache;                /* its index in the model */
};

struct glibc_params {
	uint64_t break_begin;
	uint64_t huge_page;
	uint64_t mapped_count, mapped_bytes;
};

struct glibc_state {
	const struct glibc *glibc;
	struct model *model;
	struct glibc_arena *arenas;
	size_t arena_count, arena_room;
	struct glibc_link *links;
	size_t link_count, link_room;
	struct glibc_cached *cached;
	size_t cached_count, cached_room;
	uint64_t *tables;            /* chunks that hold the caches themselves */
	size_t table_count;
	struct glibc_params params;
	struct window *window;
	size_t locked_arenas;        /* read all the same, as nobody will unlock them */
	unsigned probes;             /* chunks looked at to find where regions begin */
	char *why;                   /* of `room` bytes: what does not agree, and where */
	size_t why_room;
};

enum glibc_copied {
	GLIBC_COPIED,
	GLIBC_LOCKED,                /* a thread is inside malloc */
	GLIBC_BROKEN,                /* what is there cannot be a heap: `why` */
	GLIBC_NO_MEMORY              /* for us */
};

/* Copies arenas, parameters and caches into an empty state; the model gets its
 * arenas, caches and settings. */
enum glibc_copied glibc_state_copy(struct glibc_state *state);
void glibc_state_free(struct glibc_state *state);

/* For `return glibc_state_broken(...)`: GLIBC_BROKEN. */
enum glibc_copied glibc_state_broken(struct glibc_state *state, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Copies the links of a block, or notes a chunk in a cache.  Returns whether there was
 * memory. */
bool glibc_state_link(struct glibc_state *state, size_t block, const uint64_t links[2]);
bool glibc_state_cache(struct glibc_state *state, const struct glibc_cached *cached);

/* Room in `arenas` for one more. */
bool glibc_state_room(struct glibc_state *state);

#endif
