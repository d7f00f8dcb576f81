/*
 * Slabs of a stopped process on cede: what is described apart, by unit and by segment.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "readers/cede_heap.h"
#include "readers/cede_target.h"

#define WINDOW_MOST ((uint64_t)1 << 40)
#define BITS_WORDS  (UINT16_MAX / 64 + 1)

/* A walk along the window. */
struct walk {
	struct cede_heap *heap;
	struct glibc_state *state;
	uint64_t base, count;            /* segments that are open */
	uint64_t bins, records, bits, segments;
	uint32_t arena;                  /* of the region under way, which began at `begin` */
	uint64_t begin, end;             /* equal: there is none */
	size_t blocks_most;              /* what this machine has room for */
	char *segment, *record;          /* of one segment */
	uint16_t *unit_bins;
	uint64_t words[BITS_WORDS];      /* the bits of one slab */
};

static uint64_t field(const void *of, uint32_t offset, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)of + offset, size);
	return value;
}

/* ---- regions ---- */

static enum glibc_copied region_end(struct walk *walk)
{
	uint64_t begin = walk->begin;

	walk->begin = walk->end;
	return begin == walk->end ? GLIBC_COPIED :
	       cede_region_end(walk->heap, walk->state, begin, walk->end);
}

/* What comes next, from `address` on, is an arena's: of the same region, if it can be. */
static enum glibc_copied region_continue(struct walk *walk, uint64_t address, uint64_t bytes,
                                         uint64_t owner)
{
	const struct glibc_state *state = walk->state;
	uint32_t arena = walk->arena;
	enum glibc_copied result = GLIBC_COPIED;

	if (arena >= state->arena_count || state->arenas[arena].address != owner)
		for (arena = 0; arena < state->arena_count; arena++)
			if (state->arenas[arena].address == owner)
				break;
	if (arena == state->arena_count)
		return glibc_state_broken(walk->state, "the slab at %#" PRIx64 " is of no arena", address);
	if (address != walk->end || arena != walk->arena || walk->begin == walk->end) {
		result = region_end(walk);
		model_begin_region(walk->state->model, MODEL_SLABS, arena, address);
		walk->begin = address;
	}
	walk->arena = arena;
	walk->end = address + bytes;
	return result;
}

static struct model_arena *arena_of(struct walk *walk)
{
	return &walk->state->model->arenas[walk->arena];
}

static void free_add(struct walk *walk, uint64_t address, uint64_t bytes, bool counts)
{
	model_add_block(walk->state->model, address, MODEL_SLAB);
	arena_of(walk)->slab_bytes += bytes;
	arena_of(walk)->slab_blocks += counts;
}

/* ---- a slab, a unit, a segment ---- */

/* Sizes that fit together; the descriptor's are bounded before. */
struct slab {
	uint64_t address, bytes, record;
	uint32_t size, blocks, units, free, claimed;
};

static bool slab_is_sound(const struct walk *walk, const struct slab *slab, uint32_t room)
{
	return slab->units && slab->units <= room && slab->size >= MODEL_GRAIN &&
	       slab->size % MODEL_GRAIN == 0 && slab->blocks &&
	       (uint64_t)slab->blocks * slab->size <= slab->bytes &&
	       slab->free + slab->claimed <= slab->blocks &&
	       walk->state->model->block_count <= walk->blocks_most;
}

static bool bits_read(struct walk *walk, const struct slab *slab, const char *record)
{
	const struct cede_descriptor *d = walk->heap->descriptor;
	uint64_t where = field(record, d->record_bits, 8), within = where - slab->record;
	size_t size = (slab->blocks + 63) / 64 * sizeof(uint64_t);

	if (within < d->record_size && size <= d->record_size - within) {
		memcpy(walk->words, record + within, size);
		return true;
	}
	return memory_read(walk->heap->memory, where, walk->words, size);
}

static enum glibc_copied slab_add(struct walk *walk, const struct slab *slab, uint64_t owner)
{
	enum glibc_copied result = region_continue(walk, slab->address, slab->bytes, owner);
	uint64_t used = (uint64_t)slab->blocks * slab->size;
	struct cede_counts *counts;
	uint32_t free = 0;

	if (result != GLIBC_COPIED)
		return result;
	if (walk->state->model->failed)
		return GLIBC_NO_MEMORY;
	for (uint32_t i = 0; i < slab->blocks; i++) {
		uint64_t address = slab->address + (uint64_t)i * slab->size;

		if (walk->words[i / 64] >> i % 64 & 1) {
			free_add(walk, address, slab->size, true);
			free++;
		} else {
			model_add_block(walk->state->model, address, MODEL_LIVE);
		}
	}
	if (used < slab->bytes)
		free_add(walk, slab->address + used, slab->bytes - used, false);
	if (free != slab->free)
		return glibc_state_broken(walk->state, "the slab at %#" PRIx64 " has %u free blocks, of "
		                          "which %u were found", slab->address, slab->free, free);
	counts = &walk->heap->counts[walk->arena];
	counts->found_units += slab->units;
	counts->found_live += (uint64_t)(slab->blocks - free - slab->claimed) * slab->size;
	arena_of(walk)->system_bytes += slab->bytes;
	return GLIBC_COPIED;
}

