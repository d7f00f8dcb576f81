/*
 * heap/classes: the tables against a statement of their own, by another rule than
 * the one that fills them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/settings.h"
#include "heap/chunk.h"
#include "heap/classes.h"

#define KIB ((size_t)1 << 10)

/* The least class for a request of so many bytes, by its leading bits alone. */
static size_t rounded(size_t bytes)
{
	size_t step = 16;

	/* Eight steps from each power of two to the next; none finer than 16. */
	while (bytes > 16 * step && bytes > KIB)
		step *= 2;
	return (bytes + step - 1) / step * step;
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
	assert_int_equal(class_sizes[0], CLASS_STEP);
	assert_int_equal(class_sizes[SLAB_CLASSES - 1], SLAB_LARGEST);
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
	for (size_t bytes = CLASS_STEP; bytes <= CLASS_LARGEST; bytes += CLASS_STEP) {
		assert_int_equal(class_sizes[class_of_request(bytes)], rounded(bytes));
		classes += rounded(bytes) == bytes;
	}
	assert_int_equal(classes, CLASSES);
}

static void each_request_fits_with_little_waste(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes <= CLASS_LARGEST; bytes++) {
		size_t exact = bytes == 0 ? CLASS_STEP : align_up(bytes, CLASS_STEP);
		size_t holds = class_sizes[class_of_request(bytes)];

		assert_true(holds >= bytes);
		if (bytes <= CLASS_EVEN)
			assert_int_equal(holds, exact);
		else
			assert_true((holds - exact) * 8 <= exact);
	}
	assert_int_equal(class_of_request(CLASS_LARGEST), CLASSES - 1);
}

/* To there the fast path counts steps: the class is one less than they are. */
static void even_classes_are_numbered_by_their_steps(void **state)
{
	(void)state;
	for (size_t steps = 1; steps <= CLASS_EVEN / CLASS_STEP; steps++)
		assert_int_equal(class_of_request(steps * CLASS_STEP), steps - 1);
}

/* What a block counts as when it is freed must serve every request of that class. */
static void a_block_counts_as_what_it_holds(void **state)
{
	(void)state;
	for (size_t usable = CLASS_STEP; usable < CLASS_LARGEST + CLASS_STEP; usable++) {
		unsigned class = class_of_usable(usable);

		assert_true(class < CLASSES && class_sizes[class] <= usable);
		assert_true(class == CLASSES - 1 || class_sizes[class + 1] > usable);
	}
	assert_int_equal(class_of_usable(CLASS_LARGEST + CLASS_STEP), CLASS_NONE);
	assert_int_equal(class_of_usable(SIZE_MAX), CLASS_NONE);
}

static void up_and_down_agree_on_a_class(void **state)
{
	(void)state;
	for (unsigned c = 0; c < CLASSES; c++) {
		assert_int_equal(class_of_request(class_sizes[c]), c);
		assert_int_equal(class_of_usable(class_sizes[c]), c);
	}
}

/* Of a chunk eight bytes more are usable than a class says, and never another class. */
static void a_chunk_for_a_class_counts_as_that_class(void **state)
{
	(void)state;
	for (unsigned c = 0; c < CLASSES; c++) {
		size_t size = request_to_size(class_sizes[c]);

		assert_int_equal(class_of_usable(size - SIZE_SZ), c);
		assert_true(size < DEFAULT_MMAP_THRESHOLD);
	}
}

static void below_the_smallest_block_is_none(void **state)
{
	(void)state;
	for (size_t usable = 0; usable < CLASS_STEP; usable++)
		assert_int_equal(class_of_usable(usable), CLASS_NONE);
	assert_int_equal(class_of_request(0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_ascend_in_steps_of_16),
		cmocka_unit_test(the_classes_are_those_of_the_rule),
		cmocka_unit_test(each_request_fits_with_little_waste),
		cmocka_unit_test(even_classes_are_numbered_by_their_steps),
		cmocka_unit_test(a_block_counts_as_what_it_holds),
		cmocka_unit_test(up_and_down_agree_on_a_class),
		cmocka_unit_test(a_chunk_for_a_class_counts_as_that_class),
		cmocka_unit_test(below_the_smallest_block_is_none),
	};

	return cmocka_run_group_tests_name("classes", tests, tables, NULL);
}
