#include "doctor/trend.h"

#include <math.h>
#include <stdlib.h>

#define PAIRS (TREND_POINTS * (TREND_POINTS - 1) / 2)
#define PAGE_BYTES 4096.0

const char *trend_kind_name(enum trend_kind kind)
{
	static const char *const names[] = {
		[TREND_UNKNOWN] = "unknown", [TREND_GROWS] = "grows", [TREND_STEADY] = "steady",
		[TREND_FALLS] = "falls",
	};

	return names[kind];
}

/* --- the series --- */

static void series_thin(struct trend_series *series)
{
	for (size_t i = 0; i < TREND_POINTS / 2; i++)
		series->points[i] = series->points[2 * i];
	series->count = TREND_POINTS / 2;
	/* So long ago was the last of those kept: the one behind it is forgotten. */
	series->since = series->stride;
	series->stride *= 2;
}

void trend_add(struct trend_series *series, double minutes, uint64_t bytes)
{
	if (!series->count)
		series->stride = series->since = 1;
	/* The last look is replaced by the next one until a stride is full. */
	if (series->since < series->stride)
		series->count--;
	else
		series->since = 0;
	if (series->count == TREND_POINTS)
		series_thin(series);
	series->since++;
	series->points[series->count++] = (struct trend_point){ minutes, bytes };
}

/* --- the line --- */

static int compare_doubles(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare_doubles);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Those of all pairs of looks; returns how many. */
static size_t slopes_fill(const struct trend_series *series, double slopes[PAIRS])
{
	size_t count = 0;

	for (size_t i = 0; i < series->count; i++)
		for (size_t j = i + 1; j < series->count; j++) {
			const struct trend_point *a = &series->points[i], *b = &series->points[j];

			if (b->minutes > a->minutes)
				slopes[count++] = ((double)b->bytes - (double)a->bytes) /
				                  (b->minutes - a->minutes);
		}
	return count;
}

/* How far the figure is from the line, of most looks. */
static double scatter(const struct trend_series *series, double slope)
{
	double rest[TREND_POINTS], centre;

	for (size_t i = 0; i < series->count; i++)
		rest[i] = (double)series->points[i].bytes - slope * series->points[i].minutes;
	centre = median(rest, series->count);
	for (size_t i = 0; i < series->count; i++)
		rest[i] = fabs(rest[i] - centre);
	return 2 * median(rest, series->count);
}

/* --- how sure --- */

/* How likely the figure rises by more than this a minute. */
static double chance_above(const double *slopes, size_t count, size_t looks, double limit)
{
	double n = (double)looks, spread = sqrt(n * (n - 1) * (2 * n + 5) / 18), sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += (slopes[i] > limit) - (slopes[i] < limit);
	sum -= (sum > 0) - (sum < 0);
	return 0.5 * erfc(-sum / spread / sqrt(2));
}

static void kind_choose(struct trend *trend, double grows, double falls)
{
	double steady = 1 - grows - falls;
	double most = steady;

	trend->kind = TREND_STEADY;
	if (grows > most) {
		trend->kind = TREND_GROWS;
		most = grows;
	}
	if (falls > most) {
		trend->kind = TREND_FALLS;
		most = falls;
	}
	trend->confidence_percent = most > 0.99 ? 99 : (unsigned)(100 * most);
}

void trend_fit(const struct trend_series *series, struct trend *trend)
{
	double slopes[PAIRS], band, wavers, level;
	size_t count;

	*trend = (struct trend){ .kind = TREND_UNKNOWN };
	if (series->count < TREND_LOOKS)
		return;
	trend->minutes = series->points[series->count - 1].minutes - series->points[0].minutes;
	count = slopes_fill(series, slopes);
	if (!count)
		return;
	trend->bytes_per_minute = median(slopes, count);
	wavers = scatter(series, trend->bytes_per_minute);
	level = (double)series->points[series->count - 1].bytes;
	band = fmax(fmax(level / 100, wavers), PAGE_BYTES) / trend->minutes;
	kind_choose(trend, chance_above(slopes, count, series->count, band),
	            1 - chance_above(slopes, count, series->count, -band));
}

bool trend_is_leak(const struct trend_series *live, const struct trend *trend,
                   const struct verdict_limits *limits)
{
	uint64_t first, last;

	if (trend->kind != TREND_GROWS || trend->confidence_percent < TREND_LEAK_PERCENT)
		return false;
	first = live->points[0].bytes;
	last = live->points[live->count - 1].bytes;
	return last > first && last - first >= limits->bytes &&
	       100 * (last - first) >= limits->share_percent * first;
}