static enum glibc_copied slab_walk(struct walk *walk, struct slab *slab, const char *record,
                                   uint32_t room)
{
	const struct cede_descriptor *d = walk->heap->descriptor;

	slab->units = (uint32_t)field(record, d->record_units, 1);
	slab->bytes = (uint64_t)slab->units * d->unit_size;
	slab->size = (uint32_t)field(record, d->record_block_size, 4);
	slab->blocks = (uint32_t)field(record, d->record_blocks, 2);
	slab->free = (uint32_t)field(record, d->record_free, 2);
	slab->claimed = (uint32_t)field(record, d->record_claimed, 2);
	if (!slab_is_sound(walk, slab, room) || !bits_read(walk, slab, record))
		return glibc_state_broken(walk->state, "no slab can be at %#" PRIx64, slab->address);
	return slab_add(walk, slab, field(record, d->record_arena, 8));
}

/* A unit of no slab counts while it has pages that may be resident. */
static enum glibc_copied unit_walk(struct walk *walk, uint64_t address, uint32_t touched)
{
	const struct cede_descriptor *d = walk->heap->descriptor;
	enum glibc_copied result;

	if (!touched)
		return GLIBC_COPIED;
	result = region_continue(walk, address, d->unit_size,
	                         field(walk->segment, d->segment_arena, 8));
	if (result == GLIBC_COPIED && walk->state->model->failed)
		result = GLIBC_NO_MEMORY;
	if (result == GLIBC_COPIED) {
		free_add(walk, address, d->unit_size, true);
		arena_of(walk)->system_bytes += d->unit_size;
	}
	return result;
}

static enum glibc_copied segment_walk(struct walk *walk, uint64_t number)
{
	const struct cede_descriptor *d = walk->heap->descriptor;
	uint64_t first = number * d->segment_units;
	enum glibc_copied result = GLIBC_COPIED;
	bool any = false;

	if (!memory_read(walk->heap->memory, walk->bins + first * 2, walk->unit_bins,
	                 d->segment_units * 2ul) ||
	    !memory_read(walk->heap->memory, walk->segments + number * d->segment_size, walk->segment,
	                 d->segment_size))
		return glibc_state_broken(walk->state, "what describes the slabs cannot be read");
	for (uint32_t i = 0; i < d->segment_units; i++)
		any = any || walk->unit_bins[i];
	if (any && !memory_read(walk->heap->memory, walk->records + first * d->record_size,
	                        walk->record, (size_t)d->segment_units * d->record_size))
		return glibc_state_broken(walk->state, "what describes the slabs cannot be read");
	for (uint32_t i = 0, units; i < d->segment_units && result == GLIBC_COPIED; i += units) {
		struct slab slab = { .address = walk->base + (first + i) * d->unit_size,
		                     .record = walk->records + (first + i) * d->record_size };

		units = 1;
		if (!walk->unit_bins[i]) {
			result = unit_walk(walk, slab.address,
			                   (uint32_t)field(walk->segment, d->segment_touched + 2 * i, 2));
			continue;
		}
		result = slab_walk(walk, &slab, walk->record + (size_t)i * d->record_size,
		                   d->segment_units - i);
		units = slab.units;
	}
	return result;
}

/* ---- what describes them ---- */

/* A part of it: so many bytes for each segment, in blocks by segment or in one. */
static enum glibc_copied part_add(const struct walk *walk, uint64_t begin, uint64_t each,
                                  bool by_segment)
{
	uint64_t end = (begin + each * walk->count + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);

	model_begin_region(walk->state->model, MODEL_OWN, 0, begin);
	for (uint64_t i = 0; i < (by_segment ? walk->count : 1); i++)
		model_add_block(walk->state->model, begin + i * each, MODEL_INTERNAL);
	return cede_region_end(walk->heap, walk->state, begin, end);
}

static enum glibc_copied parts_add(struct walk *walk)
{
	const struct cede_descriptor *d = walk->heap->descriptor;
	uint64_t units = d->segment_units;
	enum glibc_copied result = part_add(walk, walk->segments, d->segment_size, false);

	walk->heap->records = walk->records;
	walk->heap->bits = walk->bits;
	if (result == GLIBC_COPIED)
		result = part_add(walk, walk->records, units * d->record_size, true);
	if (result == GLIBC_COPIED)
		result = part_add(walk, walk->bits, units * (d->unit_size / 128), true);
	return result == GLIBC_COPIED ? part_add(walk, walk->bins, units * 2, false) : result;
}

/* ---- all ---- */

