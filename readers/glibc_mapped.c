/*
 * Chunks that are mappings of their own.  Nothing lists them, but malloc counts
 * them and their bytes, and each begins where a mapping may begin.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "readers/glibc_walk.h"

struct search {
	struct glibc_state *state;
	uint64_t begin, end;       /* the mapping at hand */
	size_t regions;            /* those of arenas, where no such chunk is */
	uint64_t most;             /* chunks to find, at most */
	uint64_t impostor;         /* the mapping that only looks like a chunk's, or 0 */
	uint64_t count, bytes;
};

/* Whether a chunk's header lies here, for a mapping that begins `offset` before. */
static bool header_matches(const struct search *search, uint64_t begin, uint64_t offset,
                           uint64_t *end)
{
	const struct glibc_layout *layout = search->state->glibc->layout;
	uint64_t vary = layout->mapped_flag_varies ? GLIBC_PREVIOUS_USED : 0;
	uint64_t room = search->end - begin, bytes;
	const uint64_t *header = offset < room ?
	                         window_look(search->state->window, begin + offset, 16) : NULL;

	/* The lowest bit tells of huge pages. */
	if (!header || (header[1] & GLIBC_FLAGS & ~vary) != GLIBC_IS_MAPPED ||
	    (header[0] & ~1ul) != offset)
		return false;
	bytes = (header[1] & ~GLIBC_FLAGS) + (layout->mapped_size_is_net ? 16 : 0);
	if (bytes < GLIBC_CHUNK_LEAST || bytes > room - offset ||
	    (offset + bytes) % MEMORY_PAGE)
		return false;
	*end = begin + offset + bytes;
	return true;
}

/* A mapped chunk: the mapping it is in, and where in it the header is. */
struct place {
	uint64_t begin, chunk, end;
};

/*
 * Finds the chunk of a mapping that begins here.  A block that had to be aligned
 * leaves a header at the begin which no longer counts; the one before the block does.
 */
static bool chunk_find(const struct search *search, uint64_t begin, struct place *found)
{
	uint64_t offset = 0;

	found->begin = begin;
	for (uint64_t alignment = 32; alignment < search->end - begin; alignment *= 2) {
		found->chunk = ((begin + 16 + alignment - 1) & ~(alignment - 1)) - 16;
		/* Until 2.42, what lies before had to have a chunk's size. */
		if (found->chunk > begin && found->chunk < begin + GLIBC_CHUNK_LEAST &&
		    !search->state->glibc->layout->mapped_size_is_net)
			found->chunk += alignment;
		if (found->chunk - begin != offset &&
		    header_matches(search, begin, found->chunk - begin, &found->end))
			return true;
		offset = found->chunk - begin;
	}
	found->chunk = begin;
	return header_matches(search, begin, 0, &found->end);
}

/*
 * The same where realloc has moved or cut the mapping of an aligned block: its header
 * ends any page, and tells where the mapping begins, at `least` or later.
 */
static bool moved_chunk_find(const struct search *search, uint64_t least, uint64_t page,
                             struct place *found)
{
	uint64_t chunk = page + MEMORY_PAGE - GLIBC_LINKS, offset;
	const uint64_t *header = window_look(search->state->window, chunk, 16);

	offset = header ? header[0] & ~1ul : 0;
	if (offset < GLIBC_CHUNK_LEAST || offset > chunk - least || (chunk - offset) % MEMORY_PAGE)
		return false;
	*found = (struct place){ .begin = chunk - offset, .chunk = chunk };
	return header_matches(search, found->begin, offset, &found->end);
}

static enum glibc_copied chunk_add(struct search *search, const struct place *place,
                                   const uint8_t *pages)
{
	struct model *model = search->state->model;
	uint8_t *copy;

	model_begin_region(model, MODEL_MAPPED, 0, place->begin);
	if (place->chunk != place->begin)
		model_add_block(model, place->begin, MODEL_INTERNAL);
	model_add_block(model, place->chunk, MODEL_LIVE);
	copy = model_end_region(model, place->end);
	if (!copy)
		return GLIBC_NO_MEMORY;
	memcpy(copy, pages + (place->begin - search->begin) / MEMORY_PAGE,
	       (place->end - place->begin) / MEMORY_PAGE);
	search->count++;
	search->bytes += place->end - place->begin;
	return GLIBC_COPIED;
}

/* The end of the arena's region that this page lies in, or 0. */
static uint64_t region_end_at(const struct search *search, uint64_t page)
{
	for (size_t i = 0; i < search->regions; i++) {
		const struct model_region *region = &search->state->model->regions[i];

		if (page + MEMORY_PAGE > region->begin && page < region->end)
			return (region->end + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);
	}
	return 0;
}

static bool search_is_over(const struct search *search)
{
	return search->count >= search->most;
}

static bool search_agrees(const struct search *search)
{
	const struct glibc_params *params = &search->state->params;
	uint64_t drift = params->mapped_bytes - search->bytes;

	return search->count == params->mapped_count &&
	       (search->state->glibc->layout->mapped_bytes_drift ?
	        search->bytes <= params->mapped_bytes && drift % 16 == 0 : drift == 0);
}

