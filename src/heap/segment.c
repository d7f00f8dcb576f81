#include "heap/segment.h"

#include "heap/arena.h"
#include "heap/heap.h"
#include "os/os.h"

/* Segments that are looked at for several units side by side, of each list; and, once
 * fresh units were found, for some whose pages were in use. */
#define TRIES 4
#define LOOKS 8

/* An arena with so many segments asks for huge pages for the next, until one takes longer. */
#define HUGE_FROM 8
#define HUGE_NS 500000
/* Each split may make two mappings more, of which a process may have few. */
#define SPLITS_MOST 8192

static uint32_t splits; /* atomic */

static void unlist(struct segments *all, struct segment *s)
{
	unsigned n = s->free_units;

	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		all->by_free[n] = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	if (all->by_free[n] == NULL)
		all->nonempty &= ~((uint64_t)1 << n);
}

static void list(struct segments *all, struct segment *s)
{
	unsigned n = s->free_units;

	s->prev = NULL;
	s->next = all->by_free[n];
	if (s->next != NULL)
		s->next->prev = s;
	all->by_free[n] = s;
	all->nonempty |= (uint64_t)1 << n;
}

/* `count` units of the segment from `unit` on are free from now on, or no longer. */
static void add_free(struct arena *a, struct segment *s, size_t unit, unsigned count)
{
	unlist(&a->segments, s);
	s->free |= segment_bits(unit, count);
	s->free_units = (uint8_t)(s->free_units + count);
	list(&a->segments, s);
}

static void take_free(struct arena *a, struct segment *s, size_t unit, unsigned count)
{
	unlist(&a->segments, s);
	s->free &= ~segment_bits(unit, count);
	s->free_units = (uint8_t)(s->free_units - count);
	list(&a->segments, s);
}

/* Where a run of `count` free units begins, a bit each, at multiples of count. */
static uint32_t runs(uint32_t free, unsigned count)
{
	if (count >= 2)
		free &= free >> 1 & 0x55555555;
	if (count >= 4)
		free &= free >> 2 & 0x11111111;
	if (count == 8)
		free &= free >> 4 & 0x01010101;
	return free;
}

/* The run that was in use last, by its first unit: it costs no page faults. */
static unsigned best_run(const struct segment *s, uint32_t starts)
{
	for (uint32_t left = starts; left != 0; left &= left - 1) {
		unsigned unit = (unsigned)__builtin_ctz(left);

		if (s->touched[unit] != 0)
			return unit;
	}
	return (unsigned)__builtin_ctz(starts);
}

/*
 * The first unit of a free run, or UNIT_NONE: of the fullest segment that has one whose
 * pages were in use, before one of fresh pages.  Else a program that takes as much again
 * and again goes round in more memory than it needs at once.
 */
static size_t find(const struct segments *all, unsigned count)
{
	size_t fresh = UNIT_NONE;
	int looks = 0;

	for (uint64_t left = all->nonempty >> count << count; left != 0; left &= left - 1) {
		const struct segment *s = all->by_free[__builtin_ctzll(left)];

		for (int i = 0; i < TRIES && s != NULL; i++, s = s->next) {
			size_t first = (size_t)(s - window.segments) * SEGMENT_UNITS;
			uint32_t starts = runs(s->free, count);
			unsigned unit;

			if (starts == 0)
				continue;
			unit = best_run(s, starts);
			if (s->touched[unit] != 0)
				return first + unit;
			if (fresh == UNIT_NONE)
				fresh = first + unit;
			if (++looks == LOOKS)
				return fresh;
		}
	}
	return fresh;
}

/*
 * All of a huge page is in memory at once, so only an arena of which it is a small part
 * has them; what of it is still unused at the purger's look goes back.  The first touch
 * tells whether the system has any, and whether they are faster than small ones, which
 * take 0.7 ms for as much: 0.1 to 0.2 ms, but 5 where a virtual machine's host took the
 * memory away meanwhile.  Nothing tells that before.
 */
static void set_huge(struct arena *a, struct segment *s)
{
	struct segments *all = &a->segments;
	bool wanted = settings.huge && all->count >= size_max(all->huge_from, HUGE_FROM) &&
	              __atomic_load_n(&splits, __ATOMIC_RELAXED) < SPLITS_MOST;
	size_t unit = (size_t)(s - window.segments) * SEGMENT_UNITS;
	char *start = window_address(unit);
	uint64_t before;
	bool came, fast;

	if (s->huge != wanted && os_advise_huge(start, SEGMENT, wanted))
		s->huge = wanted;
	s->split = false;
	if (!s->huge)
		return;
	before = os_thread_ns();
	*(volatile char *)start = 0;
	fast = os_thread_ns() - before < HUGE_NS;
	came = os_resident(start + SEGMENT - os_page_size, os_page_size) != 0;
	if (!came || !fast)
		all->huge_from = 2 * all->count;
	segment_touch(a, unit, 0, came ? SEGMENT : os_page_size);
	segment_queue(a, unit, came ? SEGMENT_UNITS : 1);
	__builtin_memset(s->freed_at, (uint8_t)a->ticks, SEGMENT_UNITS);
}

