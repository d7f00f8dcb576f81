#include "readers/glibc_lists.h"

#include <inttypes.h>
#include <stdlib.h>

/* Where each block's links are: its index among them and 1, or 0. */
struct follower {
	struct glibc_state *state;
	uint32_t *link_of;
};

static bool follower_open(struct follower *follower, struct glibc_state *state)
{
	follower->state = state;
	follower->link_of = calloc(state->model->block_count + 1, sizeof(*follower->link_of));
	for (size_t i = 0; follower->link_of && i < state->link_count; i++)
		follower->link_of[state->links[i].block] = (uint32_t)(i + 1);
	return follower->link_of && state->link_count < UINT32_MAX;
}

/* The links of the block that begins at this address, when it is of this arena and
 * state, and its size.  Else NULL. */
static const struct glibc_link *block_meet(const struct follower *follower, uint64_t address,
                                           uint32_t arena, enum model_state state,
                                           uint64_t *bytes)
{
	const struct model *model = follower->state->model;
	const struct model_region *region = model_region_at(model, address);
	size_t block = region ? model_find(model, address) : MODEL_NONE;
	uint32_t link;

	if (block == MODEL_NONE || model_block_address(model, block) != address ||
	    model_block_state(model, block) != state || region->kind == MODEL_MAPPED ||
	    region->arena != arena)
		return NULL;
	link = follower->link_of[block];
	if (!link)
		return NULL;
	*bytes = model_block_end(model, region, block) - address;
	return &follower->state->links[link - 1];
}

static enum glibc_copied list_broken(const struct follower *follower, const char *list, unsigned number,
                                     uint64_t arena, uint64_t address)
{
	return glibc_state_broken(follower->state, "%s %u of the arena at %#" PRIx64
	                          " leads to %#" PRIx64 ", where no block of its kind is", list,
	                          number, arena, address);
}

static enum glibc_copied bin_follow(const struct follower *follower, uint32_t index, unsigned bin)
{
	struct glibc_state *state = follower->state;
	const struct glibc_arena *arena = &state->arenas[index];
	struct model_arena *figures = &state->model->arenas[index];
	uint64_t header = glibc_find_bins(state->glibc, arena->address) + 16 * (bin - 1) - GLIBC_LINKS;
	uint64_t before = header, at = arena->links[2 * (bin - 1)];

	while (at != header) {
		uint64_t bytes;
		const struct glibc_link *link = block_meet(follower, at, index, MODEL_BIN, &bytes);

		/* Links that agree both ways lead through no block twice. */
		if (!link || link->backward != before ||
		    (bin != 1 && glibc_layout_bin(bytes) != bin))
			return list_broken(follower, "bin", bin, arena->address, at);
		figures->bin_blocks++;
		figures->bin_bytes += bytes;
		before = at;
		at = link->forward;
	}
	return before == arena->links[2 * (bin - 1) + 1] ? GLIBC_COPIED :
	       list_broken(follower, "bin", bin, arena->address, arena->links[2 * (bin - 1) + 1]);
}

static enum glibc_copied fast_follow(const struct follower *follower, uint32_t index, unsigned bin)
{
	struct glibc_state *state = follower->state;
	const struct glibc_arena *arena = &state->arenas[index];
	struct model_arena *figures = &state->model->arenas[index];
	uint64_t at = arena->fast[bin];

	while (at) {
		uint64_t bytes;
		const struct glibc_link *link = block_meet(follower, at, index, MODEL_LIVE, &bytes);

		if (!link || bytes != 16 * bin + GLIBC_CHUNK_LEAST)
			return list_broken(follower, "fast bin", bin, arena->address, at);
		/* No longer live, so no list comes here again. */
		model_block_become(state->model, link->block, MODEL_FAST);
		figures->fast_blocks++;
		figures->fast_bytes += bytes;
		at = state->glibc->layout->links_are_masked ?
		     link->forward ^ (at + GLIBC_LINKS) >> 12 : link->forward;
	}
	return GLIBC_COPIED;
}

