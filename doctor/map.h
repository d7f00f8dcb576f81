/*
 * A heap as a picture: its address space in rows of cells, and of each cell what
 * became of its bytes.  Layer: doctor; a calculation on the model.
 *
 * A cell is one page, or so many (a power of two) that there are not too many
 * cells.  A run of a row's length and more in which nothing is resident is one cell
 * in a row of its own, a gap.  Sections are the break, the heaps of each other arena and
 * the slabs of each (or of all, where they are many), the mapped blocks, and what the
 * allocator has beside its heap.  struct map owns its arrays from
 * map_draw to map_free.
 *
 * I1: the cells of a region are neighbours, ascend and tile it: each byte of the heap
 *     is in one cell;
 * I2: the cells' bytes of a state sum up to map->bytes, and those of the resident
 *     states to account's heap_bytes;
 * I3: each cell is in one row, each row in one section, in their order.
 */
#ifndef CEDE_DOCTOR_MAP_H
#define CEDE_DOCTOR_MAP_H

#include "model/model.h"

#define MAP_COLUMNS 256ul
#define MAP_CELLS_MOST 40000ul     /* and one more for each region */
#define MAP_ARENAS_MOST 32ul       /* more of them share one section */

/* In the order in which a cell shows them, from below. */
enum map_state {
	MAP_LIVE,          /* the program's */
	MAP_INTERNAL,      /* the allocator's own */
	MAP_FOREIGN,       /* another's, between the blocks */
	MAP_PINNED,        /* free, but bytes in use are on the same page */
	MAP_CACHED,        /* free, on a page without use: in a thread's cache, */
	MAP_FREE,          /* in a list or a slab, */
	MAP_TOP,           /* at an arena's end */
	MAP_RESIDENT,      /* those before are, those behind not */
	MAP_UNTOUCHED = MAP_RESIDENT,   /* in use, but not resident */
	MAP_GONE,          /* free and not resident */
	MAP_STATES
};

/* "live", "internal", "foreign", "pinned", "cached", "free", "top", "untouched", "gone" */
const char *map_state_name(enum map_state state);

struct map_cell {
	uint64_t begin, end;
	uint64_t bytes[MAP_STATES];
	size_t region;
	size_t first_block, block_count;   /* those that lie in it, wholly or in part */
};

struct map_row {
	size_t first_cell, cell_count;
	bool is_gap;                 /* of one cell, of which nothing is resident */
};

struct map_section {
	enum model_region_kind kind;
	size_t first_region, last_region, region_count;
	size_t first_row, row_count;
};

struct map {
	size_t cell_pages;
	struct map_cell *cells;
	struct map_row *rows;
	struct map_section *sections;
	size_t cell_count, row_count, section_count;
	uint64_t bytes[MAP_STATES];
	uint64_t resident_bytes;
};

/* The model must be finished and outlive the map.  Returns false when memory ran out;
 * then there is nothing to free. */
bool map_draw(const struct model *model, struct map *map);
void map_free(struct map *map);

#endif
