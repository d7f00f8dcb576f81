/*
 * compare: what is in both looks, new and gone; growth; late blocks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "doctor/compare.h"
#include "doctor/drawn.h"

#define BASE 0x10000000ul
#define MAPPED (BASE + 0x10000000ul)
#define PAGE_BYTES 4096

struct looks {
	struct model before, after;
	struct compare compare;
};

/* One region each; "" stands for none. */
static void looks_draw(struct looks *looks, const char *before, const char *after)
{
	*looks = (struct looks){ 0 };
	if (*before)
		drawn_region(&looks->before, MODEL_BREAK, 0, BASE, before, "R");
	if (*after)
		drawn_region(&looks->after, MODEL_BREAK, 0, BASE, after, "R");
}

static void looks_compare(struct looks *looks)
{
	drawn_finish(&looks->before);
	drawn_finish(&looks->after);
	compare_fill(&looks->before, &looks->after, &looks->compare);
}

static void looks_free(struct looks *looks)
{
	compare_free(&looks->compare);
	model_free(&looks->before);
	model_free(&looks->after);
}

static void assert_count(const struct compare_count *count, size_t blocks, uint64_t bytes)
{
	assert_int_equal(count->blocks, blocks);
	assert_int_equal(count->bytes, bytes);
}

static void test_blocks(void **state)
{
	struct looks looks;
	const struct compare_change *all = &looks.compare.all;

	(void)state;
	/* Kept; freed; smaller in its place, and a new one behind it; freed into a cache; new. */
	looks_draw(&looks, "I32 L64 L48 L96 L32 T3824", "I32 L64 B48 L64 L32 C32 L128 T3728");
	drawn_region(&looks.before, MODEL_MAPPED, 0, MAPPED, "L8192", "R");
	drawn_region(&looks.after, MODEL_MAPPED, 0, MAPPED, "L8192", "R");
	drawn_region(&looks.after, MODEL_MAPPED, 0, MAPPED + 0x10000, "L12288", "R");
	looks_compare(&looks);
	assert_count(&all->before, 5, 64 + 48 + 96 + 32 + 8192);
	assert_count(&all->after, 6, 64 + 64 + 32 + 128 + 8192 + 12288);
	assert_count(&all->both, 2, 64 + 8192);
	assert_count(&all->gone, 3, 48 + 96 + 32);
	assert_count(&all->fresh, 4, 64 + 32 + 128 + 12288);
	looks_free(&looks);
}

static void test_classes(void **state)
{
	struct looks looks;
	const struct compare_change *class;

	(void)state;
	looks_draw(&looks, "L32 L32 L48 T3984", "L32 B32 L48 L48 L2048 L2000 T3984");
	looks_compare(&looks);
	class = &looks.compare.classes[account_class_of(32)];
	assert_count(&class->before, 2, 64);
	assert_count(&class->after, 1, 32);
	assert_count(&class->both, 1, 32);
	assert_count(&class->gone, 1, 32);
	assert_count(&class->fresh, 0, 0);
	assert_int_equal(compare_grown(class), 0);
	class = &looks.compare.classes[account_class_of(2048)];
	assert_count(&class->fresh, 2, 4048);
	assert_int_equal(compare_most(&looks.compare), account_class_of(2048));
	assert_int_equal(compare_grown(&looks.compare.all), 48 + 4048 - 32);
	looks_free(&looks);

	/* All went: no class grew. */
	looks_draw(&looks, "L32 L32 T4032", "");
	looks_compare(&looks);
	assert_int_equal(compare_most(&looks.compare), ACCOUNT_CLASSES);
	assert_int_equal(compare_grown(&looks.compare.all), 0);
	assert_count(&looks.compare.all.gone, 2, 64);
	looks_free(&looks);
}

static bool is_leak(uint64_t before, uint64_t after, unsigned percent, uint64_t bytes)
{
	struct compare compare = { .all = { .before.bytes = before, .after.bytes = after } };

	return compare_is_leak(&compare, &(struct verdict_limits){ percent, bytes });
}

static void test_leak(void **state)
{
	(void)state;
	assert_true(is_leak(400, 500, 25, 100));
	assert_false(is_leak(401, 501, 25, 100));
	assert_false(is_leak(400, 499, 10, 100));
	assert_true(is_leak(0, 100, 100, 100));
	assert_false(is_leak(500, 400, 1, 0));
	assert_false(is_leak(400, 400, 1, 0));
}

/* Free blocks of 5 pages, at a page's begin: 5 of its pages are whole. */
#define OLD "L4096 "
#define FREE "B20480 "
#define USED "L20480 "
#define LATE "L4096 "

static void assert_late(const char *before, const char *after, size_t blocks, int pages,
                        int old_pages, uint64_t address)
{
	struct looks looks;
	const struct compare_late *late = &looks.compare.late;

	looks_draw(&looks, before, after);
	looks_compare(&looks);
	assert_count(&late->blocks, blocks, blocks * PAGE_BYTES);
	assert_int_equal(late->held_bytes, pages * PAGE_BYTES);
	assert_int_equal(late->old_bytes, old_pages * PAGE_BYTES);
	assert_int_equal(late->address, address);
	looks_free(&looks);
}

