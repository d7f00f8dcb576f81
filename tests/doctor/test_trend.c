/*
 * trend: the word, the figure and how sure it is, of series whose truth is known.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "doctor/trend.h"

#define MB 1000000ul

/* The same numbers each time, between -1 and 1. */
static double noise(void)
{
	static uint64_t state = 88172645463325252ul;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) / (double)(1ul << 52) - 1;
}

/* A look every six seconds at a line, with noise. */
static struct trend_series line(size_t looks, double start, double per_minute, double noisy)
{
	struct trend_series series = { 0 };

	for (size_t i = 0; i < looks; i++) {
		double minutes = (double)i / 10;

		trend_add(&series, minutes, (uint64_t)(start + per_minute * minutes + noisy * noise()));
	}
	return series;
}

static struct trend fit(const struct trend_series *series)
{
	struct trend trend;

	trend_fit(series, &trend);
	return trend;
}

static void assert_trend(const struct trend_series *series, enum trend_kind kind,
                         unsigned least_percent)
{
	struct trend trend = fit(series);

	assert_string_equal(trend_kind_name(trend.kind), trend_kind_name(kind));
	assert_in_range(trend.confidence_percent, least_percent, 99);
}

static void assert_near(double value, double expected, double most)
{
	if (fabs(value - expected) > most)
		fail_msg("%f, not %f", value, expected);
}

static void test_few_looks(void **state)
{
	struct trend_series series = line(2, 100 * MB, 600 * MB, 0);

	(void)state;
	assert_int_equal(fit(&series).kind, TREND_UNKNOWN);
	series = line(0, 0, 0, 0);
	assert_int_equal(fit(&series).kind, TREND_UNKNOWN);
	/* All in one moment: no line. */
	series = (struct trend_series){ 0 };
	for (int i = 0; i < 5; i++)
		trend_add(&series, 1, 100 * MB);
	assert_int_equal(fit(&series).kind, TREND_UNKNOWN);
	/* Three in a row are so one time in six by chance, four one in twenty-four. */
	series = line(3, 100 * MB, 600 * MB, 0);
	assert_trend(&series, TREND_GROWS, 83);
	assert_true(fit(&series).confidence_percent < 90);
	series = line(4, 100 * MB, 600 * MB, 0);
	assert_trend(&series, TREND_GROWS, 95);
}

static void test_lines(void **state)
{
	struct trend_series series = line(20, 100 * MB, 12 * MB, 0);

	(void)state;
	assert_trend(&series, TREND_GROWS, 99);
	assert_near(fit(&series).bytes_per_minute, 12.0 * MB, 1);
	assert_near(fit(&series).minutes, 1.9, 1e-9);
	series = line(20, 100 * MB, -12.0 * MB, 0);
	assert_trend(&series, TREND_FALLS, 99);
	assert_near(fit(&series).bytes_per_minute, -12.0 * MB, 1);
	series = line(20, 100 * MB, 0, 0);
	assert_trend(&series, TREND_STEADY, 99);
	series = line(20, 0, 0, 0);
	assert_trend(&series, TREND_STEADY, 99);
}

/* A hundredth over the time of the looks: the longer, the slower a growth is seen. */
static void test_slow_growth(void **state)
{
	struct trend_series series = line(20, 100 * MB, 0.4 * MB, 0);

	(void)state;
	assert_trend(&series, TREND_STEADY, 99);
	series = line(60, 100 * MB, 0.4 * MB, 0);
	assert_trend(&series, TREND_GROWS, 99);
	/* Of a small figure a page counts. */
	series = line(20, 5000, 1000, 0);
	assert_trend(&series, TREND_STEADY, 99);
	series = line(20, 5000, 5000, 0);
	assert_trend(&series, TREND_GROWS, 99);
}

static void test_noise(void **state)
{
	struct trend_series series = line(100, 100 * MB, 0, 10 * MB);

	(void)state;
	assert_trend(&series, TREND_STEADY, 95);
	series = line(100, 100 * MB, 10 * MB, 10 * MB);
	assert_trend(&series, TREND_GROWS, 99);
	assert_near(fit(&series).bytes_per_minute, 10.0 * MB, MB);
	series = line(100, 200 * MB, -10.0 * MB, 10 * MB);
	assert_trend(&series, TREND_FALLS, 99);
}

/* Looks at the height of some work do not bend the line. */
static void test_odd_moments(void **state)
{
	struct trend_series series = { 0 };

	(void)state;
	for (int i = 0; i < 60; i++)
		trend_add(&series, i / 10.0, i % 4 == 3 ? 900 * MB : 100 * MB);
	assert_trend(&series, TREND_STEADY, 60);
	assert_near(fit(&series).bytes_per_minute, 0, 1);
}

/* Filled while the program started, then at rest. */
static void test_start_up(void **state)
{
	struct trend_series series = { 0 };

	(void)state;
	for (int i = 0; i < 60; i++)
		trend_add(&series, i / 10.0, i < 5 ? 100ul * (unsigned)i * MB : 500 * MB);
	assert_trend(&series, TREND_STEADY, 60);
}

static void test_many_looks(void **state)
{
	struct trend_series series = { 0 };

	(void)state;
	for (size_t looks = 1; looks <= 5000; looks++) {
		double step = 0;

		trend_add(&series, (double)looks, 1000 * looks);
		assert_in_range(series.count, looks < TREND_POINTS / 2 ? looks : TREND_POINTS / 2,
		                TREND_POINTS);
		assert_near(series.points[0].minutes, 1, 0);
		assert_near(series.points[series.count - 1].minutes, (double)looks, 0);
		for (size_t i = 1; i + 1 < series.count; i++) {
			double next = series.points[i].minutes - series.points[i - 1].minutes;

			assert_true(i == 1 || fabs(next - step) < 1e-9);
			step = next;
		}
	}
	assert_trend(&series, TREND_GROWS, 99);
	assert_near(fit(&series).bytes_per_minute, 1000, 1e-6);
}

static void test_leak(void **state)
{
	const struct verdict_limits limits = { 25, 20 * MB };
	struct trend_series series = line(21, 80 * MB, 10 * MB, 0);   /* to 100 MB */
	struct trend trend = fit(&series);

	(void)state;
	assert_true(trend_is_leak(&series, &trend, &limits));
	trend.confidence_percent = TREND_LEAK_PERCENT - 1;
	assert_false(trend_is_leak(&series, &trend, &limits));
	/* A byte too few, and a share too small. */
	trend = fit(&series);
	assert_false(trend_is_leak(&series, &trend, &(struct verdict_limits){ 25, 20 * MB + 1 }));
	assert_false(trend_is_leak(&series, &trend, &(struct verdict_limits){ 26, 20 * MB }));
	/* It has grown, but does no longer. */
	series = (struct trend_series){ 0 };
	for (int i = 0; i < 60; i++)
		trend_add(&series, i / 10.0, i < 5 ? 100ul * (unsigned)i * MB : 500 * MB);
	trend = fit(&series);
	assert_false(trend_is_leak(&series, &trend, &limits));
	series = line(21, 100 * MB, -10.0 * MB, 0);
	trend = fit(&series);
	assert_false(trend_is_leak(&series, &trend, &limits));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_looks),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_slow_growth),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_odd_moments),
		cmocka_unit_test(test_start_up),
		cmocka_unit_test(test_many_looks),
		cmocka_unit_test(test_leak),
	};

	return cmocka_run_group_tests_name("trend", tests, NULL, NULL);
}
