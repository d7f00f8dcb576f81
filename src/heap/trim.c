/*
 * malloc_trim of classic: consolidate, give back the whole pages inside free
 * chunks, under the arena's lock as ptmalloc does, then the end of the top.
 */
#include "heap/bins.h"
#include "heap/subheap.h"
#include "os/os.h"

/* The whole pages that a free chunk's links and foot leave. */
static size_t discard_inside(struct chunk *c)
{
	uintptr_t start = align_up((uintptr_t)c + sizeof(struct chunk), os_page_size);
	uintptr_t end = align_down((uintptr_t)c + chunk_size(c), os_page_size);
	struct os_range range = { (void *)start, end - start };
	uint64_t calls = 0;
	size_t resident = start < end ? os_resident(range.start, range.size) : 0;

	/* What is gone already is not asked for again, nor counted. */
	return resident == 0 || os_discard(&range, 1, &calls) == 0 ? 0 : resident;
}

static size_t discard_bin(struct arena *a, unsigned bin)
{
	struct chunk *head = bin_head(a, bin);
	size_t gone = 0;

	for (struct chunk *c = head->bk; c != head; c = c->bk)
		gone += discard_inside(c);
	return gone;
}

size_t trim_arena(struct arena *a, size_t pad)
{
	size_t gone;

	free_consolidate(a);
	gone = discard_bin(a, UNSORTED);
	for (unsigned bin = bin_of_size(os_page_size); bin < BINS - 1; bin++)
		gone += discard_bin(a, bin);
	if (arena_is_main(a))
		gone += grow_trim_main(a, pad);
	return gone;
}
