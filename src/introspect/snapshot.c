#include "introspect/snapshot.h"

#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/spare.h"
#include "heap/subheap.h"

bool snapshot_is_default(void)
{
	return policy_is_default();
}

size_t snapshot_arena_count(void)
{
	return arena_count();
}

static void add(struct bin_sizes *s, size_t size)
{
	if (s->count == 0 || size < s->from)
		s->from = size;
	s->to = size_max(s->to, size);
	s->total += size;
	s->count++;
}

static void add_list(struct bin_sizes *s, const struct chunk *head)
{
	for (const struct chunk *c = head->bk; c != head; c = c->bk)
		add(s, chunk_size(c));
}

static void add_tree(struct bin_sizes *s, const struct chunk *node)
{
	const struct chunk *c = node;

	if (node == NULL)
		return;
	do {
		add(s, chunk_size(c));
		c = c->fd;
	} while (c != node);
	add_tree(s, node->fd_nextsize);
	add_tree(s, node->bk_nextsize);
}

static void count_heaps(const struct arena *a, struct arena_snapshot *out)
{
	if (arena_is_main(a)) {
		out->address_space = out->address_space_writable = a->system_bytes;
		return;
	}
	for (const struct heap_info *h = subheap_of(a->top); h != NULL; h = h->prev) {
		out->heaps++;
		out->address_space += h->size;
		out->address_space_writable += h->accessible;
	}
}

/* ---- slabs ---- */

_Static_assert(SNAPSHOT_CLASSES == SLAB_CLASSES, "one entry a class");

static void add_slab(const struct slab *s, struct arena_snapshot *out)
{
	size_t free = (size_t)s->free + s->claimed;

	out->classes[s->class].free += free;
	out->slabs.free_blocks += free;
	if (s->bits != s->few)
		out->slabs.record_bytes += sizeof(*window.bits);
}

/* How many of the touched pages of a slab's unit hold no live byte. */
static size_t free_pages(const struct slab *s, size_t unit, uint16_t touched)
{
	size_t count = 0;

	for (uint32_t left = touched; left != 0; left &= left - 1) {
		size_t page = (size_t)__builtin_ctz(left);
		uint32_t from, to;

		slab_blocks_on(s, window_address(unit) + page * os_page_size, os_page_size, &from, &to);
		count += slab_range_is(s, from, to, true);
	}
	return count;
}

static void add_unit(size_t unit, struct arena_snapshot *out)
{
	uint16_t touched = segment_of_unit(unit)->touched[unit % SEGMENT_UNITS];
	const struct slab *s = slab_at(window_address(unit));
	size_t pages = 0;

	if (window.bins[unit] == 0) {
		out->slabs.free_units += touched != 0;
		pages = (size_t)__builtin_popcount(touched);
	} else {
		if (window.slabs[unit].back == 0)
			add_slab(s, out);
		pages = free_pages(s, unit, touched);
	}
	out->slabs.free_resident_bytes += pages * os_page_size;
}

static void add_segments(const struct arena *a, struct arena_snapshot *out)
{
	for (unsigned n = 0; n <= SEGMENT_UNITS; n++)
		for (const struct segment *s = a->segments.by_free[n]; s != NULL; s = s->next)
			for (size_t i = 0; i < SEGMENT_UNITS; i++)
				add_unit((size_t)(s - window.segments) * SEGMENT_UNITS + i, out);
}

