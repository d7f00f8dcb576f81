/*
 * Chunks that are mappings of their own.  Nothing lists them, but malloc counts
 * them and their bytes, and each begins where a mapping may begin.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "readers/glibc_walk.h"

#define IMPOSTORS_MOST 65536
#define SWAPS_TRIED (1u << 24)
#define USUAL_LEAST (128ul << 10)  /* malloc maps none smaller unless it is told to */

/* A mapped chunk: the mapping it is in, and where in it the header is. */
struct place {
	uint64_t begin, chunk, end;
	unsigned doubts;           /* that it is a chunk at all */
};

struct search {
	struct glibc_state *state;
	uint64_t begin, end;       /* the mapping at hand */
	uint64_t most;             /* chunks to find, at most */
	struct place *places;      /* what looks like a chunk, ascending */
	size_t count, room;
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

/*
 * Finds the chunk of a mapping that begins here.  A block that had to be aligned
 * leaves a header at the begin which no longer counts; the one before the block does.
 */
static bool chunk_find(const struct search *search, uint64_t begin, struct place *found)
{
	uint64_t offset = 0;

	*found = (struct place){ .begin = begin };
	for (uint64_t alignment = 32; alignment < search->end - begin; alignment *= 2) {
		found->chunk = ((begin + 16 + alignment - 1) & ~(alignment - 1)) - 16;
		/* Where what lies before must have a chunk's size, twice the alignment tells. */
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

/* What lies beside a chunk is another, or another mapping. */
static void place_doubt(struct search *search, size_t first)
{
	for (size_t i = first; i < search->count; i++) {
		struct place *place = &search->places[i];
		bool after = place->begin == search->begin ||
		             (i > first && place[-1].end == place->begin);
		bool before = place->end == search->end ||
		              (i + 1 < search->count && place[1].begin == place->end);

		place->doubts = 2 * !after + 2 * !before + (place->end - place->begin < USUAL_LEAST);
	}
}

static bool place_add(struct search *search, const struct place *place)
{
	if (search->count == search->room) {
		size_t room = 2 * search->room + 64;
		struct place *places = reallocarray(search->places, room, sizeof(*places));

		if (!places)
			return false;
		search->places = places;
		search->room = room;
	}
	search->places[search->count++] = *place;
	return true;
}

/* The end of the arena's region that this page lies in, or 0. */
static uint64_t region_end_at(const struct search *search, uint64_t page)
{
	const struct model *model = search->state->model;

	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];

		if (page + MEMORY_PAGE > region->begin && page < region->end)
			return (region->end + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);
	}
	return 0;
}

static bool search_is_over(const struct search *search)
{
	return search->count >= search->most;
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
static bool mapping_search(struct search *search, const uint8_t *pages, bool thorough)
{
	uint64_t least = search->begin;
	size_t first = search->count;

	for (uint64_t page = search->begin; page < search->end && !search_is_over(search);) {
		uint64_t skip = region_end_at(search, page);
		struct place place;
		bool found = !skip && chunk_find(search, page, &place) &&
		             !(thorough && chunk_is_stale(search, &place));

		if (!skip && !found && thorough)
			found = moved_chunk_find(search, least, page, &place);
		if (found && !place_add(search, &place))
			return false;
		if (found)
			page = least = place.end;
		else if (skip)
			page = least = skip;
		else if (thorough)
			page = page_next(search, page, pages);
		else
			break;
	}
	place_doubt(search, first);
	return true;
}

static enum glibc_copied mappings_search(struct search *search, bool thorough)
{
	const struct memory *memory = search->state->glibc->memory;
	bool found = true;

	search->count = 0;
	for (size_t i = 0; i < memory->mapping_count && found && !search_is_over(search); i++) {
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
			found = mapping_search(search, pages, thorough);
		}
		free(pages);
	}
	return found ? GLIBC_COPIED : GLIBC_NO_MEMORY;
}

/* --- which of them are chunks --- */

static uint64_t place_bytes(const struct place *place)
{
	return place->end - place->begin;
}

static uint64_t places_bytes(const struct place *places, size_t count)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += place_bytes(&places[i]);
	return bytes;
}

