#include "doctor/page.h"

static void page_fill(const struct model *model, const struct model_region *region,
                      struct page *page)
{
	size_t end = region->first_block + region->block_count;

	for (page->last = page->first; page->last < end; page->last++) {
		uint64_t begin = model_block_address(model, page->last);
		uint64_t stop = model_block_end(model, region, page->last);
		enum model_state state = model_block_state(model, page->last);
		uint64_t bytes = (stop < page->end ? stop : page->end) -
		                 (begin > page->begin ? begin : page->begin);

		page->bytes[state] += bytes;
		page->live_blocks += state == MODEL_LIVE;
		page->free_bytes += model_state_is_free(state) ? bytes : 0;
		if (stop >= page->end)
			break;
	}
}

bool page_next(const struct model *model, const struct model_region *region, struct page *page)
{
	struct page next = { .begin = page->end, .first = page->last };

	if (!page->end) {
		next.begin = region->begin;
		next.first = region->first_block;
	} else if (page->end >= region->end) {
		return false;
	} else if (model_block_end(model, region, page->last) == page->end) {
		next.first++;
	}
	next.end = (next.begin / MODEL_PAGE + 1) * MODEL_PAGE;
	if (next.end > region->end)
		next.end = region->end;
	next.state = model_page_at(model, region, next.begin);
	page_fill(model, region, &next);
	*page = next;
	return true;
}
