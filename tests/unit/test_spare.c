/*
 * heap/spare: which spare serves, what touches is one, and the way back to the
 * system, which a fork may interrupt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heap/spare.h"
#include "purge/decay.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define MIB ((size_t)1 << 20)
#define PLACES 64

static char *region;

/* A region of the test's own, of which it gives parts. */
static void start(size_t size)
{
	(void)script_heap(POLICY_DEFAULT);
	region = os_map(NULL, size, OS_READ_WRITE);
	EXPECT(region != NULL);
}

static void give(size_t from, size_t size)
{
	EXPECT(spare_put(region + from, size));
}

static void the_least_with_room_serves(void)
{
	start(32 * MIB);
	give(0, 4 * MIB);
	give(8 * MIB, 2 * MIB);
	give(16 * MIB, 8 * MIB);
	EXPECT(spare_bytes() == 14 * MIB && spare_count() == 3);
	EXPECT(spare_take(9 * MIB, 9 * MIB) == NULL);
	EXPECT(spare_take(MIB, MIB) == region + 8 * MIB);
	EXPECT(spare_take(MIB, 3 * MIB) == region);
	EXPECT(spare_take(3 * MIB, 3 * MIB) == region + MIB);
	EXPECT(spare_bytes() == 9 * MIB && spare_count() == 2);
}

static void the_largest_as_a_whole(void)
{
	struct os_range r;

	start(32 * MIB);
	EXPECT(!spare_take_whole(&r));
	give(0, 4 * MIB);
	give(16 * MIB, 8 * MIB);
	give(8 * MIB, 2 * MIB);
	EXPECT(spare_take_whole(&r) && r.start == region + 16 * MIB && r.size == 8 * MIB);
	EXPECT(spare_bytes() == 6 * MIB && spare_count() == 2);
}

static void what_touches_is_one(void)
{
	start(8 * MIB);
	give(0, MIB);
	give(2 * MIB, MIB);
	EXPECT(spare_count() == 2);
	give(MIB, MIB);
	EXPECT(spare_count() == 1 && spare_bytes() == 3 * MIB);
	EXPECT(spare_take_behind(region + MIB, MIB) == 0);
	EXPECT(spare_take_behind(region, MIB) == MIB);
	EXPECT(spare_take_behind(region + MIB, 8 * MIB) == 2 * MIB);
	EXPECT(spare_bytes() == 0 && spare_count() == 0);
}

static void give_what_overlaps(void)
{
	start(8 * MIB);
	give(MIB, 2 * MIB);
	give(0, MIB + os_page_size);
}

static void what_overlaps_was_given_before(void **state)
{
	(void)state;
	assert_true(child_dies(give_what_overlaps, "double free, or corrupted size"));
}

static void places_are_few(void)
{
	start(2 * (PLACES + 1) * MIB);
	for (size_t i = 0; i < PLACES; i++)
		give(2 * i * MIB, MIB);
	EXPECT(!spare_put(region + 2 * PLACES * MIB, MIB));
	EXPECT(spare_bytes() == PLACES * MIB);
	/* What touches needs none. */
	give(MIB, MIB);
	give(2 * PLACES * MIB, MIB);
}

static void the_oldest_goes_first(void)
{
	start(32 * MIB);
	give(8 * MIB, 2 * MIB);
	give(0, 4 * MIB);
	EXPECT(spare_release(MIB) == MIB && spare_release(3 * MIB) == MIB);
	EXPECT(!os_is_mapped(region + 8 * MIB) && !os_is_mapped(region + 10 * MIB - os_page_size));
	EXPECT(os_is_mapped(region + 10 * MIB));
	/* A use makes it young again. */
	give(16 * MIB, MIB);
	EXPECT(spare_take(4 * MIB, 4 * MIB) == region);
	give(0, 4 * MIB);
	EXPECT(spare_release(os_page_size - 1) == 0);
	EXPECT(spare_release(SIZE_MAX) == MIB && !os_is_mapped(region + 16 * MIB));
	EXPECT(spare_release(SIZE_MAX) == 4 * MIB && spare_release(SIZE_MAX) == 0);
}

static void so_much_at_a_time(void)
{
	start(100 * MIB);
	give(0, 100 * MIB);
	for (size_t left = 100 * MIB; left != 0;) {
		size_t gone = spare_release(SIZE_MAX);

		EXPECT(gone != 0 && gone <= 8 * MIB);
		left -= gone;
		EXPECT(spare_bytes() == left);
	}
}

static void only_what_stayed_is_due(void)
{
	size_t wanted = 0;

	start(8 * MIB);
	give(0, 8 * MIB);
	for (unsigned i = 0; i < DECAY_TICKS; i++)
		EXPECT(spare_tick(DECAY_TICKS, &wanted) == 0);
	EXPECT(spare_take(2 * MIB, 2 * MIB) == region);
	give(0, 2 * MIB);
	EXPECT(spare_tick(DECAY_TICKS, &wanted) == 6 * MIB);
	EXPECT(spare_release(6 * MIB) == 6 * MIB);
	EXPECT(spare_tick(DECAY_TICKS, &wanted) == 0);
}

/* What finds no spare wants again what went, as far as anything went. */
static void what_went_is_missed_once(void)
{
	size_t wanted = 0;

	start(8 * MIB);
	give(0, 8 * MIB);
	spare_missed(3 * MIB);
	(void)spare_tick(DECAY_TICKS, &wanted);
	EXPECT(wanted == 0);
	EXPECT(spare_release(SIZE_MAX) == 8 * MIB);
	spare_missed(3 * MIB);
	(void)spare_tick(DECAY_TICKS, &wanted);
	EXPECT(wanted == 3 * MIB);
	spare_missed(30 * MIB);
	wanted = 0;
	(void)spare_tick(DECAY_TICKS, &wanted);
	EXPECT(wanted == 8 * MIB);
}

/* In the child the range that its parent took aside is still there, and goes. */
static void fork_meanwhile(const struct os_range *ranges, unsigned count)
{
	pid_t child;
	int status;

	EXPECT(count == 1 && ranges[0].size == MIB && spare_bytes() == 0);
	script_discarding = NULL;
	child = fork();
	if (child == 0) {
		EXPECT(spare_release(SIZE_MAX) == MIB);
		_exit(spare_bytes() == 0 && !os_is_mapped(region) ? 0 : 1);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void a_fork_meanwhile_loses_nothing(void)
{
	start(MIB);
	give(0, MIB);
	script_discarding = fork_meanwhile;
	EXPECT(spare_release(MIB) == MIB && !os_is_mapped(region));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(the_least_with_room_serves),
		child_test(the_largest_as_a_whole),
		child_test(what_touches_is_one),
		cmocka_unit_test(what_overlaps_was_given_before),
		child_test(places_are_few),
		child_test(the_oldest_goes_first),
		child_test(so_much_at_a_time),
		child_test(only_what_stayed_is_due),
		child_test(what_went_is_missed_once),
		child_test(a_fork_meanwhile_loses_nothing),
	};

	return cmocka_run_group_tests_name("spare", tests, NULL, NULL);
}
