/*
 * The validator's part for slabs: what segment.h and slab.h number.
 */
#include "heap/arena.h"
#include "heap/audit.h"
#include "heap/thread.h"
#include "os/os.h"

/* What is found in the segments, to be compared with the arena's lists and sums. */
struct slab_tally {
	size_t segments, queued, touched, pending, ringed, units, live_bytes;
};

static bool unit_has(uint32_t set, size_t unit)
{
	return set >> unit % SEGMENT_UNITS & 1;
}

static bool page_is_touched(size_t unit, size_t page)
{
	size_t pages = UNIT / os_page_size;

	unit += page / pages;
	return segment_of_unit(unit)->touched[unit % SEGMENT_UNITS] >> page % pages & 1;
}

/* slab.h I3: those that the purger holds are not free either, and their pages went. */
static void audit_live_blocks(const struct slab *s, size_t unit)
{
	size_t elsewhere = 0;

	for (size_t i = 0; i < s->blocks; i++) {
		size_t page = i * s->size / os_page_size;
		size_t last = ((i + 1) * s->size - 1) / os_page_size;

		if (s->bits[i / 64] >> i % 64 & 1)
			continue;
		while (page <= last && page_is_touched(unit, page))
			page++;
		elsewhere += page <= last;
	}
	CHECK(elsewhere <= s->claimed);
}

/* slab.h I1. */
static void audit_bits(const struct slab *s)
{
	size_t words = (s->blocks + 63u) / 64, count = 0;

	for (size_t i = 0; i < words; i++) {
		count += (size_t)__builtin_popcountll(s->bits[i]);
		CHECK(i >= s->first || s->bits[i] == 0);
	}
	CHECK(count == s->free);
	CHECK(s->blocks % 64 == 0 || s->bits[words - 1] >> s->blocks % 64 == 0);
}

/* slab.h I2: where its fullness belongs; audit_rings finds it there. */
static unsigned ring_by_share(const struct slab *s)
{
	if (s->free == 0)
		return SLAB_RINGS;
	return (s->free > s->blocks / 8u) + (s->free > s->blocks / 2u);
}

static void audit_slab(const struct arena *a, const struct slab *s, struct slab_tally *t)
{
	size_t unit = (size_t)(s - window.slabs);
	uint32_t free = segment_of_unit(unit)->free;

	CHECK(s->arena == a && s->class < SLAB_CLASSES && s->size == class_sizes[s->class]);
	CHECK(s->units == slab_class_units(s->size) && unit % s->units == 0);
	CHECK(s->blocks == s->units * UNIT / s->size);
	CHECK(s->bits == (s->blocks <= SLAB_FEW ? s->few : window.bits[unit]));
	for (unsigned i = 0; i < s->units; i++) {
		CHECK(window.bins[unit + i] == thread_bin_offset(s->class));
		CHECK(s[i].back == i && !unit_has(free, unit + i));
	}
	audit_bits(s);
	/* Without live blocks it would have ended. */
	CHECK(s->free < s->blocks && s->free + s->claimed <= s->blocks);
	CHECK(s->ring == ring_by_share(s));
	audit_live_blocks(s, unit);
	t->ringed += s->ring != SLAB_RINGS;
	t->units += s->units;
	t->live_bytes += (size_t)(s->blocks - s->free - s->claimed) * s->size;
}

/* segment.h I6. */
static void audit_looked_at(const struct segment *s, size_t unit)
{
	const struct slab *slab = slab_at(window_address(unit));
	size_t pages = UNIT / os_page_size, back = window.slabs[unit].back * pages;

	if (window.bins[unit] == 0)
		CHECK(s->touched[unit % SEGMENT_UNITS] == 0 || !unit_has(s->free, unit));
	for (size_t page = 0; page < pages && window.bins[unit] != 0; page++) {
		uint32_t from = slab_index(slab, (back + page) * os_page_size);
		uint32_t to = slab_index(slab, (back + page + 1) * os_page_size - 1) + 1;

		to = to < slab->blocks ? to : slab->blocks;
		/* Behind the last block pages go with it. */
		from = from < to ? from : to - 1;
		CHECK(!page_is_touched(unit, page) || !slab_range_is(slab, from, to, true));
	}
}

