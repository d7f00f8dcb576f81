/*
 * A heap as data: what a process has mapped, where its allocator has put blocks,
 * what became of each, and which pages are resident.  Layer: model.
 *
 * Readers fill it (a live process on glibc's malloc or on cede, a snapshot, later a
 * core); analyses and views read it.  It knows no allocator's structures and no
 * reader, reads nothing itself, and holds no pointer into anything: all that is in
 * it can be written to a file and read back.
 *
 * Ownership: struct model owns its arrays from the first addition to model_free.
 * They grow, so an index stays good and a pointer into them only until the next
 * addition.  Running out of memory sets `failed`: additions then do nothing, and
 * model_finish says so.  A model that is finished is constant.
 *
 * Shape: `regions` are the spans of address space in which the allocator places
 * blocks.  Blocks tile their region, so a block is where it begins and what it is,
 * in one word, and ends where the next one begins: 8 bytes for each block.  All
 * the memory of a region belongs to some block; what nobody asked for has states
 * of its own (MODEL_INTERNAL, MODEL_FOREIGN).
 *
 *   regions:  | begin                                            end |
 *   blocks:   | INTERNAL | LIVE | LIVE | BIN     | LIVE | TOP        |
 *   pages:    |   R   |   R   |   R   |   -   |   R   |   R   |  -   |
 *
 * Invariants of a finished model (model_check):
 * I1: regions ascend, do not overlap, and are not empty;
 * I2: a region's first block begins where it does, and its blocks ascend;
 * I3: addresses are multiples of MODEL_GRAIN;
 * I4: `pages` has an entry for each page that a region touches;
 * I5: a block in a list of its arena (FAST, BIN) lies in a region of that arena;
 * I6: the blocks of an arena's figures are those that its regions have.
 */
#ifndef CEDE_MODEL_MODEL_H
#define CEDE_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/kinds.h"

#define MODEL_PAGE 4096ul
#define MODEL_GRAIN 16ul
#define MODEL_NONE SIZE_MAX

/* What a block is.  In the low bits of its word, so at most MODEL_GRAIN. */
enum model_state {
	MODEL_LIVE,        /* the program's */
	MODEL_CACHED,      /* free, in a thread's cache */
	MODEL_FAST,        /* free, in a list whose blocks are not merged */
	MODEL_BIN,         /* free, in a list or a tree */
	MODEL_TOP,         /* free, at an arena's end, where it grows */
	MODEL_INTERNAL,    /* the allocator's own: headers, caches' tables, fenceposts */
	MODEL_FOREIGN,     /* between the allocator's blocks, but another's */
	MODEL_SLAB,        /* free, side by side with others of its size, and never merged */
	MODEL_STATES
};

/* "live", "cached", "fast", "bin", "top", "internal", "foreign",
 * "slab" */
const char *model_state_name(enum model_state state);

/* Free, and kept by the allocator. */
static inline bool model_state_is_free(enum model_state state)
{
	return (state >= MODEL_CACHED && state <= MODEL_TOP) || state == MODEL_SLAB;
}

/* Free, and merged with free neighbours at the latest by a trim. */
static inline bool model_state_merges(enum model_state state)
{
	return state == MODEL_FAST || state == MODEL_BIN;
}

enum model_page {
	MODEL_ABSENT,      /* never touched, or given back */
	MODEL_RESIDENT,
	MODEL_ZERO,        /* the kernel's shared page of zeros: costs nothing */
	MODEL_SWAPPED
};

enum model_region_kind {
	MODEL_BREAK,       /* what sbrk moves */
	MODEL_HEAP,        /* mapped for an arena, holds many blocks */
	MODEL_MAPPED,      /* a mapping with one block, or what one has left */
	MODEL_SLABS,       /* runs of blocks of one size, without headers */
	MODEL_OWN          /* what describes the heap, of no arena */
};

struct model_region {
	uint64_t begin, end;
	enum model_region_kind kind;
	uint32_t arena;            /* MODEL_MAPPED and MODEL_OWN: no meaning */
	size_t first_block, block_count;
	size_t first_page;         /* of the page that `begin` lies in */
};

struct model_arena {
	uint64_t address;
	uint64_t system_bytes;     /* as the allocator counts them */
	uint64_t top;              /* address of the top block, 0 when there is none */
	uint64_t top_bytes;
	bool top_shrinks;          /* a trim gives back from the top: the break is its end */
	size_t fast_blocks, bin_blocks;
	uint64_t fast_bytes, bin_bytes;
	size_t slab_blocks;        /* without what is left at the end of a run */
	uint64_t slab_bytes;
};

/* A cache of a thread; its blocks are MODEL_CACHED. */
struct model_cache {
	int thread;                /* its id */
	size_t blocks;
	uint64_t bytes;
};

/* What is mapped, heap or not.  The heap's part of it is what `regions` cover. */
enum model_mapping_kind { MODEL_ANONYMOUS, MODEL_FILE, MODEL_STACK, MODEL_OTHER };

struct model_mapping {
	uint64_t begin, end;
	enum model_mapping_kind kind;
	uint64_t resident_bytes, swapped_bytes;
};

/* What the allocator gives back by itself. */
enum model_giving {
	MODEL_GIVES_END,     /* the end of its heap, when that is free */
	/* Or whole free pages, wherever they are: */
	MODEL_GIVES_SOON,    /* when they were free for a while: it is at it */
	MODEL_GIVES_MORE,    /* when there are more of them than now */
	MODEL_GIVES_ON_CALL  /* when the program calls it */
};

/* "end", "soon", "more", "on call" */
const char *model_giving_name(enum model_giving giving);

