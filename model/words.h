/*
 * What leads to the heap's blocks: the words in a process's memory that may be
 * addresses in the heap.  Layer: model.
 *
 * A companion of struct model, filled by the same reader at the same moment and of
 * use with it alone.  Of all that memory holds only such words are kept, with their
 * places: in the heap by page, outside of it, as roots, each with its own.
 *
 * A block's own memory begins `lead` bytes behind the block and goes on so far
 * beyond its end: glibc gives a block's user the first word of the next chunk.  So
 * both an address and a place belong to the block of their region that holds them
 * less `lead`.  In slabs, which have no headers, that is 0.
 *
 * Ownership: struct words owns its arrays until words_free.  Running out of memory
 * sets `failed`; additions then do nothing.
 *
 * I1: `first` ascends, and its last is value_count;
 * I2: a page's map has as many bits as the page has values;
 * I3: there are none in a region's first `lead` bytes, so that all belong to a block.
 */
#ifndef CEDE_MODEL_WORDS_H
#define CEDE_MODEL_WORDS_H

#include "model/model.h"

#define WORDS_PAGE 512ul            /* words in a page */

/* Which words of a page are kept. */
struct words_map {
	uint64_t bits[WORDS_PAGE / 64];
	uint16_t before[WORDS_PAGE / 64];   /* how many bits come before */
};

/* A root that no memory holds but a register: this, and the thread's id. */
#define WORDS_REGISTER (1ul << 63)

struct words_thread {
	int id;
	uint64_t stack_pointer, thread_pointer;
};

struct words {
	uint64_t lead;
	uint64_t *roots;
	uint64_t *root_places;      /* addresses; 0: not known */
	size_t root_count, root_room;
	struct words_thread *threads;
	size_t thread_count, thread_room;
	/* By the index of a page in the model: */
	uint32_t *map_at;           /* its map's index and 1, or 0: none of it is kept */
	size_t *first;              /* its first value; one entry more than pages */
	size_t page_count, filled;
	struct words_map *maps;
	size_t map_count, map_room;
	uint64_t *values;           /* in the order of their places */
	size_t value_count, value_room;
	bool failed;
};

/* The lead of this region's blocks. */
static inline uint64_t words_lead(const struct words *words, const struct model_region *region)
{
	return region->kind == MODEL_SLABS ? 0 : words->lead;
}

/* Prepares for a model whose regions are complete.  The empty struct is all zeros. */
void words_open(struct words *words, const struct model *model, uint64_t lead);
void words_free(struct words *words);

/* `places` may be NULL. */
void words_add_roots(struct words *words, const uint64_t *values, const uint64_t *places,
                     size_t count);
void words_add_thread(struct words *words, const struct words_thread *thread);

/* Pages come in ascending order; without values they need not come. */
void words_add_page(struct words *words, size_t page, const uint64_t bits[WORDS_PAGE / 64],
                    const uint64_t *values, size_t count);

/* Returns false when memory ran out. */
bool words_finish(struct words *words);

/* The index of the first value in a block of this region, or of those behind it when it
 * has none; they end where the next block's begin. */
size_t words_first(const struct words *words, const struct model *model,
                   const struct model_region *region, size_t block);

#endif
