/*
 * heap/slab: the blocks of each class, and a model of taking and giving them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "heap/arena.h"
#include "heap/audit.h"
#include "heap/thread.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define MOST 4096 /* blocks of a slab */

static struct arena *a;
static void *blocks[3 * MOST];

static void start(void)
{
	a = script_heap(POLICY_DEFAULT);
}

static void *take(unsigned class)
{
	void *block;

	EXPECT(slab_take(a, class, &block, 1) == 1);
	return block;
}

static void take_many(unsigned class, unsigned count)
{
	EXPECT(slab_take(a, class, blocks, count) == count);
}

static void give(void *block)
{
	(void)slab_give(a, &block, 1, 0);
}

/* In one row, as a cache that is emptied does. */
static void give_many(size_t from, size_t to)
{
	EXPECT(slab_give(a, blocks + from, (unsigned)(to - from), 0) == to - from);
}

static unsigned blocks_of(unsigned class)
{
	return (unsigned)(slab_class_units(class_sizes[class]) * UNIT / class_sizes[class]);
}

/* ---- each class ---- */

static void a_slab_is_full_of_blocks(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		size_t size = class_sizes[class], bytes = slab_class_units((uint32_t)size) * UNIT;
		unsigned count = blocks_of(class);
		struct slab *s;

		EXPECT(count <= MOST && bytes - count * size < size);
		/* At most an eighth is no block's, and of a large one not more. */
		EXPECT((bytes - count * size) * 8 < bytes);
		take_many(class, count);
		s = slab_at(blocks[0]);
		EXPECT(blocks[0] == slab_start(s) && s->blocks == count && s->free == 0);
		for (unsigned i = 1; i < count; i++)
			EXPECT(blocks[i] == slab_start(s) + i * size && slab_at(blocks[i]) == s);
		audit_arena(a);
		EXPECT(slab_at(take(class)) != s);
	}
}

static void each_byte_belongs_to_its_block(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		size_t size = class_sizes[class];
		struct slab *s = slab_at(take(class));

		for (size_t offset = 0; offset < s->units * UNIT; offset++)
			EXPECT(slab_index(s, offset) == offset / size);
	}
}

static void blocks_are_as_aligned_as_their_size(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		size_t power = class_sizes[class] & -class_sizes[class];

		take_many(class, blocks_of(class));
		for (unsigned i = 0; i < blocks_of(class); i++)
			EXPECT((uintptr_t)blocks[i] % power == 0);
	}
}

static void its_units_lead_to_its_class_and_no_others(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		struct slab *s = slab_at(take(class));
		size_t unit = (size_t)(s - window.slabs);

		for (size_t i = 0; i < s->units; i++)
			EXPECT(window.bins[unit + i] == (class + 1) * sizeof(struct cache_bin));
		give(slab_start(s));
		for (size_t i = 0; i < s->units; i++)
			EXPECT(window.bins[unit + i] == 0);
	}
	EXPECT(a->slabs.units == 0 && a->slabs.live_bytes == 0);
	audit_arena(a);
}

/* Nothing but what is handed out counts as resident. */
static void only_pages_of_taken_blocks_are_touched(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		size_t before = a->segments.touched, size = class_sizes[class];

		take_many(class, 3);
		EXPECT(a->segments.touched - before == (3 * size + os_page_size - 1) / os_page_size);
	}
	audit_arena(a);
}

/* ---- which block ---- */

static void the_lowest_is_taken_first(void)
{
	static const unsigned given[] = { 300, 70, 500, 64, 63, 128, 7, 511 };
	static const unsigned sorted[] = { 7, 63, 64, 70, 128, 300, 500, 511 };
	unsigned class = class_of_request(128);
	void *again[8];

	start();
	take_many(class, 512);
	for (size_t i = 0; i < 8; i++)
		give(blocks[given[i]]);
	audit_arena(a);
	EXPECT(slab_take(a, class, again, 8) == 8);
	for (size_t i = 0; i < 8; i++)
		EXPECT(again[i] == blocks[sorted[i]]);
	/* One at a time, too. */
	for (size_t i = 0; i < 8; i++)
		give(blocks[given[i]]);
	for (size_t i = 0; i < 8; i++)
		EXPECT(take(class) == blocks[sorted[i]]);
	audit_arena(a);
}

