#include "readers/glibc_walk.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_MOST (4ul << 30)
#define PROBES_MOST (1u << 24)     /* chunks looked at to find where a region begins */

/* glibc's heaps of other arenas begin at multiples of this; with huge pages of 2 MiB
 * or 1 GiB asked for, of four of them. */
static const uint64_t heap_alignments[] = { 64ul << 20, 8ul << 20, HEAP_MOST };

/* A run of chunks to walk along. */
struct chain {
	struct glibc_state *state;
	uint32_t arena;
	uint64_t limit;            /* no chunk reaches beyond */
	uint64_t top;              /* of its arena */
	bool main;
};

enum step { STEP_CHUNK, STEP_TOP, STEP_FENCE, STEP_BROKEN };

struct chunk {
	uint64_t bytes;            /* of a fence: to the end of the region */
	uint64_t previous_bytes;
	bool previous_used;
	uint64_t links[2];
	bool links_known;
};

/* --- one chunk --- */

/* What ends a region but the last.  In the main arena: two posts, or three when a post
 * took what was left of the old top, up to a page's end.  Elsewhere: a post and a size
 * of zero, in the last bytes of a heap; with cede so in the main arena too, where they
 * are the last bytes of a page. */
static bool ends_in_zero(const struct chain *chain, uint64_t end)
{
	return chain->main ? chain->state->glibc->layout->main_ends_as_heaps &&
	                     end % MEMORY_PAGE == 0 : end == chain->limit;
}

static enum step fence_step(const struct chain *chain, uint64_t address, struct chunk *chunk)
{
	unsigned posts = 1;

	for (uint64_t bytes = GLIBC_FENCE; bytes == GLIBC_FENCE && posts < 4;) {
		const uint64_t *post = window_look(chain->state->window,
		                                   address + posts * GLIBC_FENCE, 16);

		bytes = post ? post[1] & ~GLIBC_FLAGS : GLIBC_CHUNK_LEAST;
		if (bytes == 0 && ends_in_zero(chain, address + (posts + 1) * GLIBC_FENCE))
			bytes = GLIBC_FENCE;
		posts += bytes == GLIBC_FENCE;
		chunk->bytes = posts * GLIBC_FENCE;
		if ((address + chunk->bytes) % MEMORY_PAGE == 0)
			break;
	}
	return posts > 1 && (address + chunk->bytes) % MEMORY_PAGE == 0 ? STEP_FENCE : STEP_BROKEN;
}

static enum step chain_step(const struct chain *chain, uint64_t address, struct chunk *chunk)
{
	const uint64_t *header = window_look(chain->state->window, address, 16), *links;
	uint64_t size;

	if (!header)
		return STEP_BROKEN;
	size = header[1];
	chunk->previous_bytes = header[0];
	chunk->previous_used = size & GLIBC_PREVIOUS_USED;
	chunk->bytes = size & ~GLIBC_FLAGS;
	if (size & GLIBC_IS_MAPPED || (chain->main && size & GLIBC_NOT_MAIN))
		return STEP_BROKEN;
	if (chunk->bytes == GLIBC_FENCE)
		return fence_step(chain, address, chunk);
	/* A fence that took in what was left of the old top. */
	if (chunk->bytes == 0 && ends_in_zero(chain, address + GLIBC_FENCE)) {
		chunk->bytes = GLIBC_FENCE;
		return STEP_FENCE;
	}
	if (chunk->bytes < GLIBC_CHUNK_LEAST || chunk->bytes % 16 ||
	    chunk->bytes > chain->limit - address)
		return STEP_BROKEN;
	if (address == chain->top) {
		chunk->bytes += chain->state->arenas[chain->arena].top_aside;
		return chunk->bytes <= chain->limit - address ? STEP_TOP : STEP_BROKEN;
	}
	/* Links mostly lie in the same page; those that do not are read when wanted. */
	links = (address + GLIBC_LINKS) % MEMORY_PAGE ?
	        window_look(chain->state->window, address + GLIBC_LINKS, 16) : NULL;
	chunk->links_known = links;
	if (links)
		memcpy(chunk->links, links, sizeof(chunk->links));
	return STEP_CHUNK;
}

