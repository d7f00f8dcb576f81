#include "heap/slab_claim.h"

/* Bounds the time under the lock when there is little to take. */
#define SEGMENTS_A_CLAIM 8

#define UNIT_PAGES (UNIT / os_page_size)

/* An age: without a second look. */
#define AT_ONCE 0

/* `count` pages of a unit from the page `first` on, a bit each. */
static uint16_t page_bits(size_t first, size_t count)
{
	return (uint16_t)((((uint32_t)1 << count) - 1) << first);
}

static struct slab *slab_of_unit(size_t unit)
{
	struct slab *s = &window.slabs[unit];

	return window.bins[unit] != 0 ? s - s->back : NULL;
}

/* Which of these pages of a unit hold no live byte. */
static uint16_t free_pages(size_t unit, uint16_t among)
{
	const struct slab *s = slab_of_unit(unit);
	uint16_t found = 0;
	uint32_t from, to;

	if (s == NULL)
		return segment_of_unit(unit)->free >> unit % SEGMENT_UNITS & 1 ? among : 0;
	for (uint32_t left = among; left != 0; left &= left - 1) {
		unsigned page = (unsigned)__builtin_ctz(left);

		slab_blocks_on(s, window_address(unit) + page * os_page_size, os_page_size, &from, &to);
		if (slab_range_is(s, from, to, true))
			found |= (uint16_t)(1u << page);
	}
	return found;
}

/* Takes a run of pages aside; false: a block on it was taken with another run. */
static bool hide(struct arena *a, struct slab *s, const struct os_range *range)
{
	uint32_t from, to;

	slab_blocks_on(s, range->start, range->size, &from, &to);
	if (!slab_range_is(s, from, to, true))
		return false;
	slab_hide(a, s, from, to);
	return true;
}

/* Runs of free units are one range. */
static void add_range(struct claim *claim, struct os_range range)
{
	struct os_range *last = claim->count != 0 ? &claim->ranges[claim->count - 1] : NULL;

	if (last != NULL && (char *)last->start + last->size == range.start &&
	    slab_of_unit(window_unit(range.start)) == NULL &&
	    slab_of_unit(window_unit(last->start)) == NULL)
		last->size += range.size;
	else
		claim->ranges[claim->count++] = range;
}

static bool has_page(const uint16_t *sets, size_t page)
{
	return sets[page / UNIT_PAGES] >> page % UNIT_PAGES & 1;
}

/*
 * Claims the runs among the pages of a slab or of a free unit, which may cross from
 * one unit to the next, as blocks do; what was claimed is no longer touched.
 */
static size_t claim_runs(struct claim *claim, struct arena *a, size_t unit, unsigned units,
                         const uint16_t *pages)
{
	struct slab *s = slab_of_unit(unit);
	size_t taken = 0, end = units * UNIT_PAGES;

	for (size_t first = 0, next; first < end; first = next) {
		struct os_range range;

		for (next = first; next < end && has_page(pages, next); next++)
			;
		if (next == first) {
			next++;
			continue;
		}
		range = (struct os_range){ window_address(unit) + first * os_page_size,
		                           (next - first) * os_page_size };
		if (s != NULL && !hide(a, s, &range))
			continue;
		add_range(claim, range);
		segment_unmark(a, unit, first, next);
		taken += range.size;
	}
	if (taken != 0 && s == NULL)
		segment_hide_unit(a, unit);
	return taken;
}

/* Which of the free pages that were found in a unit have been free for `age` ticks. */
static uint16_t old_pages(const struct arena *a, size_t unit, uint16_t found, unsigned age)
{
	const struct segment *s = segment_of_unit(unit);
	unsigned at = unit % SEGMENT_UNITS;

	if (age == AT_ONCE)
		return found;
	if (slab_of_unit(unit) != NULL)
		return found & s->idle[at];
	return (uint8_t)(a->ticks - s->freed_at[at]) >= age ? found : 0;
}

/*
 * Looks at the units of one slab, or at one free unit; returns the bytes claimed.
 * All pages are looked at before the first is claimed: a block may lie on two units.
 */
static size_t look(struct claim *claim, struct arena *a, size_t unit, unsigned units,
                   unsigned age)
{
	struct segment *s = segment_of_unit(unit);
	uint16_t found[SLAB_UNITS_MOST], old[SLAB_UNITS_MOST];
	size_t taken;

	for (unsigned i = 0; i < units; i++) {
		found[i] = free_pages(unit + i, s->touched[(unit + i) % SEGMENT_UNITS]);
		old[i] = old_pages(a, unit + i, found[i], age);
	}
	taken = claim_runs(claim, a, unit, units, old);
	for (unsigned i = 0; i < units; i++) {
		unsigned at = (unit + i) % SEGMENT_UNITS;

		s->idle[at] = found[i] & s->touched[at];
		if (s->idle[at] != 0)
			segment_queue(a, unit + i, 1);
	}
	return taken;
}

