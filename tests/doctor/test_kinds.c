/*
 * kinds, groups, pins and compare's groups: tables of kinds, and blocks by size and kind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/compare.h"
#include "doctor/drawn.h"
#include "doctor/pins.h"

#define BASE 0x10000000ul

static bool add(struct kinds *kinds, enum kind_form form, const char *name)
{
	struct kind kind = { .form = form };

	strcpy(kind.name, name);
	return kinds_add(kinds, &kind);
}

static uint16_t find(const struct kinds *kinds, enum kind_form form, const char *name)
{
	struct kind kind = { .form = form };

	strcpy(kind.name, name);
	return kinds_find(kinds, &kind);
}

static void test_table(void **state)
{
	struct kinds kinds = { 0 };
	struct kind strange = { .form = KIND_FILE };

	(void)state;
	assert_true(kinds_open(&kinds, 10));
	assert_int_equal(find(&kinds, KIND_OBJECT, "a"), KIND_UNKNOWN);
	assert_true(add(&kinds, KIND_OBJECT, "a"));
	assert_true(add(&kinds, KIND_OBJECT, "b"));
	assert_true(add(&kinds, KIND_DATA, "a"));
	/* Alike, before, without a name by its form, of no form. */
	assert_false(add(&kinds, KIND_DATA, "a"));
	assert_false(add(&kinds, KIND_OBJECT, "c"));
	assert_false(add(&kinds, KIND_TEXT, "z"));
	assert_false(add(&kinds, KIND_FORMS, "z"));
	assert_int_equal(kinds.count, 3);
	assert_int_equal(find(&kinds, KIND_OBJECT, "b"), KIND_PLAIN + 1);
	assert_int_equal(find(&kinds, KIND_DATA, "b"), KIND_UNKNOWN);
	assert_int_equal(find(&kinds, KIND_TEXT, ""), KIND_TEXT);
	assert_string_equal(kinds_kind(&kinds, KIND_PLAIN + 2).name, "a");
	assert_int_equal(kinds_kind(&kinds, KIND_ZEROS).form, KIND_ZEROS);
	kinds_free(&kinds);
	/* What steers a terminal, and no end. */
	strcpy(strange.name, "b\033[2J\x9b\n");
	kind_clean(&strange);
	assert_string_equal(strange.name, "b?[2J??");
	memset(strange.name, 'x', KIND_NAME);
	kind_clean(&strange);
	assert_int_equal(strlen(strange.name), KIND_NAME - 1);
}

static void test_full_table(void **state)
{
	struct kinds kinds = { 0 };
	char name[16];

	(void)state;
	for (unsigned i = 0; i < KINDS_MOST; i++) {
		snprintf(name, sizeof(name), "%08u", i);
		assert_true(add(&kinds, KIND_OBJECT, name));
	}
	assert_false(add(&kinds, KIND_OBJECT, "z"));
	for (unsigned i = 0; i < KINDS_MOST; i++) {
		snprintf(name, sizeof(name), "%08u", i);
		assert_int_equal(find(&kinds, KIND_OBJECT, name), KIND_PLAIN + i);
	}
	kinds_free(&kinds);
}

static void test_groups(void **state)
{
	struct groups groups = groups_make(sizeof(struct pin));

	(void)state;
	for (size_t i = 0; i < 200000; i++) {
		struct pin *pin = groups_get(&groups, i % 100, i / 100 % 50);

		assert_non_null(pin);
		pin->blocks++;
	}
	assert_int_equal(groups.count, 5000);
	for (size_t i = 0; i < groups.count; i++) {
		const struct pin *pin = pins_at(&groups, i);

		assert_ptr_equal(groups_get(&groups, pin->key.class, pin->key.kind), pin);
		assert_int_equal(pin->blocks, 40);
	}
	groups_free(&groups);
}

/* Of each live block the kind that a letter stands for: a text, b and c two classes. */
static void kinds_draw(struct model *model, const char *letters)
{
	assert_true(kinds_open(&model->kinds, model->block_count));
	for (const char *name = "bc"; *name; name++)
		if (strchr(letters, *name))
			assert_true(add(&model->kinds, KIND_OBJECT, (char[]){ *name, '\0' }));
	for (size_t i = 0; i < model->block_count; i++)
		if (model_block_state(model, i) == MODEL_LIVE) {
			char letter = *letters++;

			model->kinds.of[i] = letter == 'a' ? KIND_TEXT :
			                     find(&model->kinds, KIND_OBJECT, (char[]){ letter, '\0' });
		}
	assert_int_equal(*letters, '\0');
}

