#include "readers/glibc_state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LENGTH_MOST 65536u    /* of one list: its count has 16 bits */

enum glibc_copied glibc_state_broken(struct glibc_state *state, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(state->why, state->why_room, format, args);
	va_end(args);
	return GLIBC_BROKEN;
}

void glibc_state_free(struct glibc_state *state)
{
	free(state->arenas);
	free(state->links);
	free(state->cached);
	free(state->tables);
	*state = (struct glibc_state){ 0 };
}

/* Makes room for one item more. */
static bool room_make(void *array, size_t count, size_t *room, size_t item_bytes)
{
	void *larger;

	if (count < *room)
		return true;
	larger = realloc(*(void **)array, (*room ? 2 * *room : 256) * item_bytes);
	if (!larger)
		return false;
	*room = *room ? 2 * *room : 256;
	*(void **)array = larger;
	return true;
}

bool glibc_state_link(struct glibc_state *state, size_t block, const uint64_t links[2])
{
	if (!room_make(&state->links, state->link_count, &state->link_room,
	               sizeof(*state->links)))
		return false;
	state->links[state->link_count++] = (struct glibc_link){ links[0], links[1], block };
	return true;
}

bool glibc_state_cache(struct glibc_state *state, const struct glibc_cached *cached)
{
	if (!room_make(&state->cached, state->cached_count, &state->cached_room,
	               sizeof(*state->cached)))
		return false;
	state->cached[state->cached_count++] = *cached;
	return true;
}

bool glibc_state_room(struct glibc_state *state)
{
	return room_make(&state->arenas, state->arena_count, &state->arena_room,
	                 sizeof(*state->arenas));
}

/* --- arenas --- */

static uint64_t word_at(const char *bytes, size_t offset)
{
	uint64_t word;

	memcpy(&word, bytes + offset, sizeof(word));
	return word;
}

static enum glibc_copied arena_copy(struct glibc_state *state, uint64_t address, uint64_t *next)
{
	const struct glibc_layout *layout = state->glibc->layout;
	char bytes[4096];
	const char *bins = bytes + layout->bins;
	struct glibc_arena *arena = &state->arenas[state->arena_count];
	uint32_t lock, flags;

	if (!memory_read(state->glibc->memory, address, bytes, layout->state_bytes))
		return glibc_state_broken(state, "the arena at %#" PRIx64 " cannot be read", address);
	memcpy(&lock, bytes, sizeof(lock));
	if (lock && !state->glibc->stop->for_good)
		return GLIBC_LOCKED;
	state->locked_arenas += lock != 0;
	memcpy(&flags, bytes + 4, sizeof(flags));
	*arena = (struct glibc_arena){
		.address = address, .contiguous = !(flags & 2),
		.system_bytes = word_at(bins, layout->from_bins_system),
		.top = word_at(bins + GLIBC_FROM_BINS_TOP, 0),
	};
	if (layout->fast_bins)
		memcpy(arena->fast, bins + GLIBC_FROM_BINS_FAST, sizeof(arena->fast));
	memcpy(arena->links, bins, sizeof(arena->links));
	/* Before the first allocation, the header of the unsorted bin stands for it. */
	if (arena->top == address + layout->bins - GLIBC_LINKS)
		arena->top = 0;
	*next = word_at(bins, GLIBC_FROM_BINS_NEXT);
	state->arena_count++;
	model_add_arena(state->model, &(struct model_arena){
		.address = address, .system_bytes = arena->system_bytes, .top = arena->top });
	return GLIBC_COPIED;
}

static enum glibc_copied arenas_copy(struct glibc_state *state)
{
	uint64_t address = state->glibc->main_arena;

	do {
		enum glibc_copied result;

		if (state->arena_count == GLIBC_ARENAS_MOST)
			return glibc_state_broken(state, "the ring of arenas does not close");
		if (!glibc_state_room(state))
			return GLIBC_NO_MEMORY;
		result = arena_copy(state, address, &address);
		if (result != GLIBC_COPIED)
			return result;
	} while (address != state->glibc->main_arena);
	return GLIBC_COPIED;
}

/* --- parameters --- */

static enum glibc_copied params_copy(struct glibc_state *state)
{
	const struct glibc_layout *layout = state->glibc->layout;
	struct model_settings *settings = &state->model->settings;
	uint32_t counts[4];
	char bytes[256];

