#include "readers/cede_heap.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cede/cede.h>

#include "readers/cede_target.h"
#include "readers/glibc_lists.h"
#include "readers/glibc_walk.h"

/* No heap has more. */
#define LIST_MOST    ((size_t)1 << 18)
#define CACHED_MOST  ((size_t)1 << 24)
#define SLOTS_MOST   ((uint64_t)16 << 20)  /* bytes, of a thread */
#define SPARES_MOST  4096u
#define REGION_MOST  ((uint64_t)4 << 40)

#define WINDOW_BYTES 48u                   /* of what tells of the window */
#define LOCK_WAITERS 0x80000000u
#define HOLDERS      64
#define BIN_SLOTS    UINT16_MAX            /* of a class */

static bool word_read(const struct cede_heap *heap, uint64_t address, uint64_t *word)
{
	return memory_read(heap->memory, address, word, sizeof(*word));
}

static uint64_t field(const void *of, uint32_t offset, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)of + offset, size);
	return value;
}

/* Along a list that may lead back into itself: one place is remembered, ever later ones. */
struct trail {
	uint64_t mark;
	size_t steps, next_mark;
};

/* Whether the list has been here, or does not end. */
static bool trail_returns(struct trail *trail, uint64_t at)
{
	if ((trail->steps && at == trail->mark) || trail->steps == LIST_MOST)
		return true;
	if (trail->steps++ >= trail->next_mark) {
		trail->next_mark = 2 * trail->steps;
		trail->mark = at;
	}
	return false;
}

static enum glibc_copied cannot_be_read(struct glibc_state *state, const char *what)
{
	return glibc_state_broken(state, "%s cannot be read", what);
}

/* ---- before ---- */

/* The thread that gives memory back, by its name; threads of others may have it too. */
static pid_t purger_find(pid_t pid)
{
	char path[300], name[32] = "";
	struct dirent *entry;
	pid_t found = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	while (folder && !found && (entry = readdir(folder))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, entry->d_name);
		file = fopen(path, "re");
		if (file && fgets(name, sizeof(name), file) && !strcmp(name, "cede-purger\n"))
			found = (pid_t)atoi(entry->d_name);
		if (file)
			fclose(file);
	}
	if (folder)
		closedir(folder);
	return found;
}

void cede_heap_begin(struct cede_heap *heap, const struct memory *memory, struct glibc *glibc)
{
	const struct cede_descriptor *d = heap->descriptor;

	*heap = (struct cede_heap){
		.descriptor = d, .memory = memory, .layout = {
			.bins = d->arena_bins, .from_bins_system = d->arena_system_bytes - d->arena_bins,
			.state_bytes = d->arena_size, .heap_header = d->heap_header, .fast_bins = true,
			.cache = GLIBC_CACHE_NONE, .mapped_flag_varies = true, .main_ends_as_heaps = true,
		},
		.purger = memory->core ? 0 : purger_find(memory->pid),
	};
	glibc->layout = &heap->layout;
	glibc->main_arena = d->main_arena;
}

void cede_heap_free(struct cede_heap *heap)
{
	free(heap->counts);
	heap->counts = NULL;
}

/* ---- whoever is at work ---- */

struct holders {
	const struct cede_heap *heap;
	pid_t ids[HOLDERS];
	size_t count;
};

static void holder_add(struct holders *holders, uint32_t id)
{
	if (id && holders->count < HOLDERS)
		holders->ids[holders->count++] = (pid_t)(id & ~LOCK_WAITERS);
}

static void lock_look(struct holders *holders, uint64_t address)
{
	uint32_t word;

	if (memory_read(holders->heap->memory, address, &word, sizeof(word)))
		holder_add(holders, word);
}

/* Whether a thread moves cached blocks. */
static bool bins_are_busy(const struct cede_heap *heap, uint64_t record)
{
	uint64_t bins[CEDE_TARGET_CLASSES][4];
	bool busy = false;

	if (!memory_read(heap->memory, record + heap->descriptor->thread_bins, bins,
	                 heap->descriptor->classes * sizeof(*bins)))
		return false;
	for (uint32_t c = 0; c < heap->descriptor->classes; c++)
		busy = busy || bins[c][3] >> 32;
	return busy;
}

/* A thread that has ended may have left its cache as if it were at work. */
static void record_look(struct holders *holders, const struct stop *stop, uint64_t at,
                        const char *record)
{
	const struct cede_descriptor *d = holders->heap->descriptor;
	pid_t id = (pid_t)field(record, d->thread_id, 4);
	bool lives = false;

	for (size_t i = 0; i < stop->count; i++)
		lives = lives || stop->threads[i].id == id;
	if (!lives)
		return;
	holder_add(holders, (uint32_t)field(record, d->thread_lock, 4));
	if (field(record, d->thread_caching, 1) && bins_are_busy(holders->heap, at))
		holder_add(holders, (uint32_t)id);
}