static void test_pins(void **state)
{
	struct model model = { .lead = 16 };
	struct groups pins;
	const struct pin *pin;

	(void)state;
	/* Four pages: one is shared by three blocks, one by one; one is full, one not resident. */
	drawn_region(&model, MODEL_BREAK, 0, BASE,
	             "L64 B992 L64 B992 L96 B1888 L64 B4032 L4096 L64 T4032", "RRR-");
	kinds_draw(&model, "bbbbca");
	drawn_finish(&model);
	assert_true(pins_find(&model, &pins));
	assert_int_equal(pins.count, 4);
	pin = pins_at(&pins, 0);
	assert_string_equal(kinds_kind(&model.kinds, pin->key.kind).name, "b");
	assert_int_equal(pin->blocks, 3);
	assert_int_equal(pin->bytes, 3 * 64);
	/* 3872 bytes for three, of which the first has what is left over; 4032 for one. */
	assert_int_equal(pin->pinned_bytes, 3872 / 3 * 2 + 3872 % 3 + 4032);
	assert_int_equal(pin->sample, BASE + 4096 + 16);
	assert_int_equal(pin->sample_end, BASE + 4096 + 64 + 8);
	assert_int_equal(pin->last, BASE + 4096 + 16);
	pin = pins_at(&pins, 1);
	assert_int_equal(pin->pinned_bytes, 3872 / 3);
	assert_int_equal(pin->sample, BASE + 64 + 992 + 64 + 992 + 16);
	/* What pins nothing comes by its size. */
	assert_int_equal(pins_at(&pins, 2)->bytes, 4096);
	assert_int_equal(pins_at(&pins, 3)->pinned_bytes, 0);
	assert_int_equal(pins_at(&pins, 3)->sample, BASE + 3 * 4096 + 16);
	groups_free(&pins);
	model_free(&model);
}

/* The group of a size and kind, which must be there. */
static const struct compare_group *group_of(const struct compare *compare,
                                            const struct model *before,
                                            const struct model *after, uint64_t bytes,
                                            const char *name)
{
	for (size_t i = 0; i < compare->groups.count; i++) {
		const struct compare_group *group = compare_group_at(compare, i);
		const struct kind kind = compare_kind(before, after, group->key.kind);

		if (group->key.class == account_class_of(bytes) && !strcmp(kind.name, name))
			return group;
	}
	fail_msg("no group of %lu bytes and kind '%s'", bytes, name);
	return NULL;
}

static void test_growth(void **state)
{
	struct model before = { .lead = 16 }, after = { .lead = 16 };
	const struct compare_group *group;
	struct compare compare;

	(void)state;
	drawn_region(&before, MODEL_BREAK, 0, BASE, "L64 L64 L64 T3904", "R");
	drawn_region(&after, MODEL_BREAK, 0, BASE, "L64 L64 B64 L64 L64 L96 T3680", "R");
	/* The first of both stays, the second becomes another; b is in the first look alone, c
	 * has another number in each. */
	kinds_draw(&before, "acb");
	kinds_draw(&after, "aaccc");
	drawn_finish(&before);
	drawn_finish(&after);
	assert_true(compare_fill(&before, &after, &compare));
	group = group_of(&compare, &before, &after, 64, "");
	assert_int_equal(group->before.blocks, 1);
	assert_int_equal(group->after.blocks, 2);
	assert_int_equal(group->sample, 0);
	group = group_of(&compare, &before, &after, 64, "b");
	assert_int_equal(group->before.bytes, 64);
	assert_int_equal(group->after.bytes, 0);
	assert_int_equal(compare_group_grown(group), 0);
	group = group_of(&compare, &before, &after, 64, "c");
	assert_int_equal(group->before.blocks, 1);
	assert_int_equal(group->after.blocks, 2);
	assert_int_equal(group->sample, BASE + 4 * 64 + 16);
	assert_int_equal(group->sample_end, BASE + 5 * 64 + 8);
	/* What grew most comes first. */
	assert_int_equal(compare_group_grown(compare_group_at(&compare, 0)), 96);
	assert_int_equal(compare.groups.count, 4);
	compare_free(&compare);
	model_free(&before);
	model_free(&after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_full_table),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_growth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
