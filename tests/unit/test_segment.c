/*
 * heap/segment: which units are handed out, and the purger's queue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "heap/arena.h"
#include "heap/audit.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define SEGMENTS 12 /* so many a test has at most */
#define PAGES    (UNIT / os_page_size)

static struct arena *a;

static void start(void)
{
	a = script_heap(POLICY_DEFAULT);
}

static size_t take(unsigned count)
{
	size_t unit = segment_take_units(a, count);

	EXPECT(unit != UNIT_NONE && unit % count == 0);
	return unit;
}

static struct segment *segment(size_t number)
{
	return &window.segments[number];
}

/* ---- units ---- */

static void units_are_taken_from_the_lowest_up(void)
{
	start();
	for (size_t i = 0; i < 3 * SEGMENT_UNITS; i++)
		EXPECT(take(1) == i);
	EXPECT(a->segments.count == 3);
	audit_arena(a);
}

static void larger_runs_are_aligned_and_fill_a_segment(void)
{
	start();
	/* 1 of the first eight, then the runs around it. */
	EXPECT(take(1) == 0 && take(4) == 4 && take(8) == 8 && take(4) == 16);
	EXPECT(take(8) == 24 && take(4) == 20);
	/* What is left is no run of four. */
	EXPECT(take(4) == SEGMENT_UNITS && take(8) == SEGMENT_UNITS + 8);
	EXPECT(take(1) == 1 && take(1) == 2 && take(1) == 3);
	EXPECT(segment(0)->free == 0 && a->segments.count == 2);
	audit_arena(a);
}

/* So that emptier ones may become empty. */
static void the_fullest_is_filled_first(void)
{
	static const unsigned given_back[] = { 5, 1, 9, 3 };
	size_t order[] = { 1, 3, 0, 2 };

	start();
	for (size_t i = 0; i < 4 * SEGMENT_UNITS; i++)
		(void)take(1);
	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < given_back[i]; k++)
			segment_return_units(a, i * SEGMENT_UNITS + k, 1);
	audit_arena(a);
	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < given_back[order[i]]; k++)
			EXPECT(take(1) / SEGMENT_UNITS == order[i]);
	EXPECT(a->segments.count == 4);
	EXPECT(take(1) == 4 * SEGMENT_UNITS);
}

static void what_was_in_use_is_taken_before_what_was_not(void)
{
	start();
	EXPECT(take(8) == 0);
	segment_touch(a, 4, 100, 101);
	segment_return_units(a, 0, 8);
	EXPECT(take(1) == 4);
	EXPECT(take(4) == 0);
	segment_return_units(a, 0, 4);
	segment_return_units(a, 4, 1);
	EXPECT(take(4) == 4);
	audit_arena(a);
}

/* Even in a segment that is emptier than one of fresh units. */
static void they_are_looked_for_in_emptier_segments(void)
{
	start();
	for (size_t unit = 0; unit < SEGMENT_UNITS; unit++)
		EXPECT(take(1) == unit);
	EXPECT(take(1) == SEGMENT_UNITS);
	segment_touch(a, 3, 100, 101);
	for (size_t unit = 0; unit < SEGMENT_UNITS; unit++)
		segment_return_units(a, unit, 1);
	EXPECT(segment(1)->free_units < segment(0)->free_units);
	EXPECT(take(1) == 3);
	audit_arena(a);
}

static void hidden_units_are_nobodys(void)
{
	start();
	EXPECT(take(1) == 0);
	for (size_t unit = 1; unit < SEGMENT_UNITS; unit++)
		segment_hide_unit(a, unit);
	audit_arena(a);
	EXPECT(take(1) == SEGMENT_UNITS);
	segment_show_unit(a, 9);
	EXPECT(take(1) == 9);
	for (size_t unit = 4; unit < 8; unit++)
		segment_show_unit(a, unit);
	EXPECT(take(4) == 4);
	audit_arena(a);
}