/* Whether a walk from here ends as regions do, and then where. */
static bool chain_probe(const struct chain *chain, uint64_t begin, uint64_t *end)
{
	unsigned *probes = &chain->state->probes;
	struct chunk chunk;

	for (uint64_t address = begin; address < chain->limit; address += chunk.bytes) {
		enum step step = (*probes)++ < PROBES_MOST ? chain_step(chain, address, &chunk) :
		                 STEP_BROKEN;

		*end = address + chunk.bytes;
		if (step == STEP_TOP || step == STEP_FENCE)
			return address != begin || step == STEP_TOP;
		/* Nothing lies before a region's first chunk, so it was never freed. */
		if (step == STEP_BROKEN || (address == begin && !chunk.previous_used))
			return false;
	}
	return false;
}

/* --- a run of chunks into the model --- */

static bool links_read(const struct chain *chain, uint64_t address, struct chunk *chunk)
{
	return chunk->links_known ||
	       memory_read(chain->state->glibc->memory, address + GLIBC_LINKS, chunk->links,
	                   sizeof(chunk->links));
}

/* The chunk before is free: it becomes a bin's, with its links. */
static enum glibc_copied chunk_set_free(const struct chain *chain, size_t block, uint64_t address,
                                        struct chunk *chunk)
{
	struct glibc_state *state = chain->state;

	if (!links_read(chain, address, chunk))
		return glibc_state_broken(state, "the free block at %#" PRIx64 " cannot be read",
		                          address);
	model_block_become(state->model, block, MODEL_BIN);
	state->arenas[chain->arena].free_blocks++;
	return glibc_state_link(state, block, chunk->links) ? GLIBC_COPIED : GLIBC_NO_MEMORY;
}

/* Whether a chunk of this size may be in a fast bin: they do not show otherwise. */
static bool chunk_may_be_fast(const struct chain *chain, const struct chunk *chunk)
{
	uint64_t index = chunk->bytes / 16 - 2;

	return index < GLIBC_FAST_BINS && chain->state->arenas[chain->arena].fast[index];
}

/*
 * Adds the blocks from `begin` to the end of the region, and tells it.  Links are
 * kept of what is free, and of what may be in a fast bin.
 */
static enum glibc_copied chain_walk(const struct chain *chain, uint64_t begin, uint64_t *end,
                                    enum step *last)
{
	struct glibc_state *state = chain->state;
	struct chunk before = { .bytes = 0 }, chunk;
	uint64_t address = begin, address_before = 0;
	enum glibc_copied result = GLIBC_COPIED;

	do {
		size_t block = state->model->block_count;

		*last = chain_step(chain, address, &chunk);
		if (*last == STEP_BROKEN)
			return glibc_state_broken(state, "no block can be at %#" PRIx64
			                          ", where the one before it, at %#" PRIx64
			                          ", ends", address, address_before);
		if (before.bytes && !chunk.previous_used) {
			if (chunk.previous_bytes != before.bytes)
				return glibc_state_broken(state, "the block at %#" PRIx64 " has %" PRIu64
				                          " bytes, but %" PRIu64
				                          " in the words of the next one",
				                          address_before, before.bytes,
				                          chunk.previous_bytes);
			result = chunk_set_free(chain, block - 1, address_before, &before);
		} else if (before.bytes && chunk_may_be_fast(chain, &before)) {
			if (links_read(chain, address_before, &before) &&
			    !glibc_state_link(state, block - 1, before.links))
				result = GLIBC_NO_MEMORY;
		}
		model_add_block(state->model, address, *last == STEP_TOP ? MODEL_TOP :
		                *last == STEP_FENCE ? MODEL_INTERNAL : MODEL_LIVE);
		if (state->model->failed)
			result = GLIBC_NO_MEMORY;
		before = chunk;
		address_before = address;
		address += chunk.bytes;
	} while (*last == STEP_CHUNK && result == GLIBC_COPIED);
	*end = address;
	return result;
}

/* --- pages --- */

