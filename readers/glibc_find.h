/*
 * Where a process's glibc keeps its heap, found without symbols.  Layer: readers.
 *
 * The main arena is 127 bins in a row, whose empty ones point at themselves, and
 * whose ring of arenas closes; everything else is told from there.
 */
#ifndef CEDE_READERS_GLIBC_FIND_H
#define CEDE_READERS_GLIBC_FIND_H

#include "readers/glibc_layout.h"
#include "readers/memory.h"
#include "readers/stop.h"

#define GLIBC_ARENAS_MOST 65536u

struct glibc {
	const struct memory *memory;
	const struct stop *stop;
	const struct glibc_layout *layout;
	uint64_t main_arena;
	uint64_t params;            /* address of struct malloc_par */
	uint64_t cache_below;       /* from a thread's pointer down to that of its cache; 0: none */
	unsigned version;           /* as the file says, 217 for 2.17; 0 when it does not */
	uint64_t module_begin, module_end;   /* the mapped file that has malloc's code and data */
	unsigned hops;              /* made to see whether rings of arenas close */
	char why[240];              /* what is wrong, when something is */
};

enum glibc_found {
	GLIBC_FOUND,
	GLIBC_NO_HEAP,              /* no glibc, or its heap has never been used */
	GLIBC_UNKNOWN_LAYOUT        /* why says which version */
};

/* Fills what lies below `stop`.  The process must be stopped. */
enum glibc_found glibc_find(struct glibc *glibc);

/* Whether the mapped file is glibc's library, by its name. */
bool glibc_find_is_library(const struct memory_mapping *mapping);

/* A word of the process, or 0. */
uint64_t glibc_find_word(const struct glibc *glibc, uint64_t address);

/* Whether its counts of mapped chunks may be wrong: threads changed them at the same time. */
bool glibc_find_miscounts(const struct glibc *glibc, const struct glibc_layout *layout);

/* Whether the table of a thread's cache lies at this address. */
bool glibc_find_cache(const struct glibc *glibc, const struct glibc_layout *layout,
                      uint64_t table);

/* The address of an arena's `bins`. */
static inline uint64_t glibc_find_bins(const struct glibc *glibc, uint64_t arena)
{
	return arena + glibc->layout->bins;
}

#endif