static void without_memory_there_are_none(void)
{
	start();
	script_fail_from(OS_MAP_AT, 1);
	EXPECT(segment_take_units(a, 1) == UNIT_NONE && a->segments.count == 0);
	audit_arena(a);
	script_reset();
	for (size_t i = 0; i < SEGMENT_UNITS / 8; i++)
		(void)take(8);
	script_fail_from(OS_MAP_AT, 1);
	EXPECT(segment_take_units(a, 1) == UNIT_NONE);
	segment_return_units(a, 16, 8);
	EXPECT(segment_take_units(a, 4) == 16);
	audit_arena(a);
}

/* ---- against a model ---- */

static unsigned owner[SEGMENTS * SEGMENT_UNITS]; /* 0: none */

static size_t free_in(size_t number)
{
	size_t count = 0;

	for (size_t i = 0; i < SEGMENT_UNITS; i++)
		count += owner[number * SEGMENT_UNITS + i] == 0;
	return count;
}

static void model_takes(size_t unit, unsigned count, unsigned number)
{
	size_t s = unit / SEGMENT_UNITS, segments = a->segments.count;

	EXPECT(unit % count == 0 && unit + count <= SEGMENTS * SEGMENT_UNITS);
	/* Of the segments in use, none that is fuller had one. */
	for (size_t i = 0; count == 1 && i < segments; i++)
		EXPECT(free_in(i) == 0 || free_in(i) >= free_in(s));
	for (size_t i = unit; i < unit + count; i++) {
		EXPECT(owner[i] == 0);
		owner[i] = number;
	}
}

static void random_runs_never_overlap(void)
{
	static struct { size_t unit; unsigned count; } runs[4096];
	static const unsigned counts[] = { 1, 1, 1, 4, 4, 8 };
	struct rng rng = { 5 };
	size_t live = 0;

	start();
	for (unsigned i = 1; i <= 50000; i++) {
		size_t in_use = 0;

		for (size_t k = 0; k < live; k++)
			in_use += runs[k].count;
		if (in_use < 8 * SEGMENT_UNITS && rng_below(&rng, 2 * 8 * SEGMENT_UNITS) > in_use) {
			unsigned count = counts[rng_below(&rng, 6)];

			runs[live].count = count;
			runs[live].unit = segment_take_units(a, count);
			model_takes(runs[live].unit, count, i);
			live++;
		} else if (live > 0) {
			size_t k = rng_below(&rng, live);

			segment_return_units(a, runs[k].unit, runs[k].count);
			memset(&owner[runs[k].unit], 0, runs[k].count * sizeof(*owner));
			runs[k] = runs[--live];
		}
		if (i % 64 == 0)
			audit_arena(a);
	}
	for (size_t s = 0; s < a->segments.count; s++)
		for (size_t i = 0; i < SEGMENT_UNITS; i++)
			EXPECT((segment(s)->free >> i & 1) == (owner[s * SEGMENT_UNITS + i] == 0));
}

/* ---- pages ---- */

static void touching_marks_each_page_that_is_met(void)
{
	struct rng rng = { 7 };

	start();
	EXPECT(take(8) == 0);
	for (int round = 0; round < 1000; round++) {
		size_t from = rng_below(&rng, 8 * UNIT - 1);
		size_t to = from + 1 + rng_below(&rng, round % 2 == 0 ? 100 : 8 * UNIT);
		size_t count = 0;

		to = to > 8 * UNIT ? 8 * UNIT : to;
		memset(segment(0)->touched, 0, sizeof(segment(0)->touched));
		memset(segment(0)->idle, 0xff, sizeof(segment(0)->idle));
		a->segments.touched = 0;
		segment_touch(a, 0, from, to);
		for (size_t page = 0; page < SEGMENT_UNITS * PAGES; page++) {
			bool met = from < (page + 1) * os_page_size && to > page * os_page_size;

			EXPECT((segment(0)->touched[page / PAGES] >> page % PAGES & 1) == met);
			EXPECT((segment(0)->idle[page / PAGES] >> page % PAGES & 1) == !met);
			count += met;
		}
		EXPECT(a->segments.touched == count);
		segment_touch(a, 0, from, to);
		EXPECT(a->segments.touched == count);
	}
}

