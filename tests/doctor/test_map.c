/*
 * doctor/map: every byte of a heap is in one cell, with the doctor's own sums.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/account.h"
#include "doctor/drawn.h"
#include "doctor/map.h"

#define BASE 0x10000000ul

static void assert_sums(const struct model *model, const struct map *map)
{
	struct account account;
	uint64_t absent = 0;

	account_fill(model, &account);
	assert_int_equal(map->resident_bytes, account.heap_bytes);
	assert_int_equal(map->bytes[MAP_LIVE], account.resident[MODEL_LIVE]);
	assert_int_equal(map->bytes[MAP_INTERNAL], account.resident[MODEL_INTERNAL]);
	assert_int_equal(map->bytes[MAP_FOREIGN], account.resident[MODEL_FOREIGN]);
	assert_int_equal(map->bytes[MAP_PINNED], account.shared_bytes);
	assert_int_equal(map->bytes[MAP_CACHED], account.whole[MODEL_CACHED]);
	assert_int_equal(map->bytes[MAP_FREE], account.whole[MODEL_FAST] + account.whole[MODEL_BIN]);
	assert_int_equal(map->bytes[MAP_TOP], account.whole[MODEL_TOP]);
	for (int state = 0; state < MODEL_STATES; state++)
		absent += account.absent[state];
	assert_int_equal(map->bytes[MAP_UNTOUCHED] + map->bytes[MAP_GONE], absent);
}

/* I1 to I3. */
static void assert_whole(const struct model *model, const struct map *map)
{
	size_t cells = 0, rows = 0;
	uint64_t heap = 0, drawn = 0;

	for (size_t i = 0; i < map->section_count; i++) {
		assert_int_equal(map->sections[i].first_row, rows);
		rows += map->sections[i].row_count;
	}
	assert_int_equal(rows, map->row_count);
	for (size_t i = 0; i < map->row_count; i++) {
		assert_int_equal(map->rows[i].first_cell, cells);
		assert_true(map->rows[i].cell_count <= MAP_COLUMNS);
		cells += map->rows[i].cell_count;
	}
	assert_int_equal(cells, map->cell_count);
	for (size_t i = 0; i < map->cell_count; i++) {
		const struct map_cell *cell = &map->cells[i];
		const struct model_region *region = &model->regions[cell->region];
		uint64_t bytes = 0;

		for (int state = 0; state < MAP_STATES; state++)
			bytes += cell->bytes[state];
		assert_int_equal(bytes, cell->end - cell->begin);
		assert_int_equal(cell->first_block, model_find(model, cell->begin));
		assert_int_equal(cell->first_block + cell->block_count - 1,
		                 model_find(model, cell->end - 1));
		if (!i || cell[-1].region != cell->region)
			assert_int_equal(cell->begin, region->begin);
		else
			assert_int_equal(cell->begin, cell[-1].end);
		if (i + 1 == map->cell_count || cell[1].region != cell->region)
			assert_int_equal(cell->end, region->end);
		drawn += bytes;
	}
	for (size_t i = 0; i < model->region_count; i++)
		heap += model->regions[i].end - model->regions[i].begin;
	assert_int_equal(drawn, heap);
}

static void draw(struct model *model, struct map *map)
{
	drawn_finish(model);
	assert_true(map_draw(model, map));
	assert_sums(model, map);
	assert_whole(model, map);
}

static void done(struct model *model, struct map *map)
{
	map_free(map);
	model_free(model);
}

static void test_states(void **state)
{
	struct model model = { 0 };
	struct map map;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE + 32,
	             "I64 L4000 B4096 L16 C4080 F16 B4080 C4096 X16 B4080 T12288 L8192",
	             "RRRRRRR-R-R");
	draw(&model, &map);
	assert_int_equal(map.cell_pages, 1);
	assert_int_equal(map.row_count, 1);
	assert_int_equal(map.cells[0].bytes[MAP_INTERNAL], 64);
	assert_int_equal(map.cells[2].bytes[MAP_PINNED], 4080);
	assert_int_equal(map.cells[2].bytes[MAP_LIVE], 16);
	assert_int_equal(map.bytes[MAP_GONE], 4096);
	done(&model, &map);
}

