/*
 * Reads ever further parts of a process's memory: small pieces where the reader
 * jumps, large ones where it goes on.  Layer: readers.
 *
 * A window owns its buffer.  It is told which pages are resident and reads no
 * others.
 */
#ifndef CEDE_READERS_WINDOW_H
#define CEDE_READERS_WINDOW_H

#include "readers/memory.h"

#define WINDOW_PAGES 64

struct window {
	const struct memory *memory;
	uint64_t begin, end;      /* what it may read */
	const uint8_t *pages;     /* enum memory_page, from the page of `begin` on */
	uint64_t at;              /* the bytes at hand */
	size_t length;
	size_t reach;             /* pages to read next */
	char bytes[WINDOW_PAGES * MEMORY_PAGE];
};

/* `begin` and `end` are multiples of MEMORY_PAGE; `pages` must live as long as the window. */
void window_open(struct window *window, const struct memory *memory, uint64_t begin,
                 uint64_t end, const uint8_t *pages);

/* `size` bytes at this address, good until the next call, or NULL when they cannot be
 * read.  They must not reach into a second page. */
const void *window_look(struct window *window, uint64_t address, size_t size);

#endif
