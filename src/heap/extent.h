/*
 * Which pages of a free chunk may be resident.  Layer: heap.  Default policy.
 *
 * A free chunk of at least a page carries an extent [lo, hi) of whole pages,
 * behind its links:
 *
 *   chunk | links | parent lo hi gone newer older |...| whole pages |...| foot
 *                                                       ^ inner range ^
 *
 * All its inner pages outside the extent were given back and not touched since;
 * those inside may be resident.  An interval keeps merging O(1): the hull of two
 * extents and of the pages at their boundary, which become inner by the merge.
 * It may cover pages that are gone; giving those back again costs a page walk
 * and no more.
 *
 * Free chunks below a page have no extent: all of them counts as resident.  The
 * top's extent is in the arena, because the top may be smaller than this header.
 *
 * I1: lo and hi are pages within the inner range, lo < hi, or both 0.
 * I2: a chunk is on the dirty list just when lo < hi.
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_EXTENT_H
#define CEDE_HEAP_EXTENT_H

#include "heap/arena.h"
#include "heap/tree.h"
#include "os/os.h"

struct dirty_chunk {
	struct tree_chunk tree;
	uintptr_t lo, hi;
	size_t gone;                 /* bytes of its inner pages outside these */
	struct dirty_chunk *newer, *older;
};

/* A range of addresses under way; empty when lo >= hi. */
struct extent {
	uintptr_t lo, hi;
};

#define EXTENT_EMPTY ((struct extent){ UINTPTR_MAX, 0 })

static inline bool extent_tracked(size_t size)
{
	return size >= os_page_size;
}

static inline struct extent extent_hull(struct extent a, struct extent b)
{
	return (struct extent){ a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi };
}

/* The whole pages that a free chunk's header and foot leave. */
static inline uintptr_t extent_inner_start(const struct chunk *c)
{
	return align_up((uintptr_t)c + sizeof(struct dirty_chunk), os_page_size);
}

/* What merging makes inner where the chunk `upper` began. */
static inline struct extent extent_boundary(const struct chunk *upper)
{
	return (struct extent){ align_down((uintptr_t)upper, os_page_size),
	                        extent_inner_start(upper) };
}

/* Bytes of [lo, hi) that are not in an extent. */
static inline size_t extent_outside(uintptr_t lo, uintptr_t hi, struct extent e)
{
	uintptr_t from = lo > e.lo ? lo : e.lo, to = hi < e.hi ? hi : e.hi;

	return lo >= hi ? 0 : hi - lo - (from < to ? to - from : 0);
}

/* The system refused to take pages: one outside of all extents may not read zero. */
extern bool extent_unsure HIDDEN; /* atomic */

/* A free chunk's extent when it leaves its bin; takes it off the dirty list. */
struct extent extent_take(struct arena *a, struct chunk *c, size_t size);

/* Gives a free chunk its extent: the part of `e` within its inner pages. */
void extent_put(struct arena *a, struct chunk *c, size_t size, struct extent e);

/* The part of the top that may be resident; empty when lo >= hi. */
static inline struct extent extent_of_top(const struct arena *a)
{
	uintptr_t lo = align_up((uintptr_t)a->top + MIN_CHUNK, os_page_size);

	if (lo < a->top_dirty_lo)
		lo = a->top_dirty_lo;
	return (struct extent){ lo, a->top_dirty_hi };
}

/*
 * What is before `end` of a free chunk is handed out: its inner pages outside the extent
 * had gone back.
 */
static inline void extent_hand_out(struct arena *a, const struct chunk *c, size_t have,
                                   uintptr_t end, struct extent e)
{
	uintptr_t last = align_down((uintptr_t)c + have, os_page_size);
	uintptr_t rest = extent_inner_start((const struct chunk *)end);

	if (extent_tracked(have) && ((const struct dirty_chunk *)c)->gone != 0)
		a->refaulted_bytes += extent_outside(extent_inner_start(c), rest < last ? rest : last, e);
}

/* The same of the top, but pages may be new as well. */
static inline void extent_hand_out_top(struct arena *a, uintptr_t end)
{
	uintptr_t lo = align_up((uintptr_t)a->top + MIN_CHUNK, os_page_size);
	uintptr_t hi = align_up(end + MIN_CHUNK, os_page_size);

	a->refaulted_bytes += extent_outside(lo, hi < a->top_reached ? hi : a->top_reached,
	                                     extent_of_top(a));
	if (a->top_reached < hi)
		a->top_reached = hi;
}

/* Pages of an arena that are free and may be resident, in bytes. */
static inline size_t extent_dirty_bytes(const struct arena *a)
{
	struct extent top = extent_of_top(a);

	return a->dirty_bytes + (top.lo < top.hi ? top.hi - top.lo : 0);
}

/* The top ends lower: the pages behind it are the system's. */
static inline void extent_cut_top(struct arena *a, uintptr_t end)
{
	if (a->top_dirty_hi > end)
		a->top_dirty_hi = end;
	if (a->top_reached > end)
		a->top_reached = end;
}

/* The top now begins lower or was replaced: its extent grows by `e`. */
void extent_add_to_top(struct arena *a, struct extent e);

#endif