static void holders_find(struct holders *holders, const struct stop *stop)
{
	const struct cede_heap *heap = holders->heap;
	const struct cede_descriptor *d = heap->descriptor;
	char record[CEDE_TARGET_RECORD_HEAD];
	uint64_t at = d->main_arena, places[3];
	struct trail arenas = { 0 }, threads = { 0 };

	holders->count = 0;
	while (at && !trail_returns(&arenas, at)) {
		lock_look(holders, at + d->arena_lock);
		if (!word_read(heap, at + d->arena_next, &at))
			break;
	}
	if (memory_read(heap->memory, d->spare_places, places, sizeof(places)))
		lock_look(holders, places[0]);
	if (!word_read(heap, d->threads, &at))
		return;
	while (at && !trail_returns(&threads, at) && holders->count < HOLDERS) {
		if (!memory_read(heap->memory, at, record, sizeof(record)))
			break;
		record_look(holders, stop, at, record);
		at = field(record, d->thread_next, 8);
	}
}

int cede_heap_settle(const struct cede_heap *heap, struct stop *stop, unsigned steps,
                     bool *at_work)
{
	struct holders holders = { .heap = heap };
	bool moved = !stop->for_good;

	for (holders_find(&holders, stop); holders.count && moved; holders_find(&holders, stop)) {
		moved = false;
		for (size_t k = 0; k < holders.count && steps; k++) {
			size_t i = 0;
			int error;

			while (i < stop->count && stop->threads[i].id != holders.ids[k])
				i++;
			if (i == stop->count || stop->threads[i].by_user)
				continue;
			error = stop_step(stop, heap->memory->pid, i);
			if (error)
				return error;
			moved = true;
			steps--;
		}
	}
	*at_work = holders.count != 0;
	return 0;
}

/* ---- arenas and settings ---- */

static enum glibc_copied arena_copy(struct cede_heap *heap, struct glibc_state *state,
                                    uint64_t address, uint64_t *next)
{
	const struct cede_descriptor *d = heap->descriptor;
	struct glibc_arena *arena = &state->arenas[state->arena_count];
	struct cede_counts *counts;
	char bytes[CEDE_TARGET_ARENA];
	uint64_t lock;

	if (!memory_read(heap->memory, address, bytes, d->arena_size))
		return glibc_state_broken(state, "the arena at %#" PRIx64 " cannot be read", address);
	lock = field(bytes, d->arena_lock, 4);
	if (lock && !state->glibc->stop->for_good)
		return GLIBC_LOCKED;
	state->locked_arenas += lock != 0;
	*arena = (struct glibc_arena){
		.address = address, .contiguous = field(bytes, d->arena_contiguous, 1),
		.system_bytes = field(bytes, d->arena_system_bytes, 8),
		.top = field(bytes, d->arena_top, 8),
		.top_aside = field(bytes, d->arena_top_claimed, 8),
	};
	memcpy(arena->fast, bytes + d->arena_fastbins, sizeof(arena->fast));
	memcpy(arena->links, bytes + d->arena_bins, sizeof(arena->links));
	/* Before the first allocation, the header of the unsorted bin stands for it. */
	if (arena->top == address + d->arena_bins - GLIBC_LINKS)
		arena->top = 0;
	*next = field(bytes, d->arena_next, 8);
	counts = realloc(heap->counts, (state->arena_count + 1) * sizeof(*counts));
	if (!counts)
		return GLIBC_NO_MEMORY;
	heap->counts = counts;
	counts[state->arena_count] = (struct cede_counts){
		.binned = field(bytes, d->arena_binned, 8) + field(bytes, d->arena_claimed_bytes, 8),
		.slab_live = field(bytes, d->arena_slab_live, 8),
		.slab_units = field(bytes, d->arena_slab_units, 8),
	};
	/* For a main arena without memory it is not there. */
	if (state->arena_count == 0)
		state->params.break_begin = field(bytes, d->arena_lowest, 8);
	state->arena_count++;
	model_add_arena(state->model, &(struct model_arena){
		.address = address, .system_bytes = arena->system_bytes, .top = arena->top });
	return GLIBC_COPIED;
}

static enum glibc_copied arenas_copy(struct cede_heap *heap, struct glibc_state *state)
{
	enum glibc_copied result = GLIBC_COPIED;
	struct trail trail = { 0 };