/* ---- the queue ---- */

static void plant_segments(size_t count)
{
	start();
	for (size_t i = 0; i < count * SEGMENT_UNITS; i++)
		(void)take(1);
}

static void the_longest_waiting_comes_first(void)
{
	/* The count of ticks goes round. */
	static const uint32_t begins[] = { 0, 100, UINT32_MAX - 3 };

	for (size_t i = 0; i < 3; i++) {
		plant_segments(4);
		a->ticks = begins[i];
		segment_queue(a, 2 * SEGMENT_UNITS + 5, 1);
		a->ticks += 2;
		segment_queue(a, 5, 1);
		segment_queue(a, SEGMENT_UNITS, 1);
		a->ticks += 3;
		/* It waits since then, for more units now. */
		segment_queue(a, 2 * SEGMENT_UNITS + 31, 1);
		EXPECT(segment(2)->pending == (1u << 5 | 1u << 31));
		audit_arena(a);
		EXPECT(segment_unqueue(a, begins[i] - 1) == NULL);
		EXPECT(segment_unqueue(a, begins[i]) == segment(2));
		EXPECT(segment_unqueue(a, begins[i] + 1) == NULL);
		EXPECT(segment_unqueue(a, begins[i] + 2) == segment(0));
		EXPECT(segment_unqueue(a, begins[i] + 2) == segment(1));
		EXPECT(segment_unqueue(a, begins[i] + 1000) == NULL && a->segments.queue == NULL);
		EXPECT(!segment(0)->queued && !segment(1)->queued && !segment(2)->queued);
		memset(segment(0), 0, 4 * sizeof(struct segment));
		window_return_segment(segment(3));
		window_return_segment(segment(2));
		window_return_segment(segment(1));
		window_return_segment(segment(0));
	}
}

static void one_that_left_the_queue_may_come_again(void)
{
	plant_segments(2);
	segment_queue(a, 0, 1);
	segment_queue(a, SEGMENT_UNITS, 1);
	EXPECT(segment_unqueue(a, 0) == segment(0));
	(void)segment_unpend(a, segment(0));
	a->ticks++;
	segment_queue(a, 7, 1);
	EXPECT(segment(0)->pending == 1u << 7 && segment(0)->queued_at == 1);
	audit_arena(a);
	EXPECT(segment_unqueue(a, 0) == segment(1) && segment_unqueue(a, 0) == NULL);
	EXPECT(segment_unqueue(a, 1) == segment(0));
}

static void returned_units_are_looked_at(void)
{
	start();
	EXPECT(take(8) == 0 && take(4) == 8);
	a->ticks = 0x1234;
	segment_return_units(a, 8, 4);
	EXPECT(segment(0)->pending == 0xf00 && segment(0)->queued_at == 0x1234);
	for (size_t i = 8; i < 12; i++)
		EXPECT(segment(0)->freed_at[i] == 0x34);
	audit_arena(a);
}

/* ---- retirement ---- */

static bool retires(void)
{
	bool retired = segment_retire(a, segment(0));

	EXPECT(a->segments.count == !retired);
	audit_arena(a);
	return retired;
}

static void only_what_is_unused_and_out_of_memory_retires(void)
{
	start();
	EXPECT(take(1) == 0);
	EXPECT(!retires());
	segment_touch(a, 0, 0, 1);
	segment_return_units(a, 0, 1);
	EXPECT(!retires());
	EXPECT(segment_unqueue(a, a->ticks) == segment(0));
	(void)segment_unpend(a, segment(0));
	EXPECT(!segment_retire(a, segment(0)));
	segment(0)->touched[0] = 0;
	a->segments.touched = 0;
	segment_hide_unit(a, 31);
	EXPECT(!retires());
	segment_show_unit(a, 31);
	EXPECT(retires());
	EXPECT(a->segments.nonempty == 0 && take(8) == 0 && a->segments.count == 1);
	audit_arena(a);
}

