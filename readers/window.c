#include "readers/window.h"

void window_open(struct window *window, const struct memory *memory, uint64_t begin,
                 uint64_t end, const uint8_t *pages)
{
	window->memory = memory;
	window->begin = begin;
	window->end = end;
	window->pages = pages;
	window->at = 0;
	window->length = 0;
	window->reach = 1;
}

static bool page_is_there(const struct window *window, uint64_t page)
{
	uint8_t state = window->pages[(page - window->begin) / MEMORY_PAGE];

	return state == MEMORY_RESIDENT || state == MEMORY_SWAPPED;
}

static void window_move(struct window *window, uint64_t address)
{
	uint64_t page = address & ~(MEMORY_PAGE - 1), last = page + MEMORY_PAGE;
	bool goes_on = page == window->at + window->length;

	window->reach = !goes_on ? 1 : window->reach < WINDOW_PAGES / 2 ? 2 * window->reach :
	                WINDOW_PAGES;
	while (last < window->end && last - page < window->reach * MEMORY_PAGE &&
	       page_is_there(window, last))
		last += MEMORY_PAGE;
	window->at = page;
	window->length = memory_read_some(window->memory, page, window->bytes, last - page);
}

const void *window_look(struct window *window, uint64_t address, size_t size)
{
	uint64_t page = address & ~(MEMORY_PAGE - 1);

	if (address < window->begin || address >= window->end || size > window->end - address)
		return NULL;
	if (address < window->at || address - window->at + size > window->length) {
		if (!page_is_there(window, page))
			return NULL;
		window_move(window, address);
	}
	return address - window->at + size <= window->length ?
	       window->bytes + (address - window->at) : NULL;
}