	for (uint64_t at = heap->descriptor->main_arena; at && result == GLIBC_COPIED;) {
		if (trail_returns(&trail, at) || state->arena_count == GLIBC_ARENAS_MOST)
			return glibc_state_broken(state, "the list of arenas does not end");
		if (!glibc_state_room(state))
			return GLIBC_NO_MEMORY;
		result = arena_copy(heap, state, at, &at);
	}
	return result;
}

/* What it does with what is free, when the program does nothing. */
static enum model_giving giving_of(bool background, uint32_t purger)
{
	if (!background || purger == CEDE_PURGER_ABSENT)
		return MODEL_GIVES_ON_CALL;
	return purger == CEDE_PURGER_AWAKE ? MODEL_GIVES_SOON : MODEL_GIVES_MORE;
}

static enum glibc_copied settings_copy(struct cede_heap *heap, struct glibc_state *state)
{
	const struct cede_descriptor *d = heap->descriptor;
	uint64_t mapped[4], values[5], places[3], spare_bytes;
	const uint32_t offsets[5] = { d->setting_trim_threshold, d->setting_mmap_threshold,
	                              d->setting_top_pad, d->setting_arena_max, d->setting_mmap_max };
	uint32_t policy, purger, spares;
	uint8_t background, dynamic;

	for (int i = 0; i < 5; i++)
		if (!word_read(heap, d->settings + offsets[i], &values[i]))
			return cannot_be_read(state, "cede's settings");
	if (!memory_read(heap->memory, d->policy, &policy, sizeof(policy)) ||
	    !memory_read(heap->memory, d->purger, &purger, sizeof(purger)) ||
	    !memory_read(heap->memory, d->background, &background, sizeof(background)) ||
	    !memory_read(heap->memory, d->settings + d->setting_dynamic, &dynamic, sizeof(dynamic)) ||
	    !memory_read(heap->memory, d->mapped, mapped, sizeof(mapped)) ||
	    !memory_read(heap->memory, d->spare_places, places, sizeof(places)) ||
	    !memory_read(heap->memory, places[1], &spares, sizeof(spares)) ||
	    !word_read(heap, d->spares, &spare_bytes))
		return cannot_be_read(state, "what cede counts");
	heap->classic = policy == CEDE_POLICY_CLASSIC;
	state->params.mapped_count = mapped[0];
	state->params.mapped_bytes = mapped[1];
	state->model->settings = (struct model_settings){
		.trim_threshold = values[0], .mmap_threshold = values[1], .top_pad = values[2],
		.arena_max = values[3], .mapped_max = values[4], .thresholds_fixed = !dynamic,
		.trim_unit = MODEL_PAGE, .mapped_blocks = mapped[0], .mapped_bytes = mapped[1],
		.spare_blocks = spares, .spare_bytes = spare_bytes,
		.giving = heap->classic ? MODEL_GIVES_END : giving_of(background, purger),
	};
	return GLIBC_COPIED;
}

/* ---- spares, caches, claims ---- */

enum glibc_copied cede_region_end(const struct cede_heap *heap, struct glibc_state *state,
                                  uint64_t begin, uint64_t end)
{
	uint8_t *pages;

	if (begin % MEMORY_PAGE || end % MEMORY_PAGE || begin >= end || end >= MEMORY_END ||
	    end - begin > REGION_MOST)
		return glibc_state_broken(state, "no part of a heap can be from %#" PRIx64 " to %#" PRIx64,
		                          begin, end);
	pages = model_end_region(state->model, end);
	if (!pages)
		return GLIBC_NO_MEMORY;
	return memory_pages(heap->memory, begin, end, pages) ? GLIBC_COPIED :
	       glibc_state_broken(state, "nothing is at %#" PRIx64, begin);
}

static enum glibc_copied range_add(const struct cede_heap *heap, struct glibc_state *state,
                                   enum model_region_kind kind, enum model_state block,
                                   const struct range *range)
{
	model_begin_region(state->model, kind, 0, range->begin);
	model_add_block(state->model, range->begin, block);
	return cede_region_end(heap, state, range->begin, range->end);
}

static enum glibc_copied spares_copy(struct cede_heap *heap, struct glibc_state *state)
{
	uint64_t places[3], count = state->model->settings.spare_blocks, bytes = 0;
	enum glibc_copied result = GLIBC_COPIED;

