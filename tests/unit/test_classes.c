/*
 * heap/classes: the tables against a statement of their own, by another rule than
 * the one that fills them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "heap/chunk.h"
#include "heap/classes.h"

#define KIB ((size_t)1 << 10)

/* The least class size for a chunk of `size` bytes, by its leading bits alone. */
static size_t rounded(size_t size)
{
	size_t step = 16;

	/* Eight steps from each power of two to the next; none finer than 16. */
	while (size > 16 * step && size > KIB)
		step *= 2;
	return (size + step - 1) / step * step;
}

static int tables(void **state)
{
	(void)state;
	classes_init();
	return 0;
}

static void sizes_ascend_in_steps_of_16(void **state)
{
	(void)state;
	assert_int_equal(class_sizes[0], MIN_CHUNK);
	assert_int_equal(class_sizes[CLASSES - 1], CLASS_LARGEST);
	for (unsigned c = 0; c < CLASSES; c++) {
		assert_int_equal(class_sizes[c] % CHUNK_ALIGN, 0);
		assert_true(c == 0 || class_sizes[c] > class_sizes[c - 1]);
	}
}

static void the_classes_are_those_of_the_rule(void **state)
{
	unsigned classes = 0;

	(void)state;
	for (size_t size = MIN_CHUNK; size <= CLASS_LARGEST; size += CHUNK_ALIGN) {
		unsigned up = class_up[size / CHUNK_ALIGN];

		assert_int_equal(class_sizes[up], rounded(size));
		classes += rounded(size) == size;
	}
	assert_int_equal(classes, CLASSES);
}

static void each_request_fits_with_little_waste(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes <= CLASS_LARGEST - SIZE_SZ; bytes++) {
		size_t exact = request_to_size(bytes);
		size_t size = class_sizes[class_of_request(bytes)];

		assert_true(size >= exact && size - SIZE_SZ >= bytes);
		if (exact <= KIB)
			assert_int_equal(size, exact);
		else
			assert_true((size - exact) * 8 <= exact);
	}
	assert_int_equal(class_of_request(CLASS_LARGEST - SIZE_SZ), CLASSES - 1);
}

/* What a chunk counts as when it is freed must serve every request of that class. */
static void a_chunk_counts_as_what_it_holds(void **state)
{
	(void)state;
	for (size_t size = MIN_CHUNK; size <= CLASS_LARGEST; size += CHUNK_ALIGN) {
		unsigned down = class_down[size / CHUNK_ALIGN], up = class_up[size / CHUNK_ALIGN];

		assert_true(class_sizes[down] <= size && size <= class_sizes[up]);
		assert_true(down == CLASSES - 1 || class_sizes[down + 1] > size);
		assert_int_equal(up - down, class_sizes[down] != size);
	}
}

static void up_and_down_agree_on_a_class(void **state)
{
	(void)state;
	for (unsigned c = 0; c < CLASSES; c++) {
		assert_int_equal(class_up[class_sizes[c] / CHUNK_ALIGN], c);
		assert_int_equal(class_down[class_sizes[c] / CHUNK_ALIGN], c);
	}
}

static void below_the_smallest_chunk_is_none(void **state)
{
	(void)state;
	for (unsigned units = 0; units < MIN_CHUNK / CHUNK_ALIGN; units++) {
		assert_int_equal(class_down[units], CLASS_NONE);
		assert_int_equal(class_up[units], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_ascend_in_steps_of_16),
		cmocka_unit_test(the_classes_are_those_of_the_rule),
		cmocka_unit_test(each_request_fits_with_little_waste),
		cmocka_unit_test(a_chunk_counts_as_what_it_holds),
		cmocka_unit_test(up_and_down_agree_on_a_class),
		cmocka_unit_test(below_the_smallest_chunk_is_none),
	};

	return cmocka_run_group_tests_name("classes", tests, tables, NULL);
}
