/*
 * words and leaks: which blocks of models drawn by hand are lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/drawn.h"
#include "doctor/leaks.h"
#include "doctor/referrers.h"
#include "doctor/verdict.h"

#define BASE 0x10000000ul
#define LEAD 16

/* A heap that is drawn, with words at places. */
struct heap {
	struct model model;
	struct words words;
};

static void heap_draw(struct heap *heap, const char *blocks)
{
	*heap = (struct heap){ .model = { .lead = LEAD } };
	drawn_region(&heap->model, MODEL_BREAK, 0, BASE, blocks, "R");
	words_open(&heap->words, &heap->model, LEAD);
}

/* The words of a page of the first region, at these offsets from the page's begin. */
static void page_put(struct heap *heap, size_t page, size_t count, const size_t *offsets,
                     const uint64_t *values)
{
	uint64_t bits[WORDS_PAGE / 64] = { 0 };

	for (size_t i = 0; i < count; i++)
		bits[offsets[i] / 8 / 64] |= 1ul << offsets[i] / 8 % 64;
	words_add_page(&heap->words, page, bits, values, count);
}

/* Good until the next call. */
static struct leaks heap_leaks(struct heap *heap)
{
	static struct leaks leaks;

	leaks_free(&leaks);
	drawn_finish(&heap->model);
	assert_true(words_finish(&heap->words));
	assert_true(leaks_find(&heap->model, &heap->words, &leaks));
	words_free(&heap->words);
	model_free(&heap->model);
	return leaks;
}

static void assert_count(const struct leaks_count *count, size_t blocks, uint64_t bytes)
{
	assert_int_equal(count->blocks, blocks);
	assert_int_equal(count->bytes, bytes);
}

/* Reached with a root that is this address, of a heap of three blocks of 64 bytes. */
static uint64_t reached_from(uint64_t root)
{
	struct heap heap;
	struct leaks leaks;

	heap_draw(&heap, "L64 L64 B64 C64 L64 T3776");
	words_add_roots(&heap.words, &root, NULL, 1);
	leaks = heap_leaks(&heap);
	assert_int_equal(leaks.reached.bytes + leaks.definite.bytes, 3 * 64);
	assert_count(&leaks.indirect, 0, 0);
	return leaks.reached.blocks;
}

static void test_addresses(void **state)
{
	(void)state;
	/* A block's memory is from 16 bytes behind it to as far beyond its end. */
	assert_int_equal(reached_from(BASE), 0);
	assert_int_equal(reached_from(BASE + LEAD - 1), 0);
	assert_int_equal(reached_from(BASE + LEAD), 1);
	assert_int_equal(reached_from(BASE + 3 * 64 + LEAD - 1), 0);
	assert_int_equal(reached_from(BASE + 2 * 64 + LEAD - 1), 1);
	assert_int_equal(reached_from(BASE + 2 * 64 + LEAD), 0);
	assert_int_equal(reached_from(BASE + 4 * 64 + LEAD), 1);
	assert_int_equal(reached_from(BASE + 5 * 64 + LEAD), 0);
	assert_int_equal(reached_from(0), 0);
	assert_int_equal(reached_from(BASE + 4096), 0);
	assert_int_equal(reached_from(UINT64_MAX), 0);
}

/* In slabs a block is its user's from its begin to its end. */
static void test_slabs(void **state)
{
	static const uint64_t roots[] = { BASE + 64 };
	static const size_t place = 120;
	static const uint64_t word = BASE + 255;
	struct heap heap = { .model = { .lead = LEAD } };
	struct leaks leaks;

	(void)state;
	drawn_region(&heap.model, MODEL_SLABS, 0, BASE, "L64 L64 S64 L64 S3840", "R");
	words_open(&heap.words, &heap.model, LEAD);
	words_add_roots(&heap.words, roots, NULL, 1);
	page_put(&heap, 0, 1, &place, &word);
	leaks = heap_leaks(&heap);
	assert_count(&leaks.reached, 2, 128);
	assert_count(&leaks.definite, 1, 64);
	assert_int_equal(leaks_group_at(&leaks, 0)->samples[0], BASE);
}