	if (!memory_read(heap->memory, heap->descriptor->spare_places, places, sizeof(places)) ||
	    count > SPARES_MOST)
		return cannot_be_read(state, "what mapped blocks left");
	for (uint64_t i = 0; i < count && result == GLIBC_COPIED; i++) {
		struct range range;

		if (!memory_read(heap->memory, places[2] + i * sizeof(range), &range, sizeof(range)))
			return cannot_be_read(state, "what mapped blocks left");
		bytes += range.end;
		range.end += range.begin;
		result = range_add(heap, state, MODEL_MAPPED, MODEL_BIN, &range);
	}
	if (result == GLIBC_COPIED && bytes != state->model->settings.spare_bytes)
		return glibc_state_broken(state, "mapped blocks left %" PRIu64 " bytes, of which %" PRIu64
		                          " were found", state->model->settings.spare_bytes, bytes);
	return result;
}

/* The blocks that a thread caches, of one class: from `base` to `top`, which is above. */
static enum glibc_copied bin_copy(const struct cede_heap *heap, struct glibc_state *state,
                                  uint64_t base, uint64_t top, size_t cache, uint64_t *blocks)
{
	uint64_t count = (top - base) / 8;

	if (count > BIN_SLOTS || state->cached_count + count > CACHED_MOST ||
	    !memory_read(heap->memory, base, blocks, count * sizeof(*blocks)))
		return cannot_be_read(state, "a thread's cache");
	for (uint64_t i = 0; i < count; i++) {
		bool slab = heap->window && blocks[i] - heap->window < REGION_MOST;
		const struct glibc_cached cached = { slab ? blocks[i] : blocks[i] - GLIBC_LINKS, 0,
		                                     cache };

		if (!glibc_state_cache(state, &cached))
			return GLIBC_NO_MEMORY;
	}
	return GLIBC_COPIED;
}

/* One thread's; `room` holds its bins, and the blocks of one of them. */
static enum glibc_copied cache_copy(struct cede_heap *heap, struct glibc_state *state,
                                    uint64_t record, uint64_t slots, int thread,
                                    uint64_t *room)
{
	uint64_t (*bins)[4] = (uint64_t (*)[4])room;
	uint64_t *blocks = room + 4ul * heap->descriptor->classes;
	enum glibc_copied result = GLIBC_COPIED;
	size_t cache = MODEL_NONE;

	if (!memory_read(heap->memory, record + heap->descriptor->thread_bins, bins,
	                 heap->descriptor->classes * sizeof(*bins)))
		return cannot_be_read(state, "a thread's cache");
	for (uint32_t c = 0; c < heap->descriptor->classes && result == GLIBC_COPIED; c++) {
		uint64_t base = slots + 8 * (uint64_t)(uint32_t)bins[c][3];

		if (base >= bins[c][0])
			continue;
		if (cache == MODEL_NONE)
			cache = model_add_cache(state->model, &(struct model_cache){ .thread = thread });
		result = bin_copy(heap, state, base, bins[c][0], cache, blocks);
	}
	return result;
}

static enum glibc_copied caches_copy(struct cede_heap *heap, struct glibc_state *state)
{
	const struct cede_descriptor *d = heap->descriptor;
	uint64_t *room = malloc((4ul * d->classes + BIN_SLOTS) * sizeof(*room)), at, slots_bytes;
	enum glibc_copied result = GLIBC_COPIED;
	struct trail trail = { 0 };

	if (!room)
		return GLIBC_NO_MEMORY;
	if (!word_read(heap, d->threads, &at) || !word_read(heap, d->slots_bytes, &slots_bytes) ||
	    slots_bytes > SLOTS_MOST)
		result = cannot_be_read(state, "the list of threads");
	while (at && result == GLIBC_COPIED) {
		char record[CEDE_TARGET_RECORD_HEAD];
		struct range slots;

		if (trail_returns(&trail, at) || !memory_read(heap->memory, at, record, sizeof(record))) {
			result = cannot_be_read(state, "the list of threads");
			break;
		}
		slots.begin = field(record, d->thread_slots, 8);
		slots.end = slots.begin + slots_bytes;
		if (slots.begin)
			result = range_add(heap, state, MODEL_OWN, MODEL_INTERNAL, &slots);
		if (slots.begin && result == GLIBC_COPIED)
			result = cache_copy(heap, state, at, slots.begin, (int)field(record, d->thread_id, 4),
			                    room);
		at = field(record, d->thread_next, 8);
	}
	free(room);
	return result;
}

static enum glibc_copied claim_copy(struct cede_heap *heap, struct glibc_state *state)
{
	const struct cede_descriptor *d = heap->descriptor;
	struct cede_claim *claim = &heap->claim;
	struct range parts;
	uint64_t at;

