#include "model/model.h"

#include <stdlib.h>
#include <string.h>

const char *model_state_name(enum model_state state)
{
	static const char *const names[MODEL_STATES] = {
		[MODEL_LIVE] = "live", [MODEL_CACHED] = "cached", [MODEL_FAST] = "fast",
		[MODEL_BIN] = "bin", [MODEL_TOP] = "top", [MODEL_INTERNAL] = "internal",
		[MODEL_FOREIGN] = "foreign", [MODEL_SLAB] = "slab",
	};

	return names[state];
}

const char *model_giving_name(enum model_giving giving)
{
	static const char *const names[] = {
		[MODEL_GIVES_END] = "end", [MODEL_GIVES_SOON] = "soon",
		[MODEL_GIVES_MORE] = "more", [MODEL_GIVES_ON_CALL] = "on call",
	};

	return names[giving];
}

void model_free(struct model *model)
{
	free(model->regions);
	free(model->arenas);
	free(model->caches);
	free(model->mappings);
	free(model->blocks);
	free(model->pages);
	free(model->page_blocks);
	kinds_free(&model->kinds);
	*model = (struct model){ 0 };
}

/* --- adding --- */

/* An array has room for a power of two of items, so its count tells its room. */
static size_t array_room(size_t count)
{
	return count <= 64 ? 64 : (size_t)1 << (64 - __builtin_clzl(count - 1));
}

static bool array_extend(struct model *model, void *array, size_t count, size_t more,
                         size_t item_bytes)
{
	void *larger;

	if (model->failed)
		return false;
	if (count && count + more <= array_room(count))
		return true;
	larger = realloc(*(void **)array, array_room(count + more) * item_bytes);
	model->failed = !larger;
	if (larger)
		*(void **)array = larger;
	return larger;
}

static size_t item_add(struct model *model, void *array, size_t *count, const void *item,
                       size_t item_bytes)
{
	if (!array_extend(model, array, *count, 1, item_bytes))
		return 0;
	memcpy(*(char **)array + *count * item_bytes, item, item_bytes);
	return (*count)++;
}

size_t model_add_arena(struct model *model, const struct model_arena *arena)
{
	return item_add(model, &model->arenas, &model->arena_count, arena, sizeof(*arena));
}

size_t model_add_cache(struct model *model, const struct model_cache *cache)
{
	return item_add(model, &model->caches, &model->cache_count, cache, sizeof(*cache));
}

size_t model_add_mapping(struct model *model, const struct model_mapping *mapping)
{
	return item_add(model, &model->mappings, &model->mapping_count, mapping,
	                sizeof(*mapping));
}

size_t model_begin_region(struct model *model, enum model_region_kind kind, uint32_t arena,
                          uint64_t begin)
{
	const struct model_region region = {
		.begin = begin, .end = begin, .kind = kind, .arena = arena,
		.first_block = model->block_count, .first_page = model->page_count,
	};

	return item_add(model, &model->regions, &model->region_count, &region, sizeof(region));
}

void model_add_block(struct model *model, uint64_t address, enum model_state state)
{
	uint64_t block = address | state;

	item_add(model, &model->blocks, &model->block_count, &block, sizeof(block));
}

uint8_t *model_end_region(struct model *model, uint64_t end)
{
	struct model_region *region;
	uint8_t *pages;
	size_t count;

	if (model->failed)
		return NULL;
	region = &model->regions[model->region_count - 1];
	region->end = end;
	region->block_count = model->block_count - region->first_block;
	count = model_region_pages(region);
	if (!array_extend(model, &model->pages, model->page_count, count, 1))
		return NULL;
	pages = model->pages + model->page_count;
	memset(pages, MODEL_ABSENT, count);
	model->page_count += count;
	return pages;
}

/* --- finishing and finding --- */