static void a_refill_goes_on_in_the_next_slab(void)
{
	unsigned class = class_of_request(1024), count = blocks_of(class);

	start();
	take_many(class, count);
	give_many(10, 13);
	EXPECT(slab_take(a, class, blocks + count, 10) == 10);
	for (unsigned i = 0; i < 3; i++)
		EXPECT(blocks[count + i] == blocks[10 + i]);
	for (unsigned i = 3; i < 10; i++)
		EXPECT(blocks[count + i] == (char *)blocks[0] + UNIT + (i - 3) * 1024);
	audit_arena(a);
}

/* Three slabs of 64 blocks: of one few are free, of one a third, of one most. */
static void those_in_the_middle_are_filled_first(void)
{
	unsigned class = class_of_request(1024), count = blocks_of(class);
	struct slab *full, *middle, *empty;

	start();
	take_many(class, 3 * count);
	full = slab_at(blocks[0]);
	middle = slab_at(blocks[count]);
	empty = slab_at(blocks[2 * count]);
	give_many(0, count / 8);
	give_many(count, count + count / 3);
	give_many(2 * count, 3 * count - 1);
	EXPECT(full->ring == 0 && middle->ring == 1 && empty->ring == 2);
	for (unsigned i = 0; i < count / 3 - count / 8; i++)
		EXPECT(slab_at(take(class)) == middle);
	/* By now it is as full as the other, which came before. */
	EXPECT(middle->ring == 0 && middle->free == count / 8);
	for (unsigned i = 0; i < 2 * (count / 8); i++)
		EXPECT(slab_at(take(class)) != empty);
	EXPECT(full->ring == SLAB_RINGS && middle->ring == SLAB_RINGS);
	EXPECT(slab_at(take(class)) == empty);
	audit_arena(a);
}

static void fullness_has_these_borders(void)
{
	unsigned class = class_of_request(1024), count = blocks_of(class);
	struct slab *s;

	start();
	take_many(class, count);
	s = slab_at(blocks[0]);
	for (unsigned i = 0; i < count - 1; i++) {
		give(blocks[i]);
		EXPECT(s->ring == (i + 1 <= count / 8 ? 0 : i + 1 <= count / 2 ? 1 : 2));
		audit_arena(a);
	}
}

/* ---- the end ---- */

static void without_live_blocks_it_ends(void)
{
	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		unsigned count = blocks_of(class);
		size_t unit;

		take_many(class, count);
		unit = window_unit(blocks[0]);
		give_many(1, count);
		EXPECT(window.bins[unit] != 0 && a->slabs.live_bytes == class_sizes[class]);
		give(blocks[0]);
		EXPECT(window.bins[unit] == 0 && a->slabs.live_bytes == 0 && a->slabs.units == 0);
		EXPECT(segment_of_unit(unit)->free == UINT32_MAX);
		audit_arena(a);
	}
}

static void its_place_may_go_to_another_class(void)
{
	void *block, *other;

	start();
	block = take(class_of_request(8192));
	memset(block, 0xee, 8192);
	give(block);
	other = take(class_of_request(16));
	EXPECT(other == block && slab_at(other)->blocks == 4096 && slab_at(other)->units == 1);
	audit_arena(a);
	EXPECT(take(class_of_request(1000)) == (char *)block + UNIT);
	audit_arena(a);
}

static void memory_may_be_refused(void)
{
	unsigned class = class_of_request(8192), got;

	start();
	(void)take(class);
	script_fail_from(OS_MAP_AT, 1);
	got = slab_take(a, class, blocks, 3 * MOST);
	EXPECT(got > 0 && got < 3 * MOST && slab_take(a, class, blocks + got, 1) == 0);
	audit_arena(a);
	give_many(0, got);
	audit_arena(a);
	EXPECT(slab_take(a, class, blocks, got) == got);
	script_reset();
	(void)take(class);
	audit_arena(a);
}

/* ---- what the program gives back ---- */

static unsigned crime_class;

static void plant_crime(void)
{
	crime_class = class_of_request(48);
	start();
	take_many(crime_class, 100);
	give(blocks[50]);
}

static void give_twice(void)
{
	give(blocks[50]);
}

static void give_twice_in_a_row(void)
{
	blocks[0] = blocks[1];
	give_many(0, 2);
}

static void give_what_was_never_taken(void)
{
	give((char *)blocks[99] + 48);
}

static void give_the_inside(void)
{
	give((char *)blocks[7] + 16);
}

static void give_beyond_the_last(void)
{
	give((char *)blocks[0] + 48 * slab_at(blocks[0])->blocks);
}

static void give_of_a_slab_that_ended(void)
{
	give_many(0, 50);
	give_many(51, 100);
	give(blocks[7]);
}

static void ask_of_a_free_one(void)
{
	(void)slab_of(blocks[50], "realloc");
}

