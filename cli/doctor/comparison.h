/*
 * Two looks at one process, what changed between them, and reports of it.
 * Layer: cli/doctor.  The JSON is described in docs/doctor.md.
 */
#ifndef CEDE_CLI_DOCTOR_COMPARISON_H
#define CEDE_CLI_DOCTOR_COMPARISON_H

#include <stdio.h>

#include "doctor/compare.h"
#include "doctor/patient.h"

struct comparison {
	const struct patient *before, *after;   /* with their verdicts */
	struct compare compare;
	enum verdict_kind verdict;    /* leak, else that of the second look */
};

/* What forbids to compare them, in words that follow a colon, or NULL: they must be of one
 * process, the first look before the second. */
const char *comparison_hindrance(const struct patient *before, const struct patient *after);

/* Compares two patients whose verdicts are reached.  Returns false when memory ran out; else
 * comparison->compare is to be freed. */
bool comparison_fill(struct comparison *comparison, const struct patient *before,
                     const struct patient *after, const struct verdict_limits *limits);

/* Each returns 0, or -1 when memory or `out` failed. */
int comparison_report_text(FILE *out, const struct comparison *comparison);
int comparison_report_json(FILE *out, const struct comparison *comparison);

#endif