static int region_compare(const void *a, const void *b)
{
	const struct model_region *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static int mapping_compare(const void *a, const void *b)
{
	const struct model_mapping *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static void region_index(struct model *model, const struct model_region *region)
{
	size_t block = region->first_block, end = block + region->block_count;
	size_t count = model_region_pages(region);
	uint64_t page = region->begin & ~(MODEL_PAGE - 1);

	for (size_t i = 0; i < count; i++, page += MODEL_PAGE) {
		while (block < end && model_block_address(model, block) < page)
			block++;
		model->page_blocks[region->first_page + i] = block;
	}
}

bool model_finish(struct model *model)
{
	if (model->failed)
		return false;
	model->page_blocks = malloc((model->page_count + 1) * sizeof(*model->page_blocks));
	model->failed = !model->page_blocks;
	if (model->failed)
		return false;
	if (model->region_count)
		qsort(model->regions, model->region_count, sizeof(*model->regions), region_compare);
	if (model->mapping_count)
		qsort(model->mappings, model->mapping_count, sizeof(*model->mappings),
		      mapping_compare);
	for (size_t i = 0; i < model->region_count; i++)
		region_index(model, &model->regions[i]);
	return true;
}

const struct model_region *model_region_at(const struct model *model, uint64_t address)
{
	size_t low = 0, high = model->region_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (model->regions[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < model->region_count && model->regions[low].begin <= address ?
	       &model->regions[low] : NULL;
}

size_t model_find(const struct model *model, uint64_t address)
{
	const struct model_region *region = model_region_at(model, address);
	size_t page, low, high;

	if (!region)
		return MODEL_NONE;
	page = address / MODEL_PAGE - region->begin / MODEL_PAGE;
	/* The first block beyond the address is from `low` to `high`. */
	low = model->page_blocks[region->first_page + page];
	high = page + 1 < model_region_pages(region) ?
	       model->page_blocks[region->first_page + page + 1] :
	       region->first_block + region->block_count;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (model_block_address(model, middle) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

/* --- checking and counting --- */

struct count {
	size_t blocks[MODEL_STATES];
	uint64_t bytes[MODEL_STATES];
};

/* Returns whether the region's blocks are in order. */
static bool region_count(const struct model *model, const struct model_region *region,
                         struct count *count)
{
	bool ordered = true;

	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		uint64_t address = model_block_address(model, block);
		uint64_t end = model_block_end(model, region, block);
		enum model_state state = model_block_state(model, block);

		ordered = ordered && address < end && state < MODEL_STATES;
		count->blocks[state]++;
		count->bytes[state] += end - address;
	}
	return ordered;
}

static int arena_check(const struct model *model, uint32_t index)
{
	const struct model_arena *arena = &model->arenas[index];
	struct count count = { 0 };

	for (size_t i = 0; i < model->region_count; i++)
		if (model_region_is_arena(&model->regions[i]) && model->regions[i].arena == index &&
		    !region_count(model, &model->regions[i], &count))
			return 2;
	return count.blocks[MODEL_FAST] == arena->fast_blocks &&
	       count.bytes[MODEL_FAST] == arena->fast_bytes &&
	       count.blocks[MODEL_BIN] == arena->bin_blocks &&
	       count.bytes[MODEL_BIN] == arena->bin_bytes &&
	       count.bytes[MODEL_TOP] == arena->top_bytes &&
	       count.bytes[MODEL_SLAB] == arena->slab_bytes ? 0 : 6;
}

int model_check(const struct model *model)
{
	uint64_t end = 0;
	size_t pages = 0;

	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];

		if (region->begin < end || region->begin >= region->end)
			return 1;
		if (!region->block_count ||
		    model_block_address(model, region->first_block) != region->begin)
			return 2;
		if (region->begin % MODEL_GRAIN || region->end % MODEL_GRAIN)
			return 3;
		if (model_region_is_arena(region) && region->arena >= model->arena_count)
			return 5;
		end = region->end;
		pages += model_region_pages(region);
	}
	if (pages != model->page_count)
		return 4;
	for (uint32_t i = 0; i < model->arena_count; i++) {
		int broken = arena_check(model, i);

		if (broken)
			return broken;
	}
	return 0;
}

void model_totals(const struct model *model, struct model_totals *totals)
{
	*totals = (struct model_totals){
		.hblks = model->settings.mapped_blocks, .hblkhd = model->settings.mapped_bytes,
		.arena = model->settings.spare_bytes, .ordblks = model->settings.spare_blocks,
		.fordblks = model->settings.spare_bytes,
	};
	for (size_t i = 0; i < model->arena_count; i++) {
		const struct model_arena *arena = &model->arenas[i];
		uint64_t free = arena->fast_bytes + arena->bin_bytes + arena->top_bytes +
		                arena->slab_bytes;

		totals->arena += arena->system_bytes;
		/* glibc counts the top of an arena that has none yet, too. */
		totals->ordblks += arena->bin_blocks + arena->slab_blocks + 1;
		totals->smblks += arena->fast_blocks;
		totals->fsmblks += arena->fast_bytes;
		totals->fordblks += free;
		totals->uordblks += arena->system_bytes - free;
	}
	if (model->arena_count)
		totals->keepcost = model->arenas[0].top_bytes;
}