/* Looks at the pending units until it has `most` bytes; what is left waits again. */
static size_t look_at_segment(struct claim *claim, struct arena *a, struct segment *s,
                              unsigned age, size_t most)
{
	size_t base = (size_t)(s - window.segments) * SEGMENT_UNITS, taken = 0;
	uint32_t left = segment_unpend(a, s);

	while (left != 0 && taken < most) {
		size_t unit = base + (size_t)__builtin_ctz(left);
		const struct slab *slab = slab_of_unit(unit);
		unsigned units = slab != NULL ? slab->units : 1;

		if (slab != NULL)
			unit -= window.slabs[unit].back;
		left &= ~segment_bits(unit, units);
		taken += look(claim, a, unit, units, age);
	}
	for (; left != 0; left &= left - 1)
		segment_queue(a, base + (size_t)__builtin_ctz(left), 1);
	return taken;
}

bool slab_claim_take(struct claim *claim, struct arena *a, uint32_t tick, bool at_once,
                     size_t most)
{
	size_t taken = 0;
	unsigned looked = 0, age;

	claim->arena = a;
	lock_acquire(&a->lock);
	/* One look at the least delay, two at any longer one. */
	age = at_once ? AT_ONCE : 2 * (a->ticks - tick) - SLAB_TICKS;
	claim->of_slabs = true;
	claim->count = claim->chunks_count = 0;
	/* A segment has at most half as many ranges as fit.  What is left of one would wait as
	 * long again. */
	while (looked < SEGMENTS_A_CLAIM &&
	       (taken == 0 || taken + SEGMENT <= size_min(most, CLAIM_BYTES)) &&
	       claim->count <= OS_DISCARD_RANGES / 2) {
		struct segment *s = segment_unqueue(a, tick);

		if (s == NULL)
			break;
		looked++;
		taken += look_at_segment(claim, a, s, age, most - taken);
		(void)segment_retire(a, s);
	}
	if (a->segments.queue == NULL)
		a->slabs.freed = 0;
	lock_release(&a->lock);
	return looked != 0;
}

void slab_claim_split(const struct claim *claim, uint64_t *calls)
{
	for (unsigned i = 0, next; i < claim->count; i = next) {
		struct segment *s = segment_of_unit(window_unit(claim->ranges[i].start));

		/* The ranges of one segment; one that is whole needs nothing. */
		for (next = i + 1; next < claim->count; next++)
			if (segment_of_unit(window_unit(claim->ranges[next].start)) != s)
				break;
		if (claim->ranges[i].size < SEGMENT && segment_split(s))
			os_split_huge(&claim->ranges[i], next - i, calls);
	}
}

/*
 * The pages of a range went, or are resident after all.  Some may be touched either way:
 * blocks on both sides of them were taken meanwhile.
 */
static void settle(struct arena *a, const struct os_range *range, bool clean)
{
	size_t first = (uintptr_t)range->start % UNIT / os_page_size;
	size_t end = first + range->size / os_page_size, unit = window_unit(range->start);

	for (size_t page = first; page < end;) {
		size_t in = page % UNIT_PAGES, count = size_min(end - page, UNIT_PAGES - in);
		size_t at = unit + page / UNIT_PAGES, number = at % SEGMENT_UNITS;
		struct segment *s = segment_of_unit(at);
		uint16_t pages = page_bits(in, count);

		page += count;
		if (clean)
			s->gone[number] |= (uint16_t)(pages & ~s->touched[number]);
		else
			segment_mark(a, at, pages);
		if (s->touched[number] & pages)
			segment_queue(a, at, 1);
	}
}

static void put_back(struct arena *a, const struct os_range *range, bool clean)
{
	size_t unit = window_unit(range->start);
	size_t last = window_unit((char *)range->start + range->size - 1);
	struct slab *slab = slab_of_unit(unit);
	uint32_t from, to;

	settle(a, range, clean);
	if (slab != NULL) {
		slab_blocks_on(slab, range->start, range->size, &from, &to);
		slab_show(a, slab, from, to);
		return;
	}
	for (; unit <= last; unit++)
		segment_show_unit(a, unit);
}

/* Gives segments back to the window that have nothing left in memory. */
static void retire(struct arena *a, const struct os_range *range, struct segment **last)
{
	struct segment *s = segment_of_unit(window_unit(range->start));
	const char *end = (const char *)range->start + range->size;

	for (; s <= segment_of_unit(window_unit(end - 1)); s++) {
		if (s != *last)
			(void)segment_retire(a, s);
		*last = s;
	}
}

void slab_claim_return(struct claim *claim, bool clean)
{
	struct segment *last = NULL;

	for (unsigned i = 0; i < claim->count; i++)
		put_back(claim->arena, &claim->ranges[i], clean);
	for (unsigned i = 0; i < claim->count; i++)
		retire(claim->arena, &claim->ranges[i], &last);
}