/* Whether so many bytes are what malloc says it has mapped. */
static bool bytes_agree(const struct search *search, uint64_t bytes)
{
	uint64_t mapped = search->state->params.mapped_bytes;

	if (search->state->glibc->layout->mapped_bytes_drift)
		return bytes <= mapped && (mapped - bytes) % 16 == 0;
	return bytes == mapped;
}

/* The least doubtful come last. */
static int doubts_compare(const void *a, const void *b)
{
	const struct place *left = a, *right = b;

	if (left->doubts != right->doubts)
		return left->doubts > right->doubts ? -1 : 1;
	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static void swap(struct place *a, struct place *b)
{
	struct place kept = *a;

	*a = *b;
	*b = kept;
}

/* Exchanges up to `swaps` of the first `out` places for others until the bytes agree. */
static bool swaps_find(struct search *search, size_t out, uint64_t bytes, unsigned swaps,
                       unsigned *tries)
{
	if (bytes_agree(search, bytes))
		return true;
	for (size_t i = 0; swaps && i < out; i++)
		for (size_t j = out; j < search->count && *tries; j++, --*tries) {
			struct place *in = &search->places[i], *away = &search->places[j];

			swap(in, away);
			if (swaps_find(search, out, bytes - place_bytes(in) + place_bytes(away),
			               swaps - 1, tries))
				return true;
			swap(in, away);
		}
	return false;
}

/*
 * Memory of another's may look like a chunk.  Of all that do, leaves as many as malloc
 * counts, with its bytes: the least doubtful ones, but for two at most.
 */
static bool places_choose(struct search *search)
{
	size_t count = search->state->params.mapped_count, out = search->count - count;
	unsigned tries = SWAPS_TRIED;
	bool found = false;

	if (search->count < count)
		return false;
	if (out)
		qsort(search->places, search->count, sizeof(*search->places), doubts_compare);
	for (unsigned swaps = 0; swaps <= 2 && !found; swaps++)
		found = swaps_find(search, out, places_bytes(search->places + out, count), swaps,
		                   &tries);
	if (found && out) {
		memmove(search->places, search->places + out, count * sizeof(*search->places));
		search->count = count;
	}
	return found;
}

static enum glibc_copied place_copy(const struct search *search, const struct place *place)
{
	struct model *model = search->state->model;
	uint8_t *pages;

	model_begin_region(model, MODEL_MAPPED, 0, place->begin);
	if (place->chunk != place->begin)
		model_add_block(model, place->begin, MODEL_INTERNAL);
	model_add_block(model, place->chunk, MODEL_LIVE);
	pages = model_end_region(model, place->end);
	if (!pages)
		return GLIBC_NO_MEMORY;
	(void)memory_pages(search->state->glibc->memory, place->begin, place->end, pages);
	return GLIBC_COPIED;
}

static enum glibc_copied places_find(struct search *search)
{
	const struct glibc_params *params = &search->state->params;

	/* Mappings side by side show as one, with another's memory before ours: only a
	 * thorough search finds all, and the more of what is none. */
	for (unsigned thorough = 0; thorough <= 1; thorough++)
		for (unsigned more = 0; more <= 1; more++) {
			enum glibc_copied result;

			search->most = params->mapped_count + (more ? IMPOSTORS_MOST : 0);
			result = mappings_search(search, thorough);
			if (result != GLIBC_COPIED || places_choose(search))
				return result;
		}
	/* Counts that may err bound nothing: all that begins as a mapped chunk is one. */
	if (glibc_find_miscounts(search->state->glibc, search->state->glibc->layout)) {
		search->most = UINT64_MAX;
		return mappings_search(search, true);
	}
	return glibc_state_broken(search->state, "malloc has %" PRIu64 " mapped blocks of %" PRIu64
	                          " bytes, of which %zu of %" PRIu64 " bytes were found",
	                          params->mapped_count, params->mapped_bytes, search->count,
	                          places_bytes(search->places, search->count));
}

enum glibc_copied glibc_walk_mapped(struct glibc_state *state)
{
	struct search search = { .state = state };
	enum glibc_copied result = places_find(&search);

	for (size_t i = 0; i < search.count && result == GLIBC_COPIED; i++)
		result = place_copy(&search, &search.places[i]);
	free(search.places);
	return result;
}
