#include "doctor/pins.h"

#include "doctor/page.h"

static struct pin *pin_of(const struct model *model, const struct model_region *region,
                          size_t block, struct groups *pins)
{
	uint64_t begin = model_block_address(model, block);
	uint64_t end = model_block_end(model, region, block);
	struct pin *pin = groups_get(pins, account_class_of(end - begin),
	                             model_block_kind(model, block));

	if (pin && !pin->sample) {
		pin->sample = model_memory_begin(model, region, block);
		pin->sample_end = model_memory_end(model, region, block);
	}
	return pin;
}

static void blocks_count(const struct model *model, const struct model_region *region,
                         struct groups *pins)
{
	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		struct pin *pin;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		pin = pin_of(model, region, block, pins);
		if (!pin)
			return;
		pin->blocks++;
		pin->last = model_memory_begin(model, region, block);
		pin->last_end = model_memory_end(model, region, block);
		pin->bytes += model_block_end(model, region, block) -
		              model_block_address(model, block);
	}
}

static void page_blame(const struct model *model, const struct model_region *region,
                       const struct page *page, struct groups *pins)
{
	size_t before = 0;

	for (size_t block = page->first; block <= page->last; block++) {
		struct pin *pin;
		uint64_t share;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		pin = pin_of(model, region, block, pins);
		if (!pin)
			return;
		share = page_share(page, before++);
		pin->pinned_bytes += share;
		if (share > pin->sample_pinned) {
			pin->sample_pinned = share;
			pin->sample = model_memory_begin(model, region, block);
			pin->sample_end = model_memory_end(model, region, block);
		}
	}
}

static int pin_compare(const void *a, const void *b)
{
	const struct pin *left = a, *right = b;

	if (left->pinned_bytes != right->pinned_bytes)
		return left->pinned_bytes > right->pinned_bytes ? -1 : 1;
	return groups_order(&left->key, left->bytes, &right->key, right->bytes);
}

bool pins_find(const struct model *model, struct groups *pins)
{
	*pins = groups_make(sizeof(struct pin));
	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];
		struct page page = { 0 };

		blocks_count(model, region, pins);
		while (page_next(model, region, &page))
			if (page_pins(&page))
				page_blame(model, region, &page, pins);
	}
	if (pins->failed) {
		groups_free(pins);
		return false;
	}
	groups_sort(pins, pin_compare);
	return true;
}