static void a_retired_one_serves_another_arena(void)
{
	static struct arena other;

	start();
	EXPECT(take(1) == 0);
	segment_return_units(a, 0, 1);
	EXPECT(segment_unqueue(a, 0) == segment(0));
	(void)segment_unpend(a, segment(0));
	EXPECT(retires());
	EXPECT(segment_take_units(&other, 4) == 0 && segment(0)->arena == &other);
	EXPECT(take(4) == SEGMENT_UNITS && segment(1)->arena == a);
	audit_slabs(&other);
	audit_arena(a);
}

/* ---- huge pages ---- */

/* All units of the next segment; whether it asked for a huge page. */
static bool take_segment(void)
{
	for (unsigned i = 0; i < SEGMENT_UNITS; i += 8)
		take(8);
	return segment(a->segments.count - 1)->huge;
}

static size_t resident(size_t number)
{
	return os_resident(window_address(number * SEGMENT_UNITS), SEGMENT);
}

static void huge_pages_are_for_large_arenas(void)
{
	start();
	settings.huge = true;
	script_thread_takes(1);
	while (!take_segment())
		EXPECT(resident(a->segments.count - 1) == 0 && a->segments.count < SEGMENTS);
	EXPECT(a->segments.count == 9);
	/* As a whole from its first touch on, if the system has any. */
	EXPECT(resident(8) == SEGMENT || resident(8) == os_page_size);
	EXPECT(a->segments.touched == resident(8) / os_page_size);
	EXPECT(take_segment() == (resident(8) == SEGMENT));
	audit_arena(a);
}

static void a_slow_one_ends_them_until_the_arena_doubles(void)
{
	start();
	settings.huge = true;
	script_thread_takes(1000000);
	while (a->segments.count < 40) {
		size_t before = a->segments.count;

		EXPECT(take_segment() == (before == 8 || before == 16 || before == 32));
	}
	audit_arena(a);
}

static void a_system_without_them_is_asked_as_rarely(void)
{
	start();
	settings.huge = true;
	EXPECT(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	while (a->segments.count < 40) {
		size_t before = a->segments.count;

		EXPECT(take_segment() == (before == 8 || before == 16 || before == 32));
	}
	EXPECT(resident(8) == os_page_size && a->segments.touched == 3);
	audit_arena(a);
}

static void with_many_split_there_are_no_more(void)
{
	size_t asked = 0;

	start();
	settings.huge = true;
	script_thread_takes(1);
	for (unsigned i = 0; i < 10; i++)
		asked += take_segment();
	if (asked < 2)
		return; /* the system has none */
	for (unsigned i = 0; i < 8192; i++) {
		segment(9)->huge = true;
		EXPECT(segment_split(segment(9)));
	}
	EXPECT(!take_segment() && !take_segment());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(units_are_taken_from_the_lowest_up),
		child_test(larger_runs_are_aligned_and_fill_a_segment),
		child_test(the_fullest_is_filled_first),
		child_test(what_was_in_use_is_taken_before_what_was_not),
		child_test(they_are_looked_for_in_emptier_segments),
		child_test(hidden_units_are_nobodys),
		child_test(without_memory_there_are_none),
		child_test(random_runs_never_overlap),
		child_test(touching_marks_each_page_that_is_met),
		child_test(the_longest_waiting_comes_first),
		child_test(one_that_left_the_queue_may_come_again),
		child_test(returned_units_are_looked_at),
		child_test(only_what_is_unused_and_out_of_memory_retires),
		child_test(a_retired_one_serves_another_arena),
		child_test(huge_pages_are_for_large_arenas),
		child_test(a_slow_one_ends_them_until_the_arena_doubles),
		child_test(a_system_without_them_is_asked_as_rarely),
		child_test(with_many_split_there_are_no_more),
	};

	return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
