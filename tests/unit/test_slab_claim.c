/*
 * heap/slab_claim: which pages of slabs go, and when; nothing that lives is on them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "heap/heap.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"
#include "support/slabs.h"

#define KIB   ((size_t)1 << 10)
#define PAGE  ((size_t)4096)
#define MOST  4096 /* blocks of a slab */

static char *blocks[16 * MOST];

/* ---- when ---- */

/* Returns the blocks' class. */
static unsigned two_pages_half_free(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		slabs_give(blocks[i]);
	return class;
}

/* Two looks, SLAB_TICKS apart, the first of them so long after the free. */
static void a_page_goes_at_the_second_look(void)
{
	(void)two_pages_half_free();
	for (unsigned i = 0; i < 2 * SLAB_TICKS - 1; i++)
		EXPECT(slabs_tick() == 0);
	EXPECT(slabs_tick() == PAGE);
	slabs_keep_live_pages(slab_at(blocks[0]));
	slabs_check(blocks[3], 1024);
	EXPECT(slabs_ticks(20) == 0);
}

static void a_page_that_was_used_meanwhile_stays(void)
{
	unsigned class = two_pages_half_free();
	char *again;

	for (int round = 0; round < 10; round++) {
		EXPECT(slabs_ticks(SLAB_TICKS - 1) == 0);
		slabs_take(class, &again, 1);
		EXPECT(again == blocks[4]);
		slabs_give(again);
	}
	EXPECT(slabs_ticks(2 * SLAB_TICKS) == PAGE);
}

static void a_page_that_is_used_stays(void)
{
	unsigned class = two_pages_half_free();
	char *again;

	EXPECT(slabs_ticks(SLAB_TICKS) == 0);
	slabs_take(class, &again, 1);
	EXPECT(slabs_ticks(20) == 0 && slabs_arena->segments.queue == NULL);
	slabs_check(again, 1024);
}

static void an_empty_slab_goes_after_one_wait(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 65);
	for (size_t i = 0; i < 64; i++)
		slabs_give(blocks[i]);
	for (unsigned i = 0; i < SLAB_TICKS - 1; i++)
		EXPECT(slabs_tick() == 0);
	EXPECT(slabs_tick() == UNIT);
	EXPECT(os_resident(blocks[0], UNIT) == 0);
	slabs_check(blocks[64], 1024);
}

/* Used and free again: it waits anew. */
static void a_slab_that_comes_and_goes_stays(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	for (int round = 0; round < 10; round++) {
		slabs_take(class, blocks, 64);
		for (size_t i = 0; i < 64; i++)
			slabs_give(blocks[i]);
		EXPECT(slabs_ticks(SLAB_TICKS - 1) == 0);
	}
	EXPECT(slabs_ticks(2) == UNIT);
}

/* Pages of a slab and free units alike. */
static void a_longer_delay_is_between_longer_looks(void)
{
	unsigned class = class_of_request(1024), ticks = 0;
	size_t gone = 0;

	slabs_start();
	slabs_take(class, blocks, 72);
	for (size_t i = 0; i < 68; i++)
		slabs_give(blocks[i]);
	while (gone == 0) {
		slabs_arena->ticks++;
		ticks++;
		gone = slabs_pass(slabs_arena->ticks - SLAB_TICKS_FOR(DECAY_MOST), false);
	}
	EXPECT(gone == UNIT + PAGE && ticks == 2 * SLAB_TICKS_FOR(DECAY_MOST));
}

/*
 * Slabs of several units on units that ended, all of them still to be looked at: each
 * unit has one look a pass all the same.
 */
static void a_new_slab_on_old_units_has_two_looks(void)
{
	unsigned class = class_of_request(8192), count = slabs_blocks_of(class);

	slabs_start();
	slabs_take(class, blocks, count);
	for (size_t i = 0; i < count; i++)
		slabs_give(blocks[i]);
	EXPECT(slabs_ticks(SLAB_TICKS - 1) == 0);
	slabs_take(class, blocks, 1);
	for (unsigned i = 0; i < SLAB_TICKS; i++)
		EXPECT(slabs_tick() == 0);
	EXPECT(slabs_tick() == slab_class_units(8192) * UNIT - 8192);
	slabs_keep_live_pages(slab_at(blocks[0]));
}

/* ---- which ---- */