/* Where one region ends the next one may begin: its address is none of the first's. */
static void test_neighbours(void **state)
{
	struct heap heap = { .model = { 0 } };
	const uint64_t roots[] = { BASE + 4096, BASE + 4096 + LEAD - 1 };
	struct leaks leaks;

	(void)state;
	drawn_region(&heap.model, MODEL_MAPPED, 0, BASE, "L4096", "R");
	drawn_region(&heap.model, MODEL_MAPPED, 0, BASE + 4096, "L4096", "R");
	words_open(&heap.words, &heap.model, LEAD);
	words_add_roots(&heap.words, roots, NULL, 2);
	leaks = heap_leaks(&heap);
	assert_int_equal(leaks.roots, 2);
	assert_count(&leaks.definite, 2, 8192);
}

/* What a block holds leads on, to its last word; what a free one holds does not. */
static void test_contents(void **state)
{
	static const size_t offsets[] = { 16, 72, 80, 160, 256 };
	const uint64_t values[] = { BASE + 400, BASE + 2000, BASE + 20 * 1024, BASE + 3000,
	                            BASE + 3500 };
	const uint64_t root = BASE + LEAD;
	struct heap heap;
	struct leaks leaks;

	(void)state;
	/*             0   64   128  192  320  1024  2048 2560  3072 3584  4096 */
	heap_draw(&heap, "L64 L64 F64 L128 L704 L1024 L512 L512 L512 L512 B8192 L8192 T4096");
	/* At 16 and 72: of the first block; at 80 of the second, at 160 of the free one, at
	 * 256 of the fourth. */
	page_put(&heap, 0, 5, offsets, values);
	words_add_roots(&heap.words, &root, NULL, 1);
	leaks = heap_leaks(&heap);
	assert_count(&leaks.reached, 3, 64 + 704 + 1024);
	/* Of the lost ones the second leads to the large one, the fourth to one of 512. */
	assert_count(&leaks.indirect, 2, 8192 + 512);
	assert_count(&leaks.definite, 5, 64 + 128 + 3 * 512);
}

/* A block over several pages, of which some have no words. */
static void test_pages(void **state)
{
	const uint64_t root = BASE + 100;
	struct heap heap;
	struct leaks leaks;

	(void)state;
	heap_draw(&heap, "L20480 L64 L64 L64 L64 L64 L64 T4096");
	page_put(&heap, 1, 1, (const size_t[]){ 4088 }, (const uint64_t[]){ BASE + 20480 + 32 });
	page_put(&heap, 3, 2, (const size_t[]){ 0, 512 },
	         (const uint64_t[]){ BASE + 20544 + 32, BASE + 20608 + 32 });
	/* At its last word, which lies on the next page, and at the first of the next block. */
	page_put(&heap, 5, 2, (const size_t[]){ 8, 16 },
	         (const uint64_t[]){ BASE + 20672 + 32, BASE + 20736 + 32 });
	words_add_roots(&heap.words, &root, NULL, 1);
	leaks = heap_leaks(&heap);
	assert_count(&leaks.reached, 6, 20480 + 5 * 64);
	assert_count(&leaks.definite, 1, 64);
}

