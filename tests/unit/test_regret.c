/*
 * purge/regret: what makes the delay longer, for how long, and what it is worth to
 * pools that fill and empty at any pace.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "purge/regret.h"

#define MIB        ((size_t)1 << 20)
#define PAGE       ((size_t)4096)
#define PAGES(mib) ((size_t)(mib) * MIB / PAGE)
/* Regretted at once, so many pages make the delay the longest. */
#define FULL_PAGES ((size_t)(REGRET_FULL_NS / REGRET_PAGE_NS + 1))

static void tick(struct regret *r, size_t wanted)
{
	regret_tick(r, DECAY_TICK_MS, wanted, 0);
}

static void test_nothing_wanted_nothing_regretted(void **state)
{
	struct regret r = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		regret_gave(&r, PAGES(64));
		tick(&r, 0);
		assert_int_equal(regret_delay(&r), DECAY_TICKS);
	}
}

static void test_what_is_wanted_at_once_makes_it_longer(void **state)
{
	struct regret r = { 0 };

	(void)state;
	regret_gave(&r, PAGES(64));
	tick(&r, FULL_PAGES / 2);
	assert_in_range(regret_delay(&r), (DECAY_TICKS + DECAY_MOST) / 2 - 1,
	                (DECAY_TICKS + DECAY_MOST) / 2);
	tick(&r, FULL_PAGES);
	assert_int_equal(regret_delay(&r), DECAY_MOST);
}

/* Pages that went at any other time are wanted, too, and are no regret. */
static void test_no_more_than_went_counts(void **state)
{
	struct regret r = { 0 };

	(void)state;
	tick(&r, PAGES(64));
	assert_int_equal(regret_delay(&r), DECAY_TICKS);
	regret_gave(&r, 100);
	tick(&r, PAGES(64));
	assert_int_equal(r.owed_ns, 100 * REGRET_PAGE_NS);
	regret_tick(&r, 100, 0, 0);
	assert_int_equal(r.owed_ns, 0);
	regret_gave(&r, 10000);
	regret_tick(&r, 0, 6000, 0);
	regret_tick(&r, 0, 6000, 0);
	assert_int_equal(r.owed_ns, 10000 * REGRET_PAGE_NS);
}

static void test_what_is_wanted_later_is_none(void **state)
{
	(void)state;
	for (unsigned later = 1; later <= REGRET_TICKS + 2; later++) {
		struct regret r = { 0 };

		regret_gave(&r, FULL_PAGES);
		for (unsigned i = 1; i < later; i++)
			tick(&r, 0);
		assert_int_equal(regret_is_watching(&r), later <= REGRET_TICKS);
		tick(&r, FULL_PAGES);
		assert_int_equal(regret_delay(&r), later <= REGRET_TICKS ? DECAY_MOST : DECAY_TICKS);
	}
}

/* Nobody looked meanwhile: it may have been wanted at once, or just now. */
static void test_a_long_sleep_is_no_tick(void **state)
{
	struct regret r = { 0 };

	(void)state;
	regret_gave(&r, FULL_PAGES);
	regret_tick(&r, 1000, FULL_PAGES, 0);
	assert_int_equal(r.owed_ns, 0);
}

/* One percent of the time pays it: 10 ms are owed for a second, and 600 ms at most. */
static void test_it_is_paid_off(void **state)
{
	struct regret r = { 0 };

	(void)state;
	regret_gave(&r, FULL_PAGES);
	tick(&r, FULL_PAGES);
	regret_tick(&r, 950, 0, 0);
	assert_int_equal(regret_delay(&r), DECAY_TICKS);
	regret_gave(&r, PAGES(64 << 10));
	tick(&r, PAGES(64 << 10));
	regret_tick(&r, 58900, 0, 0);
	assert_int_equal(regret_delay(&r), DECAY_MOST);
	regret_tick(&r, 1000, 0, 0);
	assert_int_equal(regret_delay(&r), DECAY_TICKS);
}