/* Any share of the blocks of any class is freed, and all pages go that may go. */
static void only_live(bool at_once)
{
	struct rng rng = { 17 };

	slabs_start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		unsigned count = slabs_blocks_of(class), step = 1 + class % 7;
		size_t size = class_sizes[class], kept = 0;

		slabs_take(class, blocks, count);
		for (unsigned i = 0; i < count; i += step) {
			bool keep = rng_below(&rng, 1 + count / 4) == 0;

			for (unsigned k = i; k < i + step && k < count; k++) {
				if (keep || k == count / 2)
					blocks[kept++] = blocks[k];
				else
					slabs_give(blocks[k]);
			}
		}
		(void)(at_once ? slabs_release() : slabs_ticks(3 * SLAB_TICKS));
		slabs_keep_live_pages(slab_at(blocks[0]));
		for (size_t i = 0; i < kept; i++) {
			slabs_check(blocks[i], size);
			slabs_give(blocks[i]);
		}
		(void)(at_once ? slabs_release() : slabs_ticks(3 * SLAB_TICKS));
		EXPECT(slabs_arena->segments.count == 0 && slabs_arena->segments.touched == 0);
	}
}

static void all_free_pages_of_each_class_go_in_time(void)
{
	only_live(false);
}

static void all_free_pages_of_each_class_go_at_once(void)
{
	only_live(true);
}

static void free_units_side_by_side_are_one_range(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 30 * 64);
	for (size_t i = 64; i < 30 * 64; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true));
	EXPECT(slabs_claimed.count == 1 && slabs_claimed.ranges[0].start == blocks[64]);
	EXPECT(slabs_claimed.ranges[0].size == 29 * UNIT);
	EXPECT(slabs_discard() == 29 * UNIT);
}

/*
 * 19 blocks of 6,656 bytes leave the last page of two units, which other blocks touched
 * before.  It goes with the last block: the slab may not end while it is claimed.
 */
static void pages_behind_the_last_block_go_with_it(void)
{
	unsigned before = class_of_request(8192), class = class_of_request(6656);
	size_t units;

	slabs_start();
	slabs_take(before, blocks, 16);
	for (size_t i = 0; i < 16; i++)
		slabs_give(blocks[i]);
	slabs_take(class, blocks, 19);
	units = slabs_arena->slabs.units;
	EXPECT(units == 2);
	slabs_give(blocks[0]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true));
	EXPECT(slabs_claimed.count == 1 && slabs_claimed.ranges[0].start == blocks[0]);
	EXPECT(slabs_discard() == PAGE);
	slabs_give(blocks[18]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true));
	for (size_t i = 1; i < 18; i++)
		slabs_give(blocks[i]);
	EXPECT(slabs_arena->slabs.units == units);
	EXPECT(slabs_discard() == 2 * PAGE);
	EXPECT(slabs_arena->slabs.units == 0);
}

/* As many ranges as a segment can have, in several: they do not fit one slabs_claimed. */
static void a_claim_is_bounded(void)
{
	unsigned class = class_of_request(1024), segments = 5, claims = 0;
	size_t count = segments * SEGMENT_UNITS * 64, gone = 0;

	slabs_start();
	slabs_take(class, blocks, (unsigned)count);
	for (size_t i = 0; i < count; i++)
		if (i % 8 < 4)
			slabs_give(blocks[i]);
	/* One pass, and nothing has a second look in it. */
	EXPECT(slabs_ticks(2 * SLAB_TICKS - 1) == 0);
	slabs_arena->ticks++;
	for (; slabs_claim(slabs_arena->ticks - SLAB_TICKS, false); claims++)
		gone += slabs_discard();
	EXPECT(gone == count / 8 * PAGE && claims >= segments * 256 / OS_DISCARD_RANGES);
	for (size_t i = 4; i < count; i += 8)
		slabs_check(blocks[i], 1024);
}

static void no_more_goes_than_is_asked(void)
{
	unsigned class = class_of_request(1024);
	size_t count = 8 * SEGMENT_UNITS * 64;

	slabs_start();
	slabs_take(class, blocks, (unsigned)count);
	for (size_t i = 0; i < count; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slab_claim_take(&slabs_claimed, slabs_arena, slabs_arena->ticks - 1, true, UNIT + 1));
	EXPECT(slabs_discard() == 2 * UNIT);
	/* Only of the first segment a part. */
	EXPECT(slab_claim_take(&slabs_claimed, slabs_arena, slabs_arena->ticks - 1, true, SEGMENT + 1));
	EXPECT(slabs_discard() == SEGMENT);
	EXPECT(slabs_pass(slabs_arena->ticks, true) == 7 * SEGMENT - 2 * UNIT);
	EXPECT(slabs_arena->segments.count == 0);
}

/* ---- and is wanted again ---- */

static void a_page_that_went_is_counted_when_it_is_taken(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		slabs_give(blocks[i]);
	EXPECT(slabs_release() == PAGE && slabs_arena->refaulted_bytes == 0);
	slabs_take(class, &blocks[4], 1);
	EXPECT(slabs_arena->refaulted_bytes == PAGE);
	slabs_take(class, &blocks[5], 11);
	EXPECT(slabs_arena->refaulted_bytes == PAGE);
}