/* Whether what was found at a page is better explained by a header further on. */
static bool chunk_is_stale(const struct search *search, const struct place *place)
{
	struct place other;

	for (uint64_t page = place->begin; page < place->end; page += MEMORY_PAGE)
		if (place->chunk == place->begin &&
		    moved_chunk_find(search, place->begin, page, &other) &&
		    other.begin == place->begin)
			return true;
	return false;
}

/* The next page that may hold a header: reserved memory is large, and mostly absent. */
static uint64_t page_next(const struct search *search, uint64_t page, const uint8_t *pages)
{
	do
		page += MEMORY_PAGE;
	while (page < search->end && !pages[(page - search->begin) / MEMORY_PAGE]);
	return page;
}

/*
 * Looks for chunks from the mapping's begin, and on from each one's end; where none is,
 * the rest of the mapping is another's, unless the search is `thorough`.
 */
static enum glibc_copied mapping_search(struct search *search, const uint8_t *pages, bool thorough)
{
	enum glibc_copied result = GLIBC_COPIED;
	uint64_t least = search->begin;

	for (uint64_t page = search->begin; page < search->end && result == GLIBC_COPIED &&
	     !search_is_over(search);) {
		uint64_t skip = region_end_at(search, page);
		struct place place;
		bool found = !skip && chunk_find(search, page, &place) &&
		             !(thorough && chunk_is_stale(search, &place));

		if (!skip && !found && thorough)
			found = moved_chunk_find(search, least, page, &place);
		if (found) {
			if (place.begin != search->impostor)
				result = chunk_add(search, &place, pages);
			page = least = place.end;
		} else if (skip) {
			page = least = skip;
		} else if (thorough) {
			page = page_next(search, page, pages);
		} else {
			break;
		}
	}
	return result;
}

static enum glibc_copied mappings_search(struct search *search, bool thorough)
{
	const struct memory *memory = search->state->glibc->memory;
	enum glibc_copied result = GLIBC_COPIED;

	for (size_t i = 0; i < memory->mapping_count && result == GLIBC_COPIED &&
	     !search_is_over(search); i++) {
		const struct memory_mapping *mapping = &memory->mappings[i];
		uint8_t *pages;

		if (mapping->kind != MEMORY_ANONYMOUS || !mapping->writable || mapping->shared ||
		    mapping->end - mapping->begin > GLIBC_REGION_MOST)
			continue;
		search->begin = mapping->begin;
		search->end = mapping->end;
		pages = calloc((mapping->end - mapping->begin) / MEMORY_PAGE, 1);
		if (!pages)
			return GLIBC_NO_MEMORY;
		if (memory_pages(memory, mapping->begin, mapping->end, pages)) {
			window_open(search->state->window, memory, mapping->begin, mapping->end,
			            pages);
			result = mapping_search(search, pages, thorough);
		}
		free(pages);
	}
	return result;
}

static enum glibc_copied mappings_search_again(struct search *search, bool thorough)
{
	while (search->state->model->region_count > search->regions)
		model_drop_region(search->state->model);
	search->count = search->bytes = 0;
	return mappings_search(search, thorough);
}

/* Of one chunk too many, that without which all agrees, or 0. */
static uint64_t impostor_find(const struct search *search)
{
	const struct model *model = search->state->model;

	for (size_t i = search->regions; i < model->region_count; i++) {
		struct search without = *search;

		without.count--;
		without.bytes -= model->regions[i].end - model->regions[i].begin;
		if (search_agrees(&without))
			return model->regions[i].begin;
	}
	return 0;
}

/* Memory of another's may begin as a chunk does. */
static enum glibc_copied mappings_search_but_one(struct search *search, bool thorough)
{
	enum glibc_copied result;

	search->most = search->state->params.mapped_count + 1;
	result = mappings_search_again(search, thorough);
	search->most = search->state->params.mapped_count;
	if (result != GLIBC_COPIED || search->count <= search->most)
		return result;
	search->impostor = impostor_find(search);
	result = search->impostor ? mappings_search_again(search, thorough) : GLIBC_COPIED;
	search->impostor = 0;
	return result;
}

enum glibc_copied glibc_walk_mapped(struct glibc_state *state)
{
	const struct glibc_params *params = &state->params;
	struct search search = { .state = state, .regions = state->model->region_count,
	                         .most = params->mapped_count };
	enum glibc_copied result = mappings_search(&search, false);

	if (result == GLIBC_COPIED && !search_agrees(&search))
		result = mappings_search_but_one(&search, false);
	/* Mappings side by side show as one, with another's memory before ours. */
	if (result == GLIBC_COPIED && !search_agrees(&search))
		result = mappings_search_again(&search, true);
	if (result == GLIBC_COPIED && !search_agrees(&search))
		result = mappings_search_but_one(&search, true);
	/* Counts that may err bound nothing: all that begins as a mapped chunk is one. */
	if (result == GLIBC_COPIED && !search_agrees(&search) &&
	    glibc_find_miscounts(state->glibc, state->glibc->layout)) {
		search.most = UINT64_MAX;
		return mappings_search_again(&search, true);
	}
	if (result == GLIBC_COPIED && !search_agrees(&search))
		return glibc_state_broken(state, "malloc has %" PRIu64 " mapped blocks of %" PRIu64
		                          " bytes, of which %" PRIu64 " of %" PRIu64
		                          " bytes were found", params->mapped_count,
		                          params->mapped_bytes, search.count, search.bytes);
	return result;
}