/* The pages of a part of the address space, to be freed. */
static uint8_t *pages_read(const struct glibc_state *state, uint64_t begin, uint64_t end)
{
	uint8_t *pages = calloc((end - begin) / MEMORY_PAGE, 1);

	if (pages && !memory_pages(state->glibc->memory, begin, end, pages)) {
		free(pages);
		pages = NULL;
	}
	return pages;
}

static uint64_t page_floor(uint64_t address)
{
	return address & ~(MEMORY_PAGE - 1);
}

static uint64_t page_ceiling(uint64_t address)
{
	return page_floor(address + MEMORY_PAGE - 1);
}

_Static_assert((int)MODEL_ABSENT == (int)MEMORY_ABSENT &&
               (int)MODEL_RESIDENT == (int)MEMORY_RESIDENT &&
               (int)MODEL_ZERO == (int)MEMORY_ZERO &&
               (int)MODEL_SWAPPED == (int)MEMORY_SWAPPED, "pages are copied as they are");

/* Whether no region but the last has part of this. */
static bool span_is_free(const struct model *model, uint64_t begin, uint64_t end)
{
	for (size_t i = 0; i + 1 < model->region_count; i++)
		if (begin < model->regions[i].end && model->regions[i].begin < end)
			return false;
	return true;
}

/* Ends the region, whose pages are `pages` from the page of `span` on. */
static enum glibc_copied region_end(struct glibc_state *state, uint64_t end,
                                    const uint8_t *pages, uint64_t span)
{
	const struct model_region *region;
	uint8_t *copy;

	if (state->model->failed)
		return GLIBC_NO_MEMORY;
	region = &state->model->regions[state->model->region_count - 1];
	if (end - region->begin > GLIBC_REGION_MOST || !span_is_free(state->model, region->begin, end))
		return glibc_state_broken(state, "the heap at %#" PRIx64 " ends at %#" PRIx64
		                          ", too far or in another one", region->begin, end);
	copy = model_end_region(state->model, end);
	if (!copy)
		return GLIBC_NO_MEMORY;
	memcpy(copy, pages + (page_floor(region->begin) - span) / MEMORY_PAGE,
	       model_region_pages(region));
	return GLIBC_COPIED;
}

/* How far memory of the same kind goes on from this address: huge pages and foreign
 * calls split the break into several mappings. */
static uint64_t span_end(const struct glibc_state *state, uint64_t address)
{
	const struct memory *memory = state->glibc->memory;
	const struct memory_mapping *mapping = memory_mapping_at(memory, address);
	enum memory_kind kind = mapping ? mapping->kind : MEMORY_SPECIAL;
	uint64_t end = address;

	if (kind != MEMORY_BREAK && kind != MEMORY_ANONYMOUS)
		return address;
	for (; mapping < memory->mappings + memory->mapping_count; mapping++) {
		if (mapping->kind != kind || !mapping->writable || mapping->shared ||
		    (end != address && mapping->begin != end))
			break;
		end = mapping->end;
	}
	return end - address < GLIBC_REGION_MOST ? end : address + GLIBC_REGION_MOST;
}

/* --- the heaps of an arena that is not the main one --- */

struct heap_header {
	uint64_t arena, before, bytes;
};

static bool heap_read(const struct glibc_state *state, uint64_t heap, uint64_t arena,
                      struct heap_header *header)
{
	return memory_read(state->glibc->memory, heap, header, sizeof(*header)) &&
	       header->arena == arena && header->bytes % MEMORY_PAGE == 0 &&
	       header->bytes >= MEMORY_PAGE && header->bytes <= HEAP_MOST;
}

static enum glibc_copied heap_walk(struct glibc_state *state, uint32_t index, uint64_t heap,
                                   const struct heap_header *header)
{
	struct glibc_arena *arena = &state->arenas[index];
	const struct glibc_layout *layout = state->glibc->layout;
	struct chain chain = { state, index, heap + header->bytes, arena->top, false };
	uint64_t first = heap + layout->heap_header, end;
	uint8_t *pages = pages_read(state, heap, chain.limit);
	enum glibc_copied result;
	enum step last;

	if (!pages)
		return GLIBC_NO_MEMORY;
	/* The arena itself lies in its first heap. */
	if (arena->address == first)
		first = (first + layout->state_bytes + 15) & ~15ul;
	window_open(state->window, state->glibc->memory, heap, chain.limit, pages);
	model_begin_region(state->model, MODEL_HEAP, index, heap);
	model_add_block(state->model, heap, MODEL_INTERNAL);
	result = chain_walk(&chain, first, &end, &last);
	if (result == GLIBC_COPIED && end != chain.limit)
		result = glibc_state_broken(state, "the heap at %#" PRIx64 " ends at %#" PRIx64
		                            ", its blocks at %#" PRIx64, heap, chain.limit, end);
	if (result == GLIBC_COPIED)
		result = region_end(state, end, pages, heap);
	arena->region_bytes += header->bytes;
	free(pages);
	return result;
}

