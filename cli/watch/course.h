/*
 * What a process has been doing since it is watched: its last look, what was seen before,
 * where that leads to, and the verdict that forms.  Layer: cli/watch.
 *
 * Memory does not grow with the time: looks are thinned out (doctor/trend.h), and of the
 * figures for the chart the last COURSE_COLUMNS are kept.
 */
#ifndef CEDE_CLI_WATCH_COURSE_H
#define CEDE_CLI_WATCH_COURSE_H

#include "doctor/trend.h"
#include "watch/look.h"

#define COURSE_COLUMNS 512u
#define COURSE_COLUMN_SECONDS 5u

/* For a column of the chart, bytes.  What is not filled is all zeros. */
struct course_moment {
	uint64_t column;             /* since the watch began, from 1 on */
	uint64_t resident, live, free, gone;   /* live and free are parts of resident */
};

struct course {
	pid_t pid;
	struct verdict_limits limits;
	int process;                 /* descriptor that is readable once the process has ended */
	int64_t began;               /* course_clock() of the first look */
	int64_t watched;             /* milliseconds since then; no more once it has ended */
	struct look look;            /* the last that succeeded */
	uint64_t resident_bytes;     /* now: fresher than the look's */
	size_t looks, failed_looks;
	int64_t look_took;           /* the last, in milliseconds */
	struct trend_series live_series, resident_series;
	struct trend live, resident;
	enum verdict_kind verdict;   /* the last look's, or leak */
	struct course_moment moments[COURSE_COLUMNS];
	bool has_ended;              /* the process */
	char failure[512];           /* of the last look, "" when it succeeded */
};

/* Milliseconds of a clock that only goes forward. */
int64_t course_clock(void);

void course_open(struct course *course, pid_t pid, const struct verdict_limits *limits);
void course_close(struct course *course);

/* Looks, unless the process has ended. */
void course_look(struct course *course);

/* Resident memory alone: the process does not notice. */
void course_refresh(struct course *course);

/* The verdict's reason, without a full stop. */
void course_sentence(const struct course *course, char *text, size_t size);

/* "grows by 12.0 MB a minute (98% sure)" */
void course_trend_text(const struct trend *trend, char *text, size_t size);

/* Whole seconds since the first look, as "1:02:03". */
void course_time_text(const struct course *course, char *text, size_t size);

#endif