static void audit_segment(const struct arena *a, const struct segment *s, struct slab_tally *t)
{
	size_t base = (size_t)(s - window.segments) * SEGMENT_UNITS;

	CHECK(s->arena == a && window_has(window_address(base)));
	/* segment.h I3; nobody looks at it while the lock is held. */
	CHECK(s->queued == (s->pending != 0));
	for (size_t i = 0; i < SEGMENT_UNITS; i++) {
		CHECK((s->idle[i] & ~s->touched[i]) == 0); /* segment.h I2 */
		CHECK((s->gone[i] & s->touched[i]) == 0); /* segment.h I5 */
		CHECK(s->idle[i] == 0 || unit_has(s->pending, i));
		t->touched += (size_t)__builtin_popcount(s->touched[i]);
		if (unit_has(s->pending, i))
			t->pending += (size_t)__builtin_popcount(s->touched[i]);
		else
			audit_looked_at(s, base + i);
	}
	for (size_t unit = base; unit < base + SEGMENT_UNITS;) {
		if (window.bins[unit] != 0) {
			audit_slab(a, &window.slabs[unit], t);
			unit += window.slabs[unit].units;
		} else {
			unit++;
		}
	}
	t->segments++;
	t->queued += s->queued;
}

/* segment.h I1. */
static void audit_segments(const struct arena *a, struct slab_tally *t)
{
	for (unsigned n = 0; n <= SEGMENT_UNITS; n++) {
		const struct segment *first = a->segments.by_free[n], *prev = NULL;

		CHECK((a->segments.nonempty >> n & 1) == (first != NULL));
		for (const struct segment *s = first; s != NULL; prev = s, s = s->next) {
			CHECK(s->prev == prev);
			CHECK(s->free_units == n && (unsigned)__builtin_popcount(s->free) == n);
			audit_segment(a, s, t);
		}
	}
	CHECK(t->segments == a->segments.count);
	/* segment.h I4. */
	CHECK(t->touched == a->segments.touched && t->pending == a->segments.pending);
}

/* segment.h I3: in order of waiting, each once. */
static void audit_queue(const struct arena *a, const struct slab_tally *t)
{
	const struct segment *last = NULL;
	size_t count = 0;

	for (const struct segment *s = a->segments.queue; s != NULL; last = s, s = s->later) {
		CHECK(s->queued && s->arena == a && ++count <= t->queued);
		CHECK(last == NULL || (int32_t)(s->queued_at - last->queued_at) >= 0);
	}
	CHECK(count == t->queued && (last == NULL || a->segments.queue_last == last));
}

/* slab.h I2: as many as are to be there, each once. */
static void audit_rings(const struct arena *a, const struct slab_tally *t)
{
	size_t count = 0;

	for (unsigned i = 0; i < SLAB_CLASSES * SLAB_RINGS; i++) {
		unsigned class = i / SLAB_RINGS, ring = i % SLAB_RINGS;
		const struct slab *prev = NULL;

		for (const struct slab *s = a->slabs.rings[class][ring]; s != NULL; s = s->next) {
			CHECK(s->prev == prev && s->arena == a && s->class == class && s->ring == ring);
			CHECK(++count <= t->ringed);
			prev = s;
		}
	}
	CHECK(count == t->ringed);
}

void audit_slabs(const struct arena *a)
{
	struct slab_tally t = { 0 };

	audit_segments(a, &t);
	audit_queue(a, &t);
	audit_rings(a, &t);
	CHECK(t.units == a->slabs.units && t.live_bytes == a->slabs.live_bytes);
}