	if (!memory_read(state->glibc->memory, state->glibc->params, bytes, layout->params_bytes))
		return glibc_state_broken(state, "malloc's parameters cannot be read");
	memcpy(counts, bytes + layout->mapped_count, sizeof(counts));
	state->params = (struct glibc_params){
		.break_begin = word_at(bytes, layout->break_begin),
		.huge_page = layout->huge_page ? word_at(bytes, layout->huge_page) : 0,
		.mapped_count = counts[0],
		.mapped_bytes = word_at(bytes, layout->mapped_bytes),
	};
	*settings = (struct model_settings){
		.trim_threshold = word_at(bytes, 0), .top_pad = word_at(bytes, 8),
		.mmap_threshold = word_at(bytes, 16), .arena_max = word_at(bytes, 32),
		.thresholds_fixed = counts[3], .mapped_max = counts[1],
		.mapped_blocks = counts[0], .mapped_bytes = state->params.mapped_bytes,
		.trim_unit = state->params.huge_page ? state->params.huge_page : MODEL_PAGE,
	};
	return GLIBC_COPIED;
}

/* --- the threads' caches --- */

/* In later versions a link is masked with the address of the place it is kept at. */
static uint64_t link_reveal(const struct glibc_state *state, uint64_t place, uint64_t link)
{
	return state->glibc->layout->links_are_masked ? link ^ place >> 12 : link;
}

static enum glibc_copied cache_list_copy(struct glibc_state *state, size_t cache, unsigned bin,
                                         uint64_t entry)
{
	/* The bins for larger blocks hold several sizes each. */
	uint64_t bytes = bin < 64 ? 16 * bin + GLIBC_CHUNK_LEAST : 0;

	for (unsigned i = 0; entry; i++) {
		uint64_t link;

		if (i == CACHE_LENGTH_MOST)
			return glibc_state_broken(state, "thread %d's cache has a list without an end",
			                          state->model->caches[cache].thread);
		if (entry % 16 || !memory_read(state->glibc->memory, entry, &link, sizeof(link)))
			return glibc_state_broken(state, "thread %d's cache points to %#" PRIx64
			                          ", where no block is",
			                          state->model->caches[cache].thread, entry);
		if (!glibc_state_cache(state, &(struct glibc_cached){ entry - GLIBC_LINKS, bytes, cache }))
			return GLIBC_NO_MEMORY;
		entry = link_reveal(state, entry, link);
	}
	return GLIBC_COPIED;
}

static enum glibc_copied cache_copy(struct glibc_state *state, int thread, uint64_t table)
{
	const struct glibc_layout *layout = state->glibc->layout;
	unsigned bins = glibc_layout_cache_bins(layout);
	uint64_t entries[128];
	size_t cache;

	if (!memory_read(state->glibc->memory, table + glibc_layout_cache_entries(layout), entries,
	                 bins * sizeof(*entries)))
		return glibc_state_broken(state, "thread %d's cache cannot be read", thread);
	cache = model_add_cache(state->model, &(struct model_cache){ .thread = thread });
	if (state->model->failed)
		return GLIBC_NO_MEMORY;
	state->tables[state->table_count++] = table - GLIBC_LINKS;
	for (unsigned bin = 0; bin < bins; bin++) {
		enum glibc_copied result = cache_list_copy(state, cache, bin, entries[bin]);

		if (result != GLIBC_COPIED)
			return result;
	}
	return GLIBC_COPIED;
}

static enum glibc_copied caches_copy(struct glibc_state *state)
{
	const struct glibc *glibc = state->glibc;

	if (!glibc->cache_below)
		return GLIBC_COPIED;
	state->tables = calloc(glibc->stop->count + 1, sizeof(*state->tables));
	if (!state->tables)
		return GLIBC_NO_MEMORY;
	for (size_t i = 0; i < glibc->stop->count; i++) {
		const struct stop_thread *thread = &glibc->stop->threads[i];
		uint64_t table = glibc_find_word(glibc, thread->thread_pointer - glibc->cache_below);
		enum glibc_copied result;

		/* A thread that has not allocated has none. */
		if (!table || !glibc_find_cache(glibc, glibc->layout, table))
			continue;
		result = cache_copy(state, thread->id, table);
		if (result != GLIBC_COPIED)
			return result;
	}
	return GLIBC_COPIED;
}

enum glibc_copied glibc_state_copy(struct glibc_state *state)
{
	enum glibc_copied result = arenas_copy(state);

	if (result == GLIBC_COPIED)
		result = params_copy(state);
	if (result == GLIBC_COPIED)
		result = caches_copy(state);
	return result;
}