static void ask_of_the_inside(void)
{
	(void)slab_of((char *)blocks[7] + 32, "realloc");
}

static void ask_of_a_free_unit(void)
{
	(void)slab_of((char *)blocks[0] + 20 * UNIT, "realloc");
}

static void crimes_are_noticed(void)
{
	plant_crime();
	EXPECT(slab_of(blocks[7], "free") == slab_at(blocks[0]));
	EXPECT(child_dies(give_twice, "double free"));
	EXPECT(child_dies(give_twice_in_a_row, "double free"));
	EXPECT(child_dies(give_what_was_never_taken, "double free"));
	EXPECT(child_dies(give_the_inside, "invalid pointer: inside a block"));
	EXPECT(child_dies(give_beyond_the_last, "invalid pointer: no block there"));
	EXPECT(child_dies(give_of_a_slab_that_ended, "invalid pointer: no block there"));
	EXPECT(child_dies(ask_of_a_free_one, "realloc("));
	EXPECT(child_dies(ask_of_the_inside, "realloc("));
	EXPECT(child_dies(ask_of_a_free_unit, "realloc("));
}

/* ---- rows ---- */

/* Blocks [from, to) of 80 in one row, upwards or downwards, leave the others alone. */
static void give_row(size_t from, size_t to, bool down)
{
	void *row[80];
	const struct slab *s;

	start();
	take_many(class_of_request(100), 80);
	s = slab_at(blocks[0]);
	for (size_t i = from; i < to; i++)
		row[down ? to - 1 - i : i - from] = blocks[i];
	EXPECT(slab_give(a, row, (unsigned)(to - from), 0) == to - from);
	EXPECT(slab_range_is(s, 0, (uint32_t)from, false) && slab_range_is(s, (uint32_t)to, 80, false));
	EXPECT(slab_range_is(s, (uint32_t)from, (uint32_t)to, true));
	audit_arena(a);
}

/* 64 blocks have their bits in one word: within it, to its border, and across. */
static void a_row_may_run_either_way(void)
{
	for (size_t from = 0; from < 70; from += from == 10 ? 50 : 1)
		for (size_t to = from + 1; to < 80; to += to == 20 ? 40 : 1) {
			give_row(from, to, false);
			give_row(from, to, true);
		}
}

/* There and back: each block once. */
static void a_row_may_turn(void)
{
	unsigned class = class_of_request(1000);
	void *row[] = { NULL, NULL, NULL, NULL, NULL, NULL };
	static const uint8_t order[] = { 3, 4, 5, 2, 1, 0 };

	start();
	take_many(class, 7);
	for (unsigned i = 0; i < 6; i++)
		row[i] = blocks[order[i]];
	EXPECT(slab_give(a, row, 6, 0) == 6);
	EXPECT(slab_range_is(slab_at(blocks[6]), 0, 6, true));
	EXPECT(slab_range_is(slab_at(blocks[6]), 6, 7, false));
	audit_arena(a);
}

/* Where slabs are full to their end the next one's first block lies right behind. */
static void a_row_may_pass_from_slab_to_slab(void)
{
	unsigned class = class_of_request(1024), count = 3 * blocks_of(class);
	void *row[3 * 64];

	EXPECT(count == 3 * 64);
	for (int down = 0; down < 2; down++) {
		start();
		take_many(class, count);
		for (unsigned i = 0; i < count; i++) {
			EXPECT(blocks[i] == (char *)blocks[0] + i * 1024);
			row[down ? count - 1 - i : i] = blocks[i];
		}
		EXPECT(slab_give(a, row + 1, count - 1, 0) == count - 1);
		EXPECT(a->slabs.units == 1 && slab_at(row[0])->free == 63);
		audit_arena(a);
	}
}

/* ---- ranges, as the purger takes them ---- */

static void ranges_are_as_their_bits(void)
{
	struct rng rng = { 3 };
	unsigned class = class_of_request(16);
	struct slab *s;

	start();
	take_many(class, blocks_of(class));
	s = slab_at(blocks[0]);
	for (int round = 0; round < 20000; round++) {
		uint32_t from = (uint32_t)rng_below(&rng, s->blocks - 1u);
		uint32_t to = from + 1 + (uint32_t)rng_below(&rng, round % 2 ? 9 : 300);
		size_t set = 0, free = s->free;

		to = to < s->blocks ? to : s->blocks;
		for (uint32_t i = from; i < to; i++)
			set += s->bits[i / 64] >> i % 64 & 1;
		EXPECT(slab_range_is(s, from, to, true) == (set == to - from));
		EXPECT(slab_range_is(s, from, to, false) == (set == 0));
		if (set == 0 && free + (to - from) < s->blocks) {
			give_many(from, to);
		} else if (set == to - from) {
			slab_hide(a, s, from, to);
			EXPECT(s->claimed == to - from && s->free == free - (to - from));
			audit_arena(a);
			slab_show(a, s, from, to);
			EXPECT(s->claimed == 0 && s->free == free);
			for (uint32_t i = 0; i < to - from; i++)
				EXPECT(take(class) != NULL);
		}
		if (round % 64 == 0)
			audit_arena(a);
	}
}