/* The gap begins with a cell, and what is shorter than a row is none. */
static void test_gaps(void **state)
{
	char pages[1024];
	struct model model = { 0 };
	struct map map;

	(void)state;
	memset(pages, '-', sizeof(pages));
	pages[0] = pages[256] = pages[513] = 'R';
	pages[514] = '\0';
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L2105344", pages);
	draw(&model, &map);
	assert_int_equal(map.row_count, 4);
	assert_int_equal(map.rows[0].cell_count, 256);
	assert_int_equal(map.rows[1].cell_count, 1);
	assert_false(map.rows[1].is_gap);
	assert_true(map.rows[2].is_gap);
	assert_int_equal(map.rows[2].cell_count, 1);
	assert_int_equal(map.cells[257].begin, BASE + 257 * MODEL_PAGE);
	assert_int_equal(map.cells[257].bytes[MAP_UNTOUCHED], 256 * MODEL_PAGE);
	assert_false(map.rows[3].is_gap);
	done(&model, &map);
}

static void test_sections(void **state)
{
	struct model model = { 0 };
	struct map map;

	(void)state;
	drawn_region(&model, MODEL_MAPPED, 0, BASE + 0x900000, "I16 L8176", "R");
	drawn_region(&model, MODEL_HEAP, 2, BASE + 0x800000, "L4096 T4096", "R");
	drawn_region(&model, MODEL_MAPPED, 0, BASE + 0x700000, "I16 L8176", "R-");
	drawn_region(&model, MODEL_HEAP, 1, BASE + 0x600000, "L4096", "R");
	drawn_region(&model, MODEL_HEAP, 2, BASE + 0x500000, "L4096", "R");
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4096 T4096", "R");
	draw(&model, &map);
	assert_int_equal(map.section_count, 4);
	assert_int_equal(map.sections[0].kind, MODEL_BREAK);
	assert_int_equal(map.sections[1].region_count, 1);
	assert_int_equal(map.sections[2].region_count, 2);
	assert_int_equal(model.regions[map.sections[2].first_region].begin, BASE + 0x500000);
	assert_int_equal(model.regions[map.sections[2].last_region].begin, BASE + 0x800000);
	assert_int_equal(map.sections[3].kind, MODEL_MAPPED);
	assert_int_equal(map.row_count, 4);
	done(&model, &map);
}

/* Arenas and mapped blocks without end stay a picture of some 40,000 cells. */
static void test_many(void **state)
{
	struct model model = { 0 };
	struct map map;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		drawn_region(&model, MODEL_HEAP, i, BASE + 0x4000000ul * i,
		             "I32 L81888 B200000 T127376", "R--R");
	for (uint32_t i = 0; i < 1000; i++)
		drawn_region(&model, MODEL_MAPPED, 0, BASE + 0x4000000ul * i + 0x2000000,
		             "I16 L1048560", "R-");
	draw(&model, &map);
	assert_int_equal(map.section_count, 2);
	assert_in_range(map.cell_count, 20000, 42000);
	assert_in_range(map.row_count, 80, 200);
	done(&model, &map);
}

static void test_large(void **state)
{
	struct model model = { 0 };
	size_t pages = 1 << 20, at = 0;
	uint8_t *resident;
	struct map map;

	(void)state;
	/* A block in 300 pages stays: alternately a cell and a gap, if cells were pages. */
	model_add_arena(&model, &(struct model_arena){ 0 });
	model_begin_region(&model, MODEL_BREAK, 0, BASE);
	for (; at + 300 < pages; at += 300)
		model_add_block(&model, BASE + at * MODEL_PAGE, MODEL_LIVE);
	resident = model_end_region(&model, BASE + pages * MODEL_PAGE);
	for (at = 0; at + 300 < pages; at += 300)
		resident[at] = MODEL_RESIDENT;
	draw(&model, &map);
	assert_int_equal(map.cell_pages, 32);
	assert_in_range(map.cell_count, 20000, 42000);
	for (size_t i = 0; i < map.row_count; i++)
		assert_false(map.rows[i].is_gap);
	done(&model, &map);
}

static void test_empty(void **state)
{
	struct model model = { 0 };
	struct map map;

	(void)state;
	draw(&model, &map);
	assert_int_equal(map.cell_count + map.row_count + map.section_count, 0);
	done(&model, &map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states), cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_sections), cmocka_unit_test(test_many),
		cmocka_unit_test(test_large), cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