static enum glibc_copied heaps_walk(struct glibc_state *state, uint32_t index)
{
	const struct glibc_arena *arena = &state->arenas[index];
	struct heap_header header;
	uint64_t heap = 0;

	for (size_t i = 0; i < sizeof(heap_alignments) / sizeof(*heap_alignments) && !heap; i++) {
		uint64_t start = arena->top & ~(heap_alignments[i] - 1);

		if (heap_read(state, start, arena->address, &header) &&
		    header.bytes <= heap_alignments[i])
			heap = start;
	}
	if (!heap)
		return glibc_state_broken(state, "the arena at %#" PRIx64 " has its top at %#" PRIx64
		                          ", where no heap is", arena->address, arena->top);
	/* No heap comes twice: regions do not overlap. */
	while (heap) {
		enum glibc_copied result;

		if (heap % MEMORY_PAGE ||
		    !heap_read(state, heap, arena->address, &header) ||
		    header.bytes > span_end(state, heap) - heap)
			return glibc_state_broken(state, "there is no heap at %#" PRIx64
			                          ", where the arena at %#" PRIx64 " has one", heap,
			                          arena->address);
		result = heap_walk(state, index, heap, &header);
		if (result != GLIBC_COPIED)
			return result;
		heap = header.before;
	}
	return GLIBC_COPIED;
}

/* --- the main arena: the break, and mappings where the break was blocked --- */

/* After memory that another part of the program took from the break. */
static uint64_t gap_end(const struct chain *chain, uint64_t begin, const uint8_t *pages,
                        uint64_t span)
{
	uint64_t end;

	for (uint64_t address = begin;
	     address < chain->limit && chain->state->probes < PROBES_MOST;) {
		uint8_t page = pages[(address - span) / MEMORY_PAGE];

		if (page != MEMORY_RESIDENT && page != MEMORY_SWAPPED)
			address = page_floor(address) + MEMORY_PAGE;
		else if (chain_probe(chain, address, &end))
			return address;
		else
			address += 16;
	}
	return 0;
}

static enum glibc_copied break_walk(struct glibc_state *state)
{
	struct glibc_arena *arena = &state->arenas[0];
	uint64_t begin = (state->params.break_begin + 15) & ~15ul, span = page_floor(begin);
	struct chain chain = { state, 0, span_end(state, begin), arena->top, true };
	uint8_t *pages = chain.limit > begin ? pages_read(state, span, chain.limit) : NULL;
	enum glibc_copied result;
	enum step last;
	uint64_t end, gap = begin;

	if (!pages)
		return chain.limit > begin ? GLIBC_NO_MEMORY :
		       glibc_state_broken(state, "no heap begins at %#" PRIx64 ", as malloc says",
		                          begin);
	window_open(state->window, state->glibc->memory, span, chain.limit, pages);
	model_begin_region(state->model, MODEL_BREAK, 0, begin);
	do {
		result = chain_walk(&chain, gap, &end, &last);
		gap = result == GLIBC_COPIED && last == STEP_FENCE ?
		      gap_end(&chain, end, pages, span) : 0;
		if (gap) {
			arena->gap_bytes += gap - end;
			if (gap > end)
				model_add_block(state->model, end, MODEL_FOREIGN);
		}
	} while (gap);
	if (result == GLIBC_COPIED)
		result = region_end(state, end, pages, span);
	arena->region_bytes += end - state->params.break_begin;
	free(pages);
	return result;
}