/* Whichever slab has them, and although the window had the segment meanwhile. */
static void units_that_went_are_counted_when_they_are_taken(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 128);
	for (size_t i = 0; i < 128; i++)
		slabs_give(blocks[i]);
	EXPECT(slabs_release() == 2 * UNIT && slabs_arena->segments.count == 0);
	slabs_take(class_of_request(16), blocks, 257);
	EXPECT(slabs_arena->refaulted_bytes == 2 * PAGE);
	slabs_take(class_of_request(8192), blocks, 32);
	EXPECT(slabs_arena->refaulted_bytes == 2 * PAGE);
}

/* In the child of a fork the pages are there. */
static void what_did_not_go_is_not_counted(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true) && slabs_claimed.count == 1);
	claim_return(&slabs_claimed, false);
	slabs_take(class, blocks, 1);
	EXPECT(slabs_arena->refaulted_bytes == 0);
}

/* ---- at random ---- */

static struct live {
	char *block;
	unsigned class;
} live[4000];
static size_t live_count;

static void live_at_random(struct rng *rng, bool grows)
{
	unsigned count = 1 + (unsigned)rng_below(rng, 64);

	if (live_count + 64 < sizeof(live) / sizeof(*live) && rng_below(rng, 10) < (grows ? 7 : 2)) {
		unsigned class = (unsigned)(rng_below(rng, 8) * 11);
		char *got[64];

		slabs_take(class, got, count);
		for (unsigned i = 0; i < count; i++)
			live[live_count++] = (struct live){ got[i], class };
		return;
	}
	for (; count > 0 && live_count > 0; count--) {
		struct live *l = &live[rng_below(rng, live_count)];

		slabs_give(l->block);
		*l = live[--live_count];
	}
}

/* Claims are out while the program goes on, and come back clean or not. */
static void nothing_live_is_lost_over_long_runs(void)
{
	struct rng rng = { 23 };
	size_t gone = 0;

	slabs_start();
	for (unsigned round = 0; round < 20000; round++) {
		live_at_random(&rng, round / 500 % 2 == 0);
		if (round % 8 != 0)
			continue;
		slabs_arena->ticks++;
		(void)slab_claim_take(&slabs_claimed, slabs_arena, slabs_arena->ticks - SLAB_TICKS, rng_below(&rng, 4) == 0,
		                      rng_below(&rng, 2) == 0 ? 256 * KIB : SIZE_MAX);
		live_at_random(&rng, round / 500 % 2 == 0);
		if (round % 64 == 0)
			slabs_audit();
		if (rng_below(&rng, 4) == 0)
			claim_return(&slabs_claimed, false);
		else
			gone += slabs_discard();
		EXPECT(slabs_arena->refaulted_bytes <= gone);
	}
	EXPECT(slabs_arena->refaulted_bytes != 0);
	for (size_t i = 0; i < live_count; i++)
		slabs_check(live[i].block, class_sizes[live[i].class]);
	(void)slabs_ticks(4 * SLAB_TICKS);
	for (size_t i = 0; i < live_count; i++)
		slabs_keep_live_pages(slab_at(live[i].block));
	while (live_count > 0)
		slabs_give(live[--live_count].block);
	(void)slabs_ticks(2 * SLAB_TICKS);
	EXPECT(slabs_arena->segments.count == 0 && slabs_arena->segments.touched == 0 && slabs_arena->slabs.units == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_page_goes_at_the_second_look),
		child_test(a_page_that_was_used_meanwhile_stays),
		child_test(a_page_that_is_used_stays),
		child_test(an_empty_slab_goes_after_one_wait),
		child_test(a_slab_that_comes_and_goes_stays),
		child_test(a_longer_delay_is_between_longer_looks),
		child_test(a_new_slab_on_old_units_has_two_looks),
		child_test(all_free_pages_of_each_class_go_in_time),
		child_test(all_free_pages_of_each_class_go_at_once),
		child_test(free_units_side_by_side_are_one_range),
		child_test(pages_behind_the_last_block_go_with_it),
		child_test(a_claim_is_bounded),
		child_test(no_more_goes_than_is_asked),
		child_test(a_page_that_went_is_counted_when_it_is_taken),
		child_test(units_that_went_are_counted_when_they_are_taken),
		child_test(what_did_not_go_is_not_counted),
		child_test(nothing_live_is_lost_over_long_runs),
	};

	classes_init();
	return cmocka_run_group_tests_name("slab_claim", tests, NULL, NULL);
}