static enum glibc_copied walk_along(struct walk *walk)
{
	enum glibc_copied result = parts_add(walk);

	for (uint64_t i = 0; i < walk->count && result == GLIBC_COPIED; i++)
		result = segment_walk(walk, i);
	return result == GLIBC_COPIED ? region_end(walk) : result;
}

enum glibc_copied cede_slabs_walk(struct cede_heap *heap, struct glibc_state *state)
{
	const struct cede_descriptor *d = heap->descriptor;
	uint64_t window[6], segment_bytes = (uint64_t)d->unit_size * d->segment_units;
	enum glibc_copied result = GLIBC_NO_MEMORY;
	struct walk *walk;

	if (!memory_read(heap->memory, d->window, window, sizeof(window)))
		return glibc_state_broken(state, "what describes the slabs cannot be read");
	if (!window[0] || !window[1])
		return GLIBC_COPIED;
	if (window[1] > WINDOW_MOST / 16 || window[0] >= MEMORY_END - WINDOW_MOST)
		return glibc_state_broken(state, "no slabs can be at %#" PRIx64, window[0]);
	walk = calloc(1, sizeof(*walk));
	if (!walk)
		return GLIBC_NO_MEMORY;
	heap->window = window[0];
	heap->segment_bytes = segment_bytes;
	walk->heap = heap;
	walk->state = state;
	walk->base = window[0];
	walk->count = window[1] * 16 / segment_bytes;
	walk->bins = window[2];
	walk->records = window[3];
	walk->bits = window[4];
	walk->segments = window[5];
	walk->blocks_most = (size_t)sysconf(_SC_PHYS_PAGES) * (MEMORY_PAGE / sizeof(uint64_t) / 2);
	walk->segment = malloc(d->segment_size);
	walk->record = malloc((size_t)d->segment_units * d->record_size);
	walk->unit_bins = malloc(d->segment_units * sizeof(*walk->unit_bins));
	if (walk->segment && walk->record && walk->unit_bins)
		result = walk_along(walk);
	free(walk->segment);
	free(walk->record);
	free(walk->unit_bins);
	free(walk);
	return result;
}

/* ---- afterwards ---- */

void cede_slabs_claimed(struct model *model, const struct range *range)
{
	const struct model_region *region = model_region_at(model, range->begin);
	size_t block = model_find(model, range->begin), end = region->first_block + region->block_count;

	for (; block < end && model_block_address(model, block) < range->end; block++) {
		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		model_block_become(model, block, MODEL_SLAB);
		model->arenas[region->arena].slab_blocks++;
		model->arenas[region->arena].slab_bytes +=
			model_block_end(model, region, block) - model_block_address(model, block);
	}
}

/* Whether each segment has a block in use that no thread caches. */
static void segments_mark(const struct cede_heap *heap, const struct model *model, uint8_t *used,
                          size_t count)
{
	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];
		size_t end = region->first_block + region->block_count;

		if (region->kind != MODEL_SLABS)
			continue;
		for (size_t block = region->first_block; block < end; block++) {
			uint64_t segment = (model_block_address(model, block) - heap->window) /
			                   heap->segment_bytes;

			if (segment < count && model_block_state(model, block) == MODEL_LIVE)
				used[segment] = 1;
		}
	}
}

/* What describes segments that nobody uses goes with them. */
static void parts_release(struct model *model, uint64_t part, const uint8_t *used)
{
	const struct model_region *region = model_region_at(model, part);

	for (size_t i = 0; i < region->block_count; i++)
		if (!used[i])
			model_block_become(model, region->first_block + i, MODEL_SLAB);
}

enum glibc_copied cede_slabs_complete(const struct cede_heap *heap, struct glibc_state *state)
{
	struct model *model = state->model;
	const struct model_region *records = heap->window ? model_region_at(model, heap->records) : NULL;
	const struct model_region *bits = heap->window ? model_region_at(model, heap->bits) : NULL;
	uint8_t *used;

	for (size_t i = 0; i < state->arena_count; i++) {
		const struct cede_counts *counts = &heap->counts[i];

		if (counts->found_units != counts->slab_units || counts->found_live != counts->slab_live)
			return glibc_state_broken(state, "the arena at %#" PRIx64 " has %" PRIu64 " bytes in %"
			                          PRIu64 " units of slabs, but %" PRIu64 " in %" PRIu64
			                          " were found", state->arenas[i].address, counts->slab_live,
			                          counts->slab_units, counts->found_live,
			                          counts->found_units);
	}
	if (!records || !bits || records->block_count != bits->block_count)
		return GLIBC_COPIED;
	used = calloc(records->block_count, 1);
	if (!used)
		return GLIBC_NO_MEMORY;
	segments_mark(heap, model, used, records->block_count);
	parts_release(model, heap->records, used);
	parts_release(model, heap->bits, used);
	free(used);
	return GLIBC_COPIED;
}
