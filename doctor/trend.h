/*
 * Whether a figure grows over many looks, how fast, and how sure that is.  Layer: doctor;
 * a calculation on the figures alone.
 *
 * Each pair of looks has a slope.  Their median is the line (Theil and Sen), so that a few
 * looks at odd moments do not bend it.  How many pairs are steeper than a given slope tells
 * how likely the figure rises faster than that (Kendall's test), whatever its noise is like.
 *
 * A figure is steady when over the time of the looks its line rises or falls by less than a
 * hundredth of the figure, than a page, or than the figure wavers about the line anyway.  So
 * the longer one looks, the slower a growth is seen.
 *
 * I1: a series keeps its first look and its last, and those between evenly.
 */
#ifndef CEDE_DOCTOR_TREND_H
#define CEDE_DOCTOR_TREND_H

#include <stdbool.h>

#include "doctor/verdict.h"

/* Even.  When there are more, every other one is forgotten. */
#define TREND_POINTS 120

/* Fewer looks tell nothing. */
#define TREND_LOOKS 3

struct trend_point {
	double minutes;              /* since any moment; ascending */
	uint64_t bytes;
};

struct trend_series {
	struct trend_point points[TREND_POINTS];
	size_t count;
	size_t stride, since;        /* each how-many-th look is kept; how many came since */
};

enum trend_kind { TREND_UNKNOWN, TREND_GROWS, TREND_STEADY, TREND_FALLS };

/* "unknown", "grows", "steady", "falls" */
const char *trend_kind_name(enum trend_kind kind);

struct trend {
	enum trend_kind kind;
	double bytes_per_minute;
	unsigned confidence_percent; /* that the kind is right; at most 99 */
	double minutes;              /* from the first look to the last */
};

/* The empty series is all zeros. */
void trend_add(struct trend_series *series, double minutes, uint64_t bytes);

void trend_fit(const struct trend_series *series, struct trend *trend);

/* By so many percent sure it grows, and from the first look to the last it grew by as much
 * as the limits say. */
#define TREND_LEAK_PERCENT 95u
bool trend_is_leak(const struct trend_series *live, const struct trend *trend,
                   const struct verdict_limits *limits);

#endif