/* Looks in a mapping for a region of the main arena that begins with a page. */
static enum glibc_copied fallback_walk(struct glibc_state *state, uint64_t span, uint64_t limit)
{
	struct glibc_arena *arena = &state->arenas[0];
	struct chain chain = { state, 0, limit, arena->top, true };
	enum glibc_copied result = GLIBC_COPIED;
	uint8_t *pages;

	if (span >= limit || limit - span > GLIBC_REGION_MOST)
		return GLIBC_COPIED;
	pages = pages_read(state, span, limit);
	if (!pages)
		return GLIBC_NO_MEMORY;
	window_open(state->window, state->glibc->memory, span, limit, pages);
	for (uint64_t page = span, end; page < limit && result == GLIBC_COPIED &&
	     arena->region_bytes - arena->gap_bytes < arena->system_bytes;) {
		enum step last;

		if (!chain_probe(&chain, page, &end)) {
			page += MEMORY_PAGE;
			continue;
		}
		model_begin_region(state->model, MODEL_BREAK, 0, page);
		result = chain_walk(&chain, page, &end, &last);
		if (result == GLIBC_COPIED)
			result = region_end(state, end, pages, span);
		arena->region_bytes += end - page;
		page = page_ceiling(end);
	}
	free(pages);
	return result;
}

/* Whether it holds slabs, or what tells of them. */
static bool is_described(const struct model *model, const struct memory_mapping *mapping)
{
	for (size_t i = 0; i < model->region_count; i++)
		if (model->regions[i].kind >= MODEL_SLABS &&
		    model->regions[i].begin < mapping->end && mapping->begin < model->regions[i].end)
			return true;
	return false;
}

/* Where the break could not move, malloc made mappings take its place. */
static enum glibc_copied fallbacks_walk(struct glibc_state *state)
{
	const struct memory *memory = state->glibc->memory;
	const struct model_region seen = state->model->regions[state->model->region_count - 1];
	enum glibc_copied result = GLIBC_COPIED;

	for (size_t i = 0; i < memory->mapping_count && result == GLIBC_COPIED; i++) {
		const struct memory_mapping *mapping = &memory->mappings[i];

		if (mapping->kind != MEMORY_ANONYMOUS || !mapping->writable || mapping->shared ||
		    is_described(state->model, mapping))
			continue;
		if (seen.begin < mapping->begin || seen.begin >= mapping->end) {
			result = fallback_walk(state, mapping->begin, mapping->end);
			continue;
		}
		/* The first mapping took the break's place: around it may be more. */
		result = fallback_walk(state, mapping->begin, page_floor(seen.begin));
		if (result == GLIBC_COPIED)
			result = fallback_walk(state, page_ceiling(seen.end), mapping->end);
	}
	return result;
}

static enum glibc_copied main_walk(struct glibc_state *state)
{
	struct glibc_arena *arena = &state->arenas[0];
	enum glibc_copied result;
	uint64_t missing;

	if (!arena->top)
		return GLIBC_COPIED;
	result = break_walk(state);
	if (result == GLIBC_COPIED && !arena->contiguous)
		result = fallbacks_walk(state);
	if (result != GLIBC_COPIED)
		return result;
	/* Gaps count while the break is contiguous, afterwards not. */
	missing = arena->region_bytes - arena->system_bytes;
	if (missing && missing != arena->gap_bytes)
		return glibc_state_broken(state, "the main arena has %" PRIu64 " bytes, of which %"
		                          PRIu64 " were found", arena->system_bytes,
		                          arena->region_bytes);
	return GLIBC_COPIED;
}

enum glibc_copied glibc_walk(struct glibc_state *state)
{
	enum glibc_copied result = main_walk(state);

	for (uint32_t i = 1; i < state->arena_count && result == GLIBC_COPIED; i++) {
		const struct glibc_arena *arena = &state->arenas[i];

		result = heaps_walk(state, i);
		if (result == GLIBC_COPIED && arena->region_bytes != arena->system_bytes)
			result = glibc_state_broken(state, "the arena at %#" PRIx64 " has %" PRIu64
			                            " bytes, of which %" PRIu64 " were found",
			                            arena->address, arena->system_bytes,
			                            arena->region_bytes);
	}
	return result;
}
