/*
 * purge/decay: what was free at every moment of the last ticks, against a model
 * that remembers all moments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "purge/decay.h"
#include "support/pattern.h"

#define MIB ((size_t)1 << 20)

/* What is due as a tick ends. */
static size_t ended_tick(struct decay *d, size_t now, unsigned delay)
{
	decay_tick(d, now);
	return decay_due(d, now, delay);
}

static void test_waits_for_whole_ticks(void **state)
{
	struct decay d = { 0 };

	(void)state;
	for (int i = 0; i < DECAY_TICKS; i++)
		assert_int_equal(ended_tick(&d, 8 * MIB, DECAY_TICKS), 0);
	assert_int_equal(ended_tick(&d, 8 * MIB, DECAY_TICKS), 8 * MIB);
}

static void test_what_came_later_waits_longer(void **state)
{
	struct decay d = { 0 };

	(void)state;
	for (int i = 0; i < DECAY_TICKS; i++)
		ended_tick(&d, 3 * MIB, DECAY_TICKS);
	for (int i = 0; i < DECAY_TICKS; i++)
		assert_int_equal(ended_tick(&d, 5 * MIB, DECAY_TICKS), 3 * MIB);
	assert_int_equal(ended_tick(&d, 5 * MIB, DECAY_TICKS), 5 * MIB);
}

/* A pool that empties now and then, in less than the delay, stays whole. */
static void test_short_cycles_cost_nothing(void **state)
{
	struct decay d = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		if (i % DECAY_TICKS == 0)
			decay_fell(&d, 0);
		assert_int_equal(ended_tick(&d, 64 * MIB, DECAY_TICKS), 0);
	}
}

static void test_only_the_floor_of_a_pool_goes(void **state)
{
	struct decay d = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		size_t old;

		decay_fell(&d, 16 * MIB);
		old = ended_tick(&d, 64 * MIB, DECAY_TICKS);
		assert_int_equal(old, i < DECAY_TICKS ? 0 : 16 * MIB);
	}
}

static void test_purged_leaves_the_past(void **state)
{
	struct decay d = { 0 };

	(void)state;
	for (int i = 0; i <= DECAY_TICKS; i++)
		ended_tick(&d, 10 * MIB, DECAY_TICKS);
	decay_fell(&d, 4 * MIB);
	decay_purged(&d, 6 * MIB);
	/* The 4 left are as old as before; 6 new ones have yet to age. */
	assert_int_equal(ended_tick(&d, 10 * MIB, DECAY_TICKS), 4 * MIB);
	/* Never below nothing. */
	decay_purged(&d, 100 * MIB);
	assert_int_equal(ended_tick(&d, 10 * MIB, DECAY_TICKS), 0);
}

/* What is due goes in parts, and no more than it: what came since has no age. */
static void test_due_between_ticks(void **state)
{
	struct decay d = { 0 };
	size_t now = 10 * MIB;

	(void)state;
	for (int i = 0; i < DECAY_TICKS; i++)
		assert_int_equal(ended_tick(&d, now, DECAY_TICKS), 0);
	decay_tick(&d, now);
	for (size_t due = now; due > 0; due -= MIB) {
		assert_int_equal(decay_due(&d, now, DECAY_TICKS), due);
		now -= MIB;
		decay_fell(&d, now);
		decay_purged(&d, MIB);
		now += MIB;
	}
	assert_int_equal(decay_due(&d, now, DECAY_TICKS), 0);
}

/* ---- the model ---- */

#define TICKS 400

struct model {
	size_t least[TICKS + DECAY_MOST + 1]; /* of all moments of each tick */
	unsigned tick;
};

static size_t model_answer(const struct model *m, size_t now, unsigned delay)
{
	size_t least = now;

	for (unsigned i = 0; i < delay; i++)
		least = m->least[m->tick - i] < least ? m->least[m->tick - i] : least;
	return least;
}

static void model_run(uint64_t seed)
{
	struct rng rng = { seed };
	struct decay d = { 0 };
	struct model m = { .tick = DECAY_MOST };
	size_t now = 0, old, gone;

	for (int i = 0; i < TICKS; i++) {
		unsigned delay = DECAY_TICKS + (unsigned)rng_below(&rng, DECAY_MOST - DECAY_TICKS + 1);

		for (uint64_t moves = rng_below(&rng, 4); moves > 0; moves--) {
			/* Frees raise it unseen, allocations tell. */
			size_t next = rng_below(&rng, 3) == 0 ? rng_below(&rng, 1000) : now + 1;

			if (next < now) {
				decay_fell(&d, next);
				m.least[m.tick] = next < m.least[m.tick] ? next : m.least[m.tick];
			}
			now = next;
		}
		old = ended_tick(&d, now, delay);
		assert_int_equal(old, model_answer(&m, now, delay));
		m.least[++m.tick] = now;
		gone = old != 0 && rng_below(&rng, 2) ? rng_below(&rng, old + 1) : 0;
		now -= gone;
		decay_fell(&d, now);
		decay_purged(&d, gone);
		m.least[m.tick] = now;
		for (unsigned t = 0; t < m.tick; t++)
			m.least[t] -= m.least[t] < gone ? m.least[t] : gone;
	}
}

static void test_against_all_moments(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++)
		model_run(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_for_whole_ticks),
		cmocka_unit_test(test_what_came_later_waits_longer),
		cmocka_unit_test(test_short_cycles_cost_nothing),
		cmocka_unit_test(test_only_the_floor_of_a_pool_goes),
		cmocka_unit_test(test_purged_leaves_the_past),
		cmocka_unit_test(test_due_between_ticks),
		cmocka_unit_test(test_against_all_moments),
	};

	return cmocka_run_group_tests_name("decay", tests, NULL, NULL);
}