/* How the allocator decides, as far as it tells. */
struct model_settings {
	uint64_t trim_threshold, mmap_threshold, top_pad;
	uint64_t trim_unit;        /* bytes in whose multiples the top shrinks */
	bool thresholds_fixed;     /* the program set one: they no longer follow what it frees */
	uint64_t arena_max;        /* 0: as many as glibc likes */
	uint64_t mapped_blocks, mapped_bytes, mapped_max;   /* as the allocator counts them */
	uint64_t spare_blocks, spare_bytes;   /* likewise: free ones that it keeps */
	enum model_giving giving;
};

/* Whether the blocks found are all there is. */
struct model_audit {
	bool passed;
	char text[240];            /* what does not agree, and where; "" when it passed */
};

struct model {
	struct model_region *regions;
	struct model_arena *arenas;
	struct model_cache *caches;
	struct model_mapping *mappings;
	uint64_t *blocks;          /* address | enum model_state */
	uint8_t *pages;            /* enum model_page */
	struct kinds kinds;        /* what the blocks hold; of those in use */
	size_t *page_blocks;       /* for each page, the first block that begins at it or
	                              after it, in its region; filled by model_finish */
	size_t region_count, arena_count, cache_count, mapping_count, block_count, page_count;
	uint64_t lead;             /* from a block's begin to its memory, see model_memory_begin */
	struct model_settings settings;
	struct model_audit audit;
	bool failed;               /* memory ran out: the model is not whole */
};

/* The empty model is all zeros. */
void model_free(struct model *model);

/* Each returns the index of what it added; of nobody's interest after a failure. */
size_t model_add_arena(struct model *model, const struct model_arena *arena);
size_t model_add_cache(struct model *model, const struct model_cache *cache);
size_t model_add_mapping(struct model *model, const struct model_mapping *mapping);

/*
 * Begins a region; blocks are added to the region begun last, and it ends at the
 * `end` of model_end_region.  Its pages come back absent, to be filled.  Returns the
 * index; it changes when the model is finished.
 */
size_t model_begin_region(struct model *model, enum model_region_kind kind, uint32_t arena,
                          uint64_t begin);
void model_add_block(struct model *model, uint64_t address, enum model_state state);
uint8_t *model_end_region(struct model *model, uint64_t end);

/* Sorts, and makes model_find possible.  Returns false when memory ran out. */
bool model_finish(struct model *model);

/* Asserts nothing: returns the number of the first invariant that does not hold, or 0. */
int model_check(const struct model *model);

static inline uint64_t model_block_address(const struct model *model, size_t block)
{
	return model->blocks[block] & ~(MODEL_GRAIN - 1);
}

static inline enum model_state model_block_state(const struct model *model, size_t block)
{
	return (enum model_state)(model->blocks[block] & (MODEL_GRAIN - 1));
}

static inline uint16_t model_block_kind(const struct model *model, size_t block)
{
	return model->kinds.of ? model->kinds.of[block] : KIND_UNKNOWN;
}

static inline void model_block_become(struct model *model, size_t block, enum model_state state)
{
	model->blocks[block] = model_block_address(model, block) | state;
}

static inline uint64_t model_block_end(const struct model *model,
                                       const struct model_region *region, size_t block)
{
	return block + 1 < region->first_block + region->block_count ?
	       model_block_address(model, block + 1) : region->end;
}

/* From a block's begin to its memory: in slabs they are one. */
static inline uint64_t model_region_lead(const struct model *model,
                                         const struct model_region *region)
{
	return region->kind == MODEL_SLABS ? 0 : model->lead;
}

/* What the program has of a block: of the two words before it the first is still the memory
 * of the block before. */
static inline uint64_t model_memory_begin(const struct model *model,
                                          const struct model_region *region, size_t block)
{
	return model_block_address(model, block) + model_region_lead(model, region);
}

static inline uint64_t model_memory_end(const struct model *model,
                                        const struct model_region *region, size_t block)
{
	uint64_t end = model_block_end(model, region, block) + model_region_lead(model, region) / 2;

	return end < region->end ? end : region->end;
}

/* Whether its blocks are an arena's. */
static inline bool model_region_is_arena(const struct model_region *region)
{
	return region->kind != MODEL_MAPPED && region->kind != MODEL_OWN;
}

static inline size_t model_region_pages(const struct model_region *region)
{
	return (region->end - 1) / MODEL_PAGE - region->begin / MODEL_PAGE + 1;
}

/* The state of the page with this address, which lies in the region. */
static inline enum model_page model_page_at(const struct model *model,
                                            const struct model_region *region, uint64_t address)
{
	return (enum model_page)model->pages[region->first_page + address / MODEL_PAGE -
	                                     region->begin / MODEL_PAGE];
}

/* The region with this address, or NULL. */
const struct model_region *model_region_at(const struct model *model, uint64_t address);

/* The block that holds this address, or MODEL_NONE.  A few steps whatever the size. */
size_t model_find(const struct model *model, uint64_t address);

/* What mallinfo2 of the process would say, from the blocks. */
struct model_totals {
	uint64_t arena;      /* bytes of the arenas */
	uint64_t ordblks;    /* blocks in bins and slabs, and tops */
	uint64_t smblks;     /* fast blocks */
	uint64_t hblks;      /* mapped blocks */
	uint64_t hblkhd;     /* bytes mapped for them */
	uint64_t fsmblks;    /* bytes in fast blocks */
	uint64_t uordblks;   /* bytes in use, and what is not free otherwise */
	uint64_t fordblks;   /* bytes free: bins, fast blocks, slabs, tops */
	uint64_t keepcost;   /* bytes of the first arena's top */
};

void model_totals(const struct model *model, struct model_totals *totals);

#endif
