/*
 * A page and the blocks on it.  Layer: doctor; a calculation on the model.
 */
#ifndef CEDE_DOCTOR_PAGE_H
#define CEDE_DOCTOR_PAGE_H

#include "model/model.h"

struct page {
	uint64_t begin, end;         /* cut to its region */
	enum model_page state;
	size_t first, last;          /* blocks */
	uint64_t bytes[MODEL_STATES];
	size_t live_blocks;
	uint64_t free_bytes;
};

/* Goes on to the region's next page; to its first one when the page is all zeros.
 * Returns false at the region's end. */
bool page_next(const struct model *model, const struct model_region *region,
               struct page *page);

/* Without a byte in use: it could go back. */
static inline bool page_is_free(const struct page *page)
{
	return page->free_bytes == page->end - page->begin;
}

/* Live blocks keep what is free on it from going back. */
static inline bool page_pins(const struct page *page)
{
	return page->state == MODEL_RESIDENT && page->free_bytes && page->live_blocks;
}

/* Of these free bytes the part of one of the live blocks, with so many before it. */
static inline uint64_t page_share(const struct page *page, size_t before)
{
	return page->free_bytes / page->live_blocks +
	       (before ? 0 : page->free_bytes % page->live_blocks);
}

#endif