/* Whatever comes first, of a ring one block is definite, and of two lists both heads. */
static void test_groups(void **state)
{
	/* Blocks of 64 bytes; the word at 16 of each. */
	static const size_t offsets[] = { 16, 80, 144, 208, 272, 336, 400 };
	struct heap heap;
	struct leaks leaks;

	(void)state;
	/* 0 -> 1 -> 2 -> 0: a ring; 4 -> 3; 5 -> 4; 6 -> itself. */
	heap_draw(&heap, "L64 L64 L64 L64 L64 L64 L64 T3648");
	page_put(&heap, 0, 6, (const size_t[]){ 16, 80, 144, 272, 336, 400 },
	         (const uint64_t[]){ BASE + 96, BASE + 160, BASE + 32, BASE + 224, BASE + 288,
	                             BASE + 416 });
	leaks = heap_leaks(&heap);
	assert_count(&leaks.definite, 3, 3 * 64);
	assert_count(&leaks.indirect, 4, 4 * 64);
	assert_int_equal(leaks.lost_bytes, 7 * 64);
	assert_int_equal(leaks.groups.count, 1);
	assert_int_equal(leaks_group_at(&leaks, 0)->key.class, account_class_of(64));
	assert_int_equal(leaks_group_at(&leaks, 0)->sample_count, 3);
	assert_int_equal(leaks_group_at(&leaks, 0)->samples[0], BASE + LEAD);
	assert_int_equal(leaks_group_at(&leaks, 0)->samples[1], BASE + 5 * 64 + LEAD);

	/* One that is led to comes before the one that leads there. */
	heap_draw(&heap, "L64 L64 T3968");
	page_put(&heap, 0, 1, (const size_t[]){ 80 }, (const uint64_t[]){ BASE + LEAD });
	leaks = heap_leaks(&heap);
	assert_int_equal(leaks_group_at(&leaks, 0)->sample_count, 1);
	assert_int_equal(leaks_group_at(&leaks, 0)->samples[0], BASE + 64 + LEAD);

	/* All lead to the last one, which alone is in use. */
	heap_draw(&heap, "L64 L64 L64 L64 L64 L64 L64 T3648");
	page_put(&heap, 0, 7, offsets, (const uint64_t[]){ BASE + 400, BASE + 400, BASE + 400,
	         BASE + 400, BASE + 400, BASE + 400, BASE + 400 });
	words_add_roots(&heap.words, (const uint64_t[]){ BASE + 400 }, NULL, 1);
	leaks = heap_leaks(&heap);
	assert_count(&leaks.definite, 6, 6 * 64);
	assert_count(&leaks.reached, 1, 64);
}

/* A list so long that following it must not nest, in falling order. */
static void test_long_list(void **state)
{
	struct heap heap = { .model = { 0 } };
	const size_t count = 200000, each = MODEL_PAGE / 64;
	struct leaks leaks;

	(void)state;
	model_begin_region(&heap.model, MODEL_BREAK, 0, BASE);
	for (size_t i = 0; i < count; i++)
		model_add_block(&heap.model, BASE + 64 * i, MODEL_LIVE);
	model_end_region(&heap.model, BASE + 64 * count);
	model_add_arena(&heap.model, &(struct model_arena){ 0 });
	words_open(&heap.words, &heap.model, LEAD);
	for (size_t page = 0; page < count / each; page++) {
		size_t offsets[MODEL_PAGE / 64];
		uint64_t values[MODEL_PAGE / 64];

		for (size_t i = 0; i < each; i++) {
			offsets[i] = 64 * i + 16;
			values[i] = BASE + 64 * (page * each + i) + LEAD - 64;
		}
		page_put(&heap, page, each, offsets, values);
	}
	words_add_roots(&heap.words, (const uint64_t[]){ BASE + 64 * (count - 10) + 32 }, NULL, 1);
	leaks = heap_leaks(&heap);
	assert_count(&leaks.reached, count - 9, 64 * (count - 9));
	assert_count(&leaks.definite, 1, 64);
	assert_count(&leaks.indirect, 8, 8 * 64);
}