	if (!memory_read(heap->memory, d->window_parts, &parts, sizeof(parts)) ||
	    !word_read(heap, d->claim, &at) || !word_read(heap, at + d->claim_arena, &claim->arena) ||
	    !memory_read(heap->memory, at + d->claim_count, &claim->count, sizeof(claim->count)) ||
	    claim->count > sizeof(claim->ranges) / sizeof(*claim->ranges) ||
	    !memory_read(heap->memory, at + d->claim_ranges, claim->ranges,
	                 claim->count * sizeof(*claim->ranges)))
		return cannot_be_read(state, "what cede's thread holds");
	for (uint32_t i = 0; i < claim->count; i++)
		claim->ranges[i].end += claim->ranges[i].begin;
	heap->own[0] = (struct range){ d->main_arena, d->main_arena + d->arena_size };
	heap->own[1] = (struct range){ at, at + d->claim_size };
	heap->own[2] = (struct range){ d->window, d->window + WINDOW_BYTES };
	heap->own[3] = (struct range){ parts.begin, parts.begin + parts.end };
	return GLIBC_COPIED;
}

/* ---- all ---- */

enum glibc_copied cede_heap_copy(struct cede_heap *heap, struct glibc_state *state)
{
	enum glibc_copied result = arenas_copy(heap, state);

	if (result == GLIBC_COPIED)
		result = settings_copy(heap, state);
	if (result == GLIBC_COPIED)
		result = claim_copy(heap, state);
	/* What is described need not be searched for chunks, which nothing lists. */
	if (result == GLIBC_COPIED)
		result = cede_slabs_walk(heap, state);
	if (result == GLIBC_COPIED)
		result = glibc_walk(state);
	if (result == GLIBC_COPIED)
		result = spares_copy(heap, state);
	if (result == GLIBC_COPIED)
		result = caches_copy(heap, state);
	return result == GLIBC_COPIED ? glibc_walk_mapped(state) : result;
}

/* A free chunk looks used while its pages are being given back; what was the top's end is
 * the top's already. */
static void chunks_claimed(struct model *model, const struct range *range)
{
	size_t block = model_find(model, range->begin);

	if (block != MODEL_NONE && model_block_state(model, block) == MODEL_LIVE)
		model_block_become(model, block, MODEL_BIN);
}

static void claims_apply(const struct cede_heap *heap, struct model *model)
{
	for (uint32_t i = 0; i < heap->claim.count; i++) {
		const struct range *range = &heap->claim.ranges[i];
		const struct model_region *region = model_region_at(model, range->begin);

		if (region && region->kind == MODEL_SLABS)
			cede_slabs_claimed(model, range);
		else if (region && model_region_is_arena(region))
			chunks_claimed(model, range);
	}
}

/* Where bins are trees, the blocks alone tell what is in them. */
static enum glibc_copied bins_count(const struct cede_heap *heap, struct glibc_state *state)
{
	struct model *model = state->model;

	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];
		size_t end = region->first_block + region->block_count;

		if (region->kind != MODEL_BREAK && region->kind != MODEL_HEAP)
			continue;
		for (size_t block = region->first_block; block < end; block++) {
			if (model_block_state(model, block) != MODEL_BIN)
				continue;
			model->arenas[region->arena].bin_blocks++;
			model->arenas[region->arena].bin_bytes +=
				model_block_end(model, region, block) - model_block_address(model, block);
		}
	}
	for (size_t i = 0; i < model->arena_count; i++)
		if (model->arenas[i].bin_bytes != heap->counts[i].binned)
			return glibc_state_broken(state, "the arena at %#" PRIx64 " has %" PRIu64 " bytes in "
			                          "its bins, of which %" PRIu64 " were found",
			                          model->arenas[i].address, heap->counts[i].binned,
			                          model->arenas[i].bin_bytes);
	return GLIBC_COPIED;
}

enum glibc_copied cede_heap_complete(struct cede_heap *heap, struct glibc_state *state)
{
	enum glibc_copied result;
	int broken;

	if (heap->classic) {
		result = glibc_lists_follow(state);
	} else {
		claims_apply(heap, state->model);
		glibc_lists_measure_tops(state);
		result = bins_count(heap, state);
		if (result == GLIBC_COPIED)
			result = glibc_lists_follow_caches(state);
	}
	if (result == GLIBC_COPIED)
		result = cede_slabs_complete(heap, state);
	broken = result == GLIBC_COPIED ? model_check(state->model) : 0;
	return broken ? glibc_state_broken(state, "its parts do not fit together (%d)", broken) : result;
}