static void fill_slabs(struct arena *a, struct arena_snapshot *out)
{
	struct slab_sums *sums = &out->slabs;

	for (unsigned c = 0; c < SLAB_CLASSES; c++) {
		out->classes[c].from = c == 0 ? 1 : class_sizes[c - 1] + 1;
		out->classes[c].to = class_sizes[c];
	}
	add_segments(a, out);
	sums->segments = a->segments.count;
	sums->units = a->slabs.units;
	sums->system_bytes = (sums->units + sums->free_units) * UNIT;
	sums->live_bytes = a->slabs.live_bytes;
	sums->resident_bytes = a->segments.touched * os_page_size;
	out->pinned_bytes += sums->resident_bytes - sums->free_resident_bytes - sums->live_bytes;
	sums->record_bytes += sums->segments * (sizeof(*window.segments) +
	                      SEGMENT_UNITS * (sizeof(*window.slabs) + sizeof(*window.bins)));

	out->free_bytes += sums->system_bytes - sums->live_bytes;
	out->free_chunks += sums->free_blocks + sums->free_units;
	out->system_bytes += sums->system_bytes;
	a->slabs.most_units = size_max(a->slabs.most_units, sums->units + sums->free_units);
	out->max_system_bytes += a->slabs.most_units * UNIT;
	out->dirty_bytes += sums->free_resident_bytes;
	out->address_space += sums->segments * SEGMENT;
	out->address_space_writable += sums->segments * SEGMENT;
}

/* What the top has before its first whole page, and behind its last. */
static size_t outside_of_top(const struct arena *a)
{
	uintptr_t start = align_up((uintptr_t)a->top + MIN_CHUNK, os_page_size);
	uintptr_t end = align_down((uintptr_t)a->top + chunk_size(a->top), os_page_size);

	return chunk_size(a->top) - (start < end ? end - start : 0);
}

static void fill(struct arena *a, struct arena_snapshot *out)
{
	/* What the purger has taken aside is free, and of the top when it is its. */
	out->top_bytes = chunk_size(a->top) + a->top_claimed;
	out->free_bytes = out->top_bytes + a->claimed_bytes;
	out->free_chunks = 1;
	for (unsigned i = 0; i < FAST_BINS; i++) {
		for (const struct chunk *c = a->fastbins[i]; c != NULL; c = c->fd)
			add(&out->fast[i], chunk_size(c));
		out->fast_bytes += out->fast[i].total;
		out->fast_chunks += out->fast[i].count;
	}
	for (unsigned bin = UNSORTED; bin < BINS - 1; bin++) {
		add_list(&out->bins[bin], bin_head(a, bin));
		if (bin >= SMALL_BINS)
			add_tree(&out->bins[bin], a->trees[bin - SMALL_BINS]);
		out->free_bytes += out->bins[bin].total;
		out->free_chunks += out->bins[bin].count;
	}
	out->system_bytes = a->system_bytes;
	out->max_system_bytes = a->max_system_bytes;
	out->dirty_bytes = extent_dirty_bytes(a);
	out->refaulted_bytes = a->refaulted_bytes;
	out->lock_waits = a->lock.waits;
	out->lock_sleeps = a->lock.sleeps;
	out->is_main = arena_is_main(a);
	count_heaps(a, out);
	/* Classic knows of no page whether it is free. */
	if (policy_is_default())
		out->pinned_bytes = a->binned_bytes - a->dirty_bytes - a->gone_bytes + outside_of_top(a);
	fill_slabs(a, out);
}

bool snapshot_arena(size_t index, struct arena_snapshot *out)
{
	struct arena *a = &main_arena;

	while (a != NULL && index-- != 0)
		a = arena_following(a);
	if (a == NULL)
		return false;
	__builtin_memset(out, 0, sizeof(*out));
	lock_acquire(&a->lock);
	fill(a, out);
	lock_release(&a->lock);
	return true;
}

void snapshot_mapped(struct mapped_snapshot *out)
{
	out->blocks = __atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED);
	out->bytes = __atomic_load_n(&mapped.bytes, __ATOMIC_RELAXED);
	out->max_blocks = __atomic_load_n(&mapped.max_blocks, __ATOMIC_RELAXED);
	out->max_bytes = __atomic_load_n(&mapped.max_bytes, __ATOMIC_RELAXED);
	out->spares = spare_count();
	out->spare_bytes = spare_bytes();
	out->refaulted_bytes = __atomic_load_n(&spare_counts.refaulted_bytes, __ATOMIC_RELAXED);
}