static void it_ends_when_the_purger_brings_the_rest(void)
{
	unsigned class = class_of_request(4096), count = blocks_of(class);
	struct slab *s;

	start();
	take_many(class, count);
	s = slab_at(blocks[0]);
	give_many(1, count);
	slab_hide(a, s, 1, count);
	EXPECT(s->free == 0 && s->ring == SLAB_RINGS);
	give(blocks[0]);
	EXPECT(s->free == 1 && window.bins[s - window.slabs] != 0);
	audit_arena(a);
	slab_show(a, s, 1, count);
	EXPECT(window.bins[s - window.slabs] == 0 && a->slabs.units == 0);
	audit_arena(a);
}

/* ---- against a model ---- */

#define LIVE 3000

static struct live {
	void *block;
	unsigned class;
	uint64_t seed;
} live[LIVE + 64];
static size_t live_count;

static void model_takes(struct rng *rng)
{
	void *got[64];
	/* Few classes at a time, so that slabs fill and end. */
	unsigned class = (unsigned)(rng_below(rng, 6) * 17 % SLAB_CLASSES);
	unsigned want = 1 + (unsigned)rng_below(rng, 64);

	EXPECT(slab_take(a, class, got, want) == want);
	for (unsigned i = 0; i < want; i++) {
		live[live_count] = (struct live){ got[i], class, rng_next(rng) };
		pattern_fill(got[i], class_sizes[class], live[live_count++].seed);
	}
}

static void model_gives(struct rng *rng)
{
	size_t count = 1 + rng_below(rng, 64), row_count = 0;
	void *row[64];

	for (; count > 0 && live_count > 0; count--) {
		struct live *l = &live[rng_below(rng, live_count)];
		size_t size = class_sizes[l->class];

		EXPECT(slab_of(l->block, "free")->class == l->class);
		EXPECT(pattern_match(l->block, size, l->seed) == size);
		row[row_count++] = l->block;
		*l = live[--live_count];
	}
	EXPECT(slab_give(a, row, (unsigned)row_count, 0) == row_count);
}

static void blocks_keep_what_is_in_them(void)
{
	struct rng rng = { 11 };
	size_t bytes;

	start();
	for (unsigned round = 0; round < 20000; round++) {
		bool grows = round / 1000 % 2 == 0;

		if (live_count < LIVE && rng_below(&rng, 10) < (grows ? 7 : 3))
			model_takes(&rng);
		else
			model_gives(&rng);
		bytes = 0;
		for (size_t i = 0; i < live_count; i++)
			bytes += class_sizes[live[i].class];
		EXPECT(a->slabs.live_bytes == bytes);
		if (round % 64 == 0)
			audit_arena(a);
	}
	while (live_count > 0)
		model_gives(&rng);
	EXPECT(a->slabs.units == 0 && a->slabs.live_bytes == 0);
	audit_arena(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_slab_is_full_of_blocks),
		child_test(each_byte_belongs_to_its_block),
		child_test(blocks_are_as_aligned_as_their_size),
		child_test(its_units_lead_to_its_class_and_no_others),
		child_test(only_pages_of_taken_blocks_are_touched),
		child_test(the_lowest_is_taken_first),
		child_test(a_refill_goes_on_in_the_next_slab),
		child_test(those_in_the_middle_are_filled_first),
		child_test(fullness_has_these_borders),
		child_test(without_live_blocks_it_ends),
		child_test(its_place_may_go_to_another_class),
		child_test(memory_may_be_refused),
		child_test(crimes_are_noticed),
		child_test(a_row_may_run_either_way),
		child_test(a_row_may_turn),
		child_test(a_row_may_pass_from_slab_to_slab),
		child_test(ranges_are_as_their_bits),
		child_test(it_ends_when_the_purger_brings_the_rest),
		child_test(blocks_keep_what_is_in_them),
	};

	classes_init();
	return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
