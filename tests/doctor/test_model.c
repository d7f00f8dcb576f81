/*
 * model: what is added is found again, and each invariant is checked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/drawn.h"

#define BASE 0x10000000ul

static void test_find(void **state)
{
	struct model model = { 0 };

	(void)state;
	/* Added out of order. */
	drawn_region(&model, MODEL_HEAP, 1, BASE + 0x100000, "I2240 L64 B8000 L48 T1888", "R");
	drawn_region(&model, MODEL_MAPPED, 0, BASE + 0x200000, "I48 L131024", "R-");
	drawn_region(&model, MODEL_BREAK, 0, BASE + 32, "L32 L48 F32 L20000 T4096", "R");
	drawn_finish(&model);

	assert_int_equal(model.regions[0].begin, BASE + 32);
	for (size_t r = 0; r < model.region_count; r++) {
		const struct model_region *region = &model.regions[r];

		for (size_t i = 0; i < region->block_count; i++) {
			size_t block = region->first_block + i;
			uint64_t begin = model_block_address(&model, block);
			uint64_t end = model_block_end(&model, region, block);

			assert_int_equal(model_find(&model, begin), block);
			assert_int_equal(model_find(&model, begin + 1), block);
			assert_int_equal(model_find(&model, (begin + end) / 2), block);
			assert_int_equal(model_find(&model, end - 1), block);
		}
	}
	assert_int_equal(model_find(&model, BASE), MODEL_NONE);
	assert_int_equal(model_find(&model, BASE + 31), MODEL_NONE);
	assert_int_equal(model_find(&model, BASE + 0x100000 - 1), MODEL_NONE);
	assert_int_equal(model_find(&model, BASE + 0x200000 + 48 + 131024), MODEL_NONE);
	assert_int_equal(model_find(&model, UINT64_MAX), MODEL_NONE);
	model_free(&model);
}

static void test_many(void **state)
{
	struct model model = { 0 };
	size_t count = 1000000;

	(void)state;
	model_begin_region(&model, MODEL_BREAK, 0, BASE);
	for (size_t i = 0; i < count; i++)
		model_add_block(&model, BASE + 48 * i, i % 2 ? MODEL_LIVE : MODEL_CACHED);
	model_end_region(&model, BASE + 48 * count);
	model_add_arena(&model, &(struct model_arena){ 0 });
	drawn_finish(&model);
	for (size_t i = 0; i < count; i += 997) {
		size_t block = model_find(&model, BASE + 48 * i + 20);

		assert_int_equal(block, i);
		assert_int_equal(model_block_state(&model, block), i % 2 ? MODEL_LIVE : MODEL_CACHED);
	}
	model_free(&model);
}

static void test_pages(void **state)
{
	struct model model = { 0 };

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE + 4000, "L16384", "R-ZSR");
	drawn_finish(&model);
	assert_int_equal(model_region_pages(&model.regions[0]), 5);
	assert_int_equal(model_page_at(&model, &model.regions[0], BASE + 4000), MODEL_RESIDENT);
	assert_int_equal(model_page_at(&model, &model.regions[0], BASE + 4096), MODEL_ABSENT);
	assert_int_equal(model_page_at(&model, &model.regions[0], BASE + 2 * 4096), MODEL_ZERO);
	assert_int_equal(model_page_at(&model, &model.regions[0], BASE + 4 * 4096 - 1), MODEL_SWAPPED);
	assert_int_equal(model_page_at(&model, &model.regions[0], BASE + 4 * 4096 + 8), MODEL_RESIDENT);
	model_free(&model);
}

/* What mallinfo2 says of such arenas. */
static void test_totals(void **state)
{
	struct model model = { 0 };
	struct model_totals totals;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "I656 L32 F48 F48 B1024 C64 L128 T4096", "R");
	drawn_region(&model, MODEL_HEAP, 1, BASE + 0x100000, "I2240 B96 L32 T1728", "R");
	model.settings.mapped_blocks = 3;
	model.settings.mapped_bytes = 12288;
	drawn_finish(&model);
	model_totals(&model, &totals);
	assert_int_equal(totals.arena, 656 + 32 + 96 + 1024 + 64 + 128 + 4096 + 4096);
	assert_int_equal(totals.ordblks, 4);
	assert_int_equal(totals.smblks, 2);
	assert_int_equal(totals.fsmblks, 96);
	assert_int_equal(totals.fordblks, 96 + 1024 + 4096 + 96 + 1728);
	assert_int_equal(totals.uordblks, totals.arena - totals.fordblks);
	assert_int_equal(totals.keepcost, 4096);
	assert_int_equal(totals.hblks, 3);
	assert_int_equal(totals.hblkhd, 12288);
	model_free(&model);
}

static void test_invariants(void **state)
{
	struct model model = { 0 };

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 F32 B64 T3968", "R");
	drawn_region(&model, MODEL_HEAP, 1, BASE + 0x10000, "I48 T4048", "R");
	drawn_finish(&model);

	model.regions[1].begin = BASE + 16;
	assert_int_equal(model_check(&model), 1);
	model.regions[1].begin = BASE + 0x10000;
	model.blocks[1] = (BASE + 128) | MODEL_FAST;
	assert_int_equal(model_check(&model), 2);
	model.blocks[1] = (BASE + 32) | MODEL_FAST;
	model.regions[1].end += 8;
	assert_int_equal(model_check(&model), 3);
	model.regions[1].end -= 8;
	model.page_count++;
	assert_int_equal(model_check(&model), 4);
	model.page_count--;
	model.regions[1].arena = 2;
	assert_int_equal(model_check(&model), 5);
	model.regions[1].arena = 1;
	model_block_become(&model, 1, MODEL_LIVE);
	assert_int_equal(model_check(&model), 6);
	model_block_become(&model, 1, MODEL_FAST);
	assert_int_equal(model_check(&model), 0);
	model_free(&model);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(model_state_name(MODEL_LIVE), "live");
	assert_string_equal(model_state_name(MODEL_FOREIGN), "foreign");
	assert_false(model_state_is_free(MODEL_LIVE));
	assert_true(model_state_is_free(MODEL_CACHED));
	assert_true(model_state_is_free(MODEL_TOP));
	assert_false(model_state_is_free(MODEL_INTERNAL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_invariants),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