bool segment_split(struct segment *s)
{
	size_t unit = (size_t)(s - window.segments) * SEGMENT_UNITS;

	s->split |= s->huge;
	if (s->huge && __atomic_fetch_add(&splits, 1, __ATOMIC_RELAXED) < SPLITS_MOST)
		s->huge = !os_advise_huge(window_address(unit), SEGMENT, false);
	return s->split;
}

static struct segment *add_segment(struct arena *a)
{
	struct segment *s = window_take_segment();

	if (s == NULL)
		return NULL;
	s->arena = a;
	s->free = ~(uint32_t)0;
	s->free_units = SEGMENT_UNITS;
	set_huge(a, s);
	list(&a->segments, s);
	a->segments.count++;
	return s;
}

size_t segment_take_units(struct arena *a, unsigned count)
{
	size_t unit = find(&a->segments, count);

	if (unit == UNIT_NONE) {
		struct segment *s = add_segment(a);

		if (s == NULL)
			return UNIT_NONE;
		unit = (size_t)(s - window.segments) * SEGMENT_UNITS;
	}
	take_free(a, segment_of_unit(unit), unit, count);
	return unit;
}

void segment_return_units(struct arena *a, size_t unit, unsigned count)
{
	struct segment *s = segment_of_unit(unit);

	add_free(a, s, unit, count);
	segment_queue(a, unit, count);
	for (unsigned i = 0; i < count; i++)
		s->freed_at[unit % SEGMENT_UNITS + i] = (uint8_t)a->ticks;
}

void segment_hide_unit(struct arena *a, size_t unit)
{
	struct segment *s = segment_of_unit(unit);

	take_free(a, s, unit, 1);
}

void segment_show_unit(struct arena *a, size_t unit)
{
	struct segment *s = segment_of_unit(unit);

	if ((s->free & segment_bits(unit, 1)) == 0)
		add_free(a, s, unit, 1);
}

void segment_mark(struct arena *a, size_t unit, uint16_t pages)
{
	struct segment *s = segment_of_unit(unit);
	unsigned at = unit % SEGMENT_UNITS;
	uint32_t fresh = pages & ~(uint32_t)s->touched[at];

	if ((fresh | (pages & s->idle[at])) == 0)
		return;
	if (fresh != 0) {
		a->segments.touched += (unsigned)__builtin_popcount(fresh);
		a->refaulted_bytes += (unsigned)__builtin_popcount(fresh & s->gone[at]) * os_page_size;
		s->gone[at] &= (uint16_t)~fresh;
		if (s->pending & segment_bits(unit, 1))
			a->segments.pending += (unsigned)__builtin_popcount(fresh);
	}
	s->touched[at] |= pages;
	s->idle[at] &= (uint16_t)~pages;
}

void segment_unmark(struct arena *a, size_t unit, size_t first, size_t end)
{
	size_t pages = UNIT / os_page_size;

	for (size_t page = first; page < end; page++) {
		size_t at = unit + page / pages;

		segment_of_unit(at)->touched[at % SEGMENT_UNITS] &= (uint16_t)~(1u << page % pages);
	}
	a->segments.touched -= end - first;
}

void segment_touch(struct arena *a, size_t unit, size_t from, size_t to)
{
	size_t pages = UNIT / os_page_size, first = from / os_page_size;
	size_t last = (to - 1) / os_page_size, mask = UINT16_MAX << first % pages;

	/* Of a slab's units but the last all pages from the first on. */
	unit += first / pages;
	last -= first - first % pages;
	for (; last >= pages; last -= pages, mask = UINT16_MAX)
		segment_mark(a, unit++, (uint16_t)mask);
	segment_mark(a, unit, (uint16_t)(mask & (UINT16_MAX >> (pages - 1 - last))));
}

void segment_queue(struct arena *a, size_t unit, unsigned count)
{
	struct segment *s = segment_of_unit(unit);
	struct segments *all = &a->segments;
	uint32_t fresh = segment_bits(unit, count) & ~s->pending;

	for (uint32_t left = fresh; left != 0; left &= left - 1)
		all->pending += (unsigned)__builtin_popcount(s->touched[__builtin_ctz(left)]);
	s->pending |= fresh;
	if (s->queued)
		return;
	s->queued = true;
	s->queued_at = a->ticks;
	s->later = NULL;
	if (all->queue == NULL)
		all->queue = s;
	else
		all->queue_last->later = s;
	all->queue_last = s;
}

uint32_t segment_unpend(struct arena *a, struct segment *s)
{
	uint32_t pending = s->pending;

	for (uint32_t left = pending; left != 0; left &= left - 1)
		a->segments.pending -= (unsigned)__builtin_popcount(s->touched[__builtin_ctz(left)]);
	s->pending = 0;
	return pending;
}

struct segment *segment_unqueue(struct arena *a, uint32_t tick)
{
	struct segment *s = a->segments.queue;

	if (s == NULL || (int32_t)(tick - s->queued_at) < 0)
		return NULL;
	a->segments.queue = s->later;
	s->queued = false;
	return s;
}

bool segment_retire(struct arena *a, struct segment *s)
{
	if (~s->free != 0 || s->pending != 0 || s->queued)
		return false;
	for (unsigned i = 0; i < SEGMENT_UNITS; i++)
		if (s->touched[i] != 0)
			return false;
	unlist(&a->segments, s);
	a->segments.count--;
	window_return_segment(s);
	return true;
}