static void test_late(void **state)
{
	(void)state;
	/* Above what was free before, */
	assert_late(OLD FREE USED "T4096", OLD FREE "B20480 " LATE "T4096", 1, 10, 5,
	            BASE + 11 * PAGE_BYTES);
	/* and what was several free blocks, or the top. */
	assert_late(OLD "B2048 F6144 B12288 T40960", OLD FREE LATE "T36864", 1, 5, 5,
	            BASE + 6 * PAGE_BYTES);
	assert_late(OLD "T45056", OLD FREE LATE "T20480", 1, 5, 5, BASE + 6 * PAGE_BYTES);
	assert_late(OLD "T45056", OLD "B2048 F6144 B12288 " LATE "T20480", 1, 5, 5,
	            BASE + 6 * PAGE_BYTES);
	/* An older block above holds it too, */
	assert_late(OLD FREE LATE "T4096", OLD FREE LATE "T4096", 0, 0, 0, 0);
	assert_late(OLD FREE OLD "T20480", OLD FREE OLD LATE "T16384", 0, 0, 0, 0);
	/* but not one below, and a block that another's memory follows is not judged. */
	assert_late(OLD FREE OLD "T45056", OLD FREE OLD FREE LATE "T20480", 1, 5, 5,
	            BASE + 12 * PAGE_BYTES);
	assert_late(OLD "T45056", OLD FREE LATE "X4096 T16384", 0, 0, 0, 0);
	/* The last of several, none of them below the lowest free memory. */
	assert_late(OLD "T45056", OLD LATE FREE LATE LATE "T12288", 2, 5, 5,
	            BASE + 8 * PAGE_BYTES);
	/* The same address, but another size: a new block. */
	assert_late(OLD FREE "L8192 T4096", OLD FREE LATE "T8192", 1, 5, 5,
	            BASE + 6 * PAGE_BYTES);
}

static void test_late_not_resident(void **state)
{
	struct looks looks = { 0 };

	(void)state;
	drawn_region(&looks.before, MODEL_BREAK, 0, BASE, OLD "T45056", "R");
	drawn_region(&looks.after, MODEL_BREAK, 0, BASE, OLD FREE LATE "T20480", "R--RR-R");
	looks_compare(&looks);
	assert_int_equal(looks.compare.late.held_bytes, 2 * PAGE_BYTES);
	looks_free(&looks);
}

/* --- chance --- */

static void model_draw_by_chance(struct model *model)
{
	static const enum model_state states[] = { MODEL_LIVE, MODEL_CACHED, MODEL_INTERNAL };
	size_t regions = (size_t)rand() % 4;

	for (size_t i = 0; i < regions; i++) {
		uint64_t address = BASE + i * 0x100000;

		if (rand() % 3 == 0)
			continue;
		model_begin_region(model, MODEL_MAPPED, 0, address);
		for (int block = rand() % 50 + 1; block--; address += MODEL_GRAIN * (rand() % 3 + 1ul))
			model_add_block(model, address, states[rand() % 3]);
		model_end_region(model, address);
	}
	drawn_finish(model);
}

static bool has_live(const struct model *model, uint64_t begin, uint64_t bytes)
{
	size_t block = model_find(model, begin);

	return block != MODEL_NONE && model_block_address(model, block) == begin &&
	       model_block_state(model, block) == MODEL_LIVE &&
	       model_block_end(model, model_region_at(model, begin), block) == begin + bytes;
}

/* Counts the live blocks of one model that the other has, and those that it has not. */
static void model_count(const struct model *model, const struct model *other,
                        struct compare_count *both, struct compare_count *alone)
{
	for (size_t i = 0; i < model->region_count; i++)
		for (size_t k = 0; k < model->regions[i].block_count; k++) {
			size_t block = model->regions[i].first_block + k;
			uint64_t begin = model_block_address(model, block);
			uint64_t bytes = model_block_end(model, &model->regions[i], block) - begin;
			struct compare_count *count = has_live(other, begin, bytes) ? both : alone;

			if (model_block_state(model, block) != MODEL_LIVE)
				continue;
			count->blocks++;
			count->bytes += bytes;
		}
}

static void test_chance(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 3000; seed++) {
		struct looks looks = { 0 };
		const struct compare_change *all = &looks.compare.all;
		struct compare_count both = { 0 }, gone = { 0 }, fresh = { 0 }, again = { 0 };

		srand(seed);
		model_draw_by_chance(&looks.before);
		model_draw_by_chance(&looks.after);
		compare_fill(&looks.before, &looks.after, &looks.compare);
		model_count(&looks.before, &looks.after, &both, &gone);
		model_count(&looks.after, &looks.before, &again, &fresh);
		assert_count(&all->both, both.blocks, both.bytes);
		assert_count(&all->gone, gone.blocks, gone.bytes);
		assert_count(&all->fresh, fresh.blocks, fresh.bytes);
		assert_count(&all->before, both.blocks + gone.blocks, both.bytes + gone.bytes);
		assert_count(&all->after, both.blocks + fresh.blocks, both.bytes + fresh.bytes);
		for (size_t i = 0; i < ACCOUNT_CLASSES; i++) {
			both.blocks -= looks.compare.classes[i].both.blocks;
			gone.bytes -= looks.compare.classes[i].gone.bytes;
			fresh.bytes -= looks.compare.classes[i].fresh.bytes;
		}
		assert_int_equal(both.blocks + gone.bytes + fresh.bytes, 0);
		looks_free(&looks);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_leak),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_late_not_resident),
		cmocka_unit_test(test_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
