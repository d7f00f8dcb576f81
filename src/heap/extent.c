#include "heap/extent.h"

bool extent_unsure;

struct extent extent_take(struct arena *a, struct chunk *c, size_t size)
{
	struct dirty_chunk *d = (struct dirty_chunk *)c;

	if (!extent_tracked(size))
		return (struct extent){ align_down((uintptr_t)c, os_page_size),
		                        align_up((uintptr_t)c + size, os_page_size) };
	a->gone_bytes -= d->gone;
	if (d->lo >= d->hi)
		return EXTENT_EMPTY;
	if (d->newer != NULL)
		d->newer->older = d->older;
	else
		a->dirty_newest = d->older;
	if (d->older != NULL)
		d->older->newer = d->newer;
	else
		a->dirty_oldest = d->newer;
	a->dirty_bytes -= d->hi - d->lo;
	return (struct extent){ d->lo, d->hi };
}

void extent_put(struct arena *a, struct chunk *c, size_t size, struct extent e)
{
	struct dirty_chunk *d = (struct dirty_chunk *)c;
	uintptr_t start, end;

	if (!extent_tracked(size))
		return;
	start = extent_inner_start(c);
	end = align_down((uintptr_t)c + size, os_page_size);
	d->lo = e.lo > start ? e.lo : start;
	d->hi = e.hi < end ? e.hi : end;
	if (d->lo >= d->hi)
		d->lo = d->hi = 0;
	d->gone = start < end ? end - start - (d->hi - d->lo) : 0;
	a->gone_bytes += d->gone;
	if (d->hi == 0)
		return;
	d->newer = NULL;
	d->older = a->dirty_newest;
	if (d->older != NULL)
		d->older->newer = d;
	else
		a->dirty_oldest = d;
	a->dirty_newest = d;
	a->dirty_bytes += d->hi - d->lo;
}

void extent_add_to_top(struct arena *a, struct extent e)
{
	struct extent top = extent_of_top(a);
	uintptr_t end = align_down((uintptr_t)a->top + chunk_size(a->top), os_page_size);
	/* Where a free chunk began, its longer header may reach a page further. */
	struct extent header = { align_up((uintptr_t)a->top + MIN_CHUNK, os_page_size),
	                         extent_inner_start(a->top) };

	if (header.lo < header.hi)
		e = extent_hull(e, header);
	if (top.lo < top.hi)
		e = extent_hull(e, top);
	a->top_dirty_lo = e.lo;
	a->top_dirty_hi = e.hi < end ? e.hi : end;
}