/* So that all is gone within a second whatever is owed. */
static void test_much_does_not_wait_longer(void **state)
{
	struct regret r = { .owed_ns = REGRET_MOST_NS };
	unsigned before;

	(void)state;
	regret_tick(&r, DECAY_TICK_MS, 0, PAGES(255));
	assert_int_equal(regret_delay(&r), DECAY_MOST);
	regret_tick(&r, DECAY_TICK_MS, 0, PAGES(1024));
	assert_int_equal(regret_delay(&r), DECAY_MOST - 4);
	regret_tick(&r, DECAY_TICK_MS, 0, PAGES(64 << 10));
	assert_int_equal(regret_delay(&r), DECAY_TICKS);
	/* Nor do the last of them, when the others went: they get older sooner. */
	r.free = PAGES(2048);
	for (int i = 0; i < 16; i++) {
		before = regret_delay(&r);
		tick(&r, 0);
		assert_in_range(regret_delay(&r), before, before + 1);
		assert_true(regret_delay(&r) <= DECAY_TICKS + 1 + (unsigned)i / 4);
	}
	for (int i = 0; i < 60; i++)
		tick(&r, 0);
	assert_int_equal(regret_delay(&r), DECAY_MOST);
}

/* ---- pools ---- */

#define SECONDS 120
#define TICKS   (SECONDS * 1000 / DECAY_TICK_MS)

/* So many pages, free for `idle` of each `period` ticks; returns those that went and
 * were wanted again, which are all that went. */
static size_t run_pool(size_t pages, unsigned period, unsigned idle, bool regrets)
{
	struct regret r = { 0 };
	struct decay d = { 0 };
	size_t free = 0, gone = 0, wanted = 0, sum = 0;
	unsigned delay = DECAY_TICKS, since = 0;

	for (unsigned t = 0; t < TICKS; t++) {
		size_t old;

		if (t % period == 0) {
			free = pages;
		} else if (t % period == idle) {
			decay_fell(&d, 0);
			wanted = gone;
			sum += gone;
			free = gone = 0;
		}
		since++;
		/* Asleep. */
		if (free == 0 && !regret_is_watching(&r) && wanted == 0)
			continue;
		decay_tick(&d, free);
		old = decay_due(&d, free, delay);
		decay_fell(&d, free - old);
		decay_purged(&d, old);
		free -= old;
		gone += old;
		regret_tick(&r, since * DECAY_TICK_MS, wanted, free);
		regret_gave(&r, old);
		wanted = since = 0;
		if (regrets)
			delay = regret_delay(&r);
	}
	return sum;
}

#define PERCENT ((uint64_t)SECONDS * 10000000) /* of the time, in ns */

static uint64_t cost(size_t pages)
{
	return pages * REGRET_PAGE_NS;
}

/* Never worse than the least delay alone; and where the longest would have kept the pool,
 * one percent of a processor, beyond what it takes to find that out. */
static void test_pools_of_any_pace(void **state)
{
	static const size_t sizes[] = { 1, 4, 16, 64, 200 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (unsigned period = 2; period <= 60; period++) {
			for (unsigned idle = 1; idle < period; idle++) {
				size_t fixed = run_pool(PAGES(sizes[i]), period, idle, false);
				size_t learnt = run_pool(PAGES(sizes[i]), period, idle, true);

				assert_true(learnt <= fixed);
				if (idle < DECAY_MOST)
					assert_true(cost(learnt) <= PERCENT + REGRET_FULL_NS + cost(PAGES(sizes[i])));
			}
		}
	}
	assert_true(cost(run_pool(PAGES(200), 12, 10, false)) >= 15 * PERCENT);
}

/* However long of it they are free. */
static void test_16_mib_a_second_cost_a_percent_at_most(void **state)
{
	(void)state;
	for (unsigned idle = 1; idle < 20; idle++)
		assert_true(cost(run_pool(PAGES(16), 20, idle, true)) < PERCENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_wanted_nothing_regretted),
		cmocka_unit_test(test_what_is_wanted_at_once_makes_it_longer),
		cmocka_unit_test(test_no_more_than_went_counts),
		cmocka_unit_test(test_what_is_wanted_later_is_none),
		cmocka_unit_test(test_a_long_sleep_is_no_tick),
		cmocka_unit_test(test_it_is_paid_off),
		cmocka_unit_test(test_much_does_not_wait_longer),
		cmocka_unit_test(test_pools_of_any_pace),
		cmocka_unit_test(test_16_mib_a_second_cost_a_percent_at_most),
	};

	return cmocka_run_group_tests_name("regret", tests, NULL, NULL);
}
