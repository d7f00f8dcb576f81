#include "doctor/trim.h"

#include "doctor/page.h"

#define HEADER_BYTES 48ul          /* of a free block, which stay */
#define LONG_HEADER_BYTES 96ul     /* where whole pages go: it tells of them */
#define TOP_LEAST 32ul

static uint64_t page_floor(uint64_t address)
{
	return address & ~(MODEL_PAGE - 1);
}

static uint64_t page_ceiling(uint64_t address)
{
	return page_floor(address + MODEL_PAGE - 1);
}

uint64_t trim_resident(const struct model *model, const struct model_region *region,
                       uint64_t begin, uint64_t end)
{
	uint64_t bytes = 0;

	for (uint64_t page = page_ceiling(begin); page + MODEL_PAGE <= end; page += MODEL_PAGE)
		if (model_page_at(model, region, page) == MODEL_RESIDENT)
			bytes += MODEL_PAGE;
	return bytes;
}

static void top_add(const struct model *model, const struct model_region *region,
                    uint64_t begin, uint64_t top, struct trim *trim)
{
	const struct model_arena *arena = &model->arenas[region->arena];
	uint64_t unit = model->settings.trim_unit, area = region->end - begin - TOP_LEAST - 1;
	uint64_t from, resident;

	if (!arena->top_shrinks || region->end - begin <= TOP_LEAST || !unit || area < unit)
		return;
	from = region->end - area / unit * unit;
	resident = trim_resident(model, region, from, region->end);
	trim->bytes += resident;
	trim->top_bytes += resident;
	if (from < top)
		trim->merged_top_bytes += trim_resident(model, region, from, top);
}

static void region_add(const struct model *model, const struct model_region *region,
                       struct trim *trim)
{
	size_t end = region->first_block + region->block_count;

	for (size_t block = region->first_block; block < end;) {
		uint64_t begin = model_block_address(model, block), stop;

		if (!model_state_merges(model_block_state(model, block))) {
			if (model_block_state(model, block) == MODEL_TOP)
				top_add(model, region, begin, begin, trim);
			block++;
			continue;
		}
		while (block < end && model_state_merges(model_block_state(model, block)))
			block++;
		stop = block < end ? model_block_address(model, block) : region->end;
		if (block < end && model_block_state(model, block) == MODEL_TOP) {
			top_add(model, region, begin, stop, trim);
			block++;
			continue;
		}
		trim->bytes += trim_resident(model, region, begin + HEADER_BYTES, stop);
	}
}

/* --- an allocator that gives whole pages back --- */

/* Free blocks side by side become one, with its header, or become the top. */
static void runs_add(const struct model *model, const struct model_region *region,
                     struct trim *trim)
{
	size_t end = region->first_block + region->block_count;

	for (size_t block = region->first_block; block < end; block++) {
		uint64_t begin = model_block_address(model, block), stop = begin, bytes;
		enum model_state state = MODEL_LIVE;

		for (; block < end && model_state_is_free(model_block_state(model, block)); block++) {
			state = model_block_state(model, block);
			stop = model_block_end(model, region, block);
		}
		bytes = trim_resident(model, region, begin + (state == MODEL_TOP ? TOP_LEAST :
		                                              LONG_HEADER_BYTES), stop);
		trim->bytes += bytes;
		trim->top_bytes += state == MODEL_TOP ? bytes : 0;
	}
}

static void pages_add(const struct model *model, const struct model_region *region,
                      struct trim *trim)
{
	struct page page = { 0 };

	while (page_next(model, region, &page))
		if (page.state == MODEL_RESIDENT && page_is_free(&page))
			trim->bytes += page.end - page.begin;
}

static void whole_pages_predict(const struct model *model, struct trim *trim)
{
	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];

		if (region->kind == MODEL_BREAK || region->kind == MODEL_HEAP)
			runs_add(model, region, trim);
		else
			pages_add(model, region, trim);
	}
}

void trim_predict(const struct model *model, struct trim *trim)
{
	*trim = (struct trim){ 0 };
	if (model->settings.giving != MODEL_GIVES_END) {
		whole_pages_predict(model, trim);
		return;
	}
	for (size_t i = 0; i < model->region_count; i++)
		if (model->regions[i].kind != MODEL_MAPPED)
			region_add(model, &model->regions[i], trim);
}
