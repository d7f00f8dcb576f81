#include "doctor/trim.h"

#define HEADER_BYTES 48ul          /* of a free block, which stay */
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

void trim_predict(const struct model *model, struct trim *trim)
{
	*trim = (struct trim){ 0 };
	for (size_t i = 0; i < model->region_count; i++)
		if (model->regions[i].kind != MODEL_MAPPED)
			region_add(model, &model->regions[i], trim);
}