static void test_verdict(void **state)
{
	struct verdict verdict = { .kind = VERDICT_RETENTION,
	                           .account = { .heap_bytes = 100ul << 20,
	                                        .whole_bytes = 40ul << 20 } };
	struct leaks leaks = { .lost_bytes = (40ul << 20) - 1 };

	(void)state;
	verdict_weigh_leaks(&leaks, &VERDICT_LIMITS, &verdict);
	assert_int_equal(verdict.kind, VERDICT_RETENTION);
	leaks.lost_bytes++;
	verdict_weigh_leaks(&leaks, &VERDICT_LIMITS, &verdict);
	assert_int_equal(verdict.kind, VERDICT_LEAK);
	verdict.kind = VERDICT_LIVE;
	leaks.lost_bytes = (25ul << 20) - 1;
	verdict_weigh_leaks(&leaks, &VERDICT_LIMITS, &verdict);
	assert_int_equal(verdict.kind, VERDICT_LIVE);
	verdict.account.heap_bytes = 10ul << 20;
	leaks.lost_bytes = (16ul << 20) - 1;
	verdict_weigh_leaks(&leaks, &VERDICT_LIMITS, &verdict);
	assert_int_equal(verdict.kind, VERDICT_LIVE);
	verdict.kind = VERDICT_NOT_GLIBC;
	leaks.lost_bytes = 1ul << 30;
	verdict_weigh_leaks(&leaks, &VERDICT_LIMITS, &verdict);
	assert_int_equal(verdict.kind, VERDICT_NOT_GLIBC);
}

/* Of what leads to a block one is told. */
static void test_referrers(void **state)
{
	static const size_t offsets[] = { 16, 24, 32, 80 };
	const uint64_t roots[] = { BASE + 50, BASE + LEAD, BASE + LEAD, BASE + 64 + 40 };
	const uint64_t places[] = { 0x1000, 0x2000, 0x3000, WORDS_REGISTER | 7 };
	struct referrer referrers[6];
	struct heap heap;

	(void)state;
	heap_draw(&heap, "L64 L64 L64 L64 L64 B64 L64 T3648");
	/* The first leads to the third twice and to itself, the second to the fifth, which is
	 * also led to by a root in its middle. */
	page_put(&heap, 0, 4, offsets, (const uint64_t[]){ BASE + 150, BASE + 128 + LEAD,
	                                                  BASE + LEAD, BASE + 256 + LEAD });
	words_add_roots(&heap.words, roots, places, 4);
	drawn_finish(&heap.model);
	assert_true(words_finish(&heap.words));
	for (size_t i = 0; i < 6; i++) {
		referrers[i].begin = BASE + 64 * i + LEAD;
		referrers[i].end = referrers[i].begin + 56;
	}
	referrers_find(&heap.model, &heap.words, referrers, 6);
	/* A root that leads to the begin before one that does not. */
	assert_int_equal(referrers[0].place, 0x2000);
	assert_int_equal(referrers[0].block, MODEL_NONE);
	assert_int_equal(referrers[1].place, WORDS_REGISTER | 7);
	assert_int_equal(referrers[2].place, 0);
	assert_int_equal(referrers[2].block, 0);
	assert_true(referrers[2].is_exact);
	/* None. */
	assert_int_equal(referrers[3].place, 0);
	assert_int_equal(referrers[3].block, MODEL_NONE);
	assert_int_equal(referrers[4].block, 1);
	assert_int_equal(referrers[5].block, MODEL_NONE);
	words_free(&heap.words);
	model_free(&heap.model);
}

/* What leads to itself alone has none, and what is free leads nowhere. */
static void test_no_referrers(void **state)
{
	struct referrer referrers[2] = { { .begin = BASE + LEAD, .end = BASE + LEAD + 56 },
	                                 { .begin = BASE + 64 + LEAD, .end = BASE + 64 + LEAD + 56 } };
	struct heap heap;

	(void)state;
	heap_draw(&heap, "L64 L64 F64 T3904");
	page_put(&heap, 0, 2, (const size_t[]){ 16, 144 },
	         (const uint64_t[]){ BASE + LEAD, BASE + 64 + LEAD });
	drawn_finish(&heap.model);
	assert_true(words_finish(&heap.words));
	referrers_find(&heap.model, &heap.words, referrers, 2);
	assert_int_equal(referrers[0].block, MODEL_NONE);
	assert_int_equal(referrers[1].block, MODEL_NONE);
	referrers_find(&heap.model, &heap.words, referrers, 0);
	words_free(&heap.words);
	model_free(&heap.model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_slabs),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_contents), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_referrers),
		cmocka_unit_test(test_no_referrers), cmocka_unit_test(test_long_list),
		cmocka_unit_test(test_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