static enum glibc_copied arena_follow(const struct follower *follower, uint32_t index)
{
	struct glibc_state *state = follower->state;
	const struct glibc_arena *arena = &state->arenas[index];
	struct model_arena *figures = &state->model->arenas[index];
	enum glibc_copied result = GLIBC_COPIED;

	for (unsigned bin = 1; bin <= GLIBC_BINS && result == GLIBC_COPIED; bin++)
		result = bin_follow(follower, index, bin);
	for (unsigned bin = 0; bin < GLIBC_FAST_BINS && result == GLIBC_COPIED; bin++)
		result = fast_follow(follower, index, bin);
	if (result == GLIBC_COPIED && figures->bin_blocks != arena->free_blocks)
		return glibc_state_broken(state, "the arena at %#" PRIx64 " has %zu free blocks, but %"
		                          "zu in its bins", arena->address, arena->free_blocks,
		                          figures->bin_blocks);
	return result;
}

enum glibc_copied glibc_lists_follow_caches(struct glibc_state *state)
{
	struct model *model = state->model;

	for (size_t i = 0; i < state->cached_count; i++) {
		const struct glibc_cached *cached = &state->cached[i];
		const struct model_region *region = model_region_at(model, cached->chunk);
		size_t block = region ? model_find(model, cached->chunk) : MODEL_NONE;
		uint64_t bytes;

		if (block == MODEL_NONE || model_block_address(model, block) != cached->chunk ||
		    model_block_state(model, block) != MODEL_LIVE)
			return glibc_state_broken(state, "thread %d's cache holds %#" PRIx64
			                          ", where no block is that could be in it",
			                          model->caches[cached->cache].thread,
			                          cached->chunk);
		bytes = model_block_end(model, region, block) - cached->chunk;
		if (cached->bytes && cached->bytes != bytes)
			return glibc_state_broken(state, "thread %d's cache holds the block at %#" PRIx64
			                          " for %" PRIu64 " bytes, but it has %" PRIu64,
			                          model->caches[cached->cache].thread,
			                          cached->chunk, cached->bytes, bytes);
		model_block_become(model, block, MODEL_CACHED);
		model->caches[cached->cache].blocks++;
		model->caches[cached->cache].bytes += bytes;
	}
	for (size_t i = 0; i < state->table_count; i++) {
		size_t block = model_find(model, state->tables[i]);

		if (block != MODEL_NONE && model_block_address(model, block) == state->tables[i])
			model_block_become(model, block, MODEL_INTERNAL);
	}
	return GLIBC_COPIED;
}

/* The top, and whether malloc can make it smaller: only at the break's end. */
static void top_measure(struct glibc_state *state, uint32_t index)
{
	const struct model *model = state->model;
	struct model_arena *figures = &state->model->arenas[index];
	const struct memory *memory = state->glibc->memory;
	const struct model_region *region = model_region_at(model, figures->top);
	uint64_t break_end = 0;

	if (!region)
		return;
	figures->top_bytes = region->end - figures->top;
	for (size_t i = 0; i < memory->mapping_count; i++)
		if (memory->mappings[i].kind == MEMORY_BREAK)
			break_end = memory->mappings[i].end;
	figures->top_shrinks = index == 0 && region->end == break_end;
}

void glibc_lists_measure_tops(struct glibc_state *state)
{
	for (uint32_t i = 0; i < state->arena_count; i++)
		top_measure(state, i);
}

enum glibc_copied glibc_lists_follow(struct glibc_state *state)
{
	struct follower follower;
	enum glibc_copied result = GLIBC_COPIED;

	if (!follower_open(&follower, state)) {
		free(follower.link_of);
		return GLIBC_NO_MEMORY;
	}
	glibc_lists_measure_tops(state);
	for (uint32_t i = 0; i < state->arena_count && result == GLIBC_COPIED; i++)
		result = arena_follow(&follower, i);
	free(follower.link_of);
	return result == GLIBC_COPIED ? glibc_lists_follow_caches(state) : result;
}
