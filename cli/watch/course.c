#include "watch/course.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "doctor/words.h"
#include "lab/measure.h"

int64_t course_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void course_open(struct course *course, pid_t pid, const struct verdict_limits *limits)
{
	*course = (struct course){ .pid = pid, .limits = *limits };
	/* Whoever has the number later is another process. */
	course->process = (int)syscall(SYS_pidfd_open, pid, 0);
}

void course_close(struct course *course)
{
	if (course->process >= 0)
		close(course->process);
}

static bool process_has_ended(const struct course *course)
{
	struct pollfd process = { course->process, POLLIN, 0 };

	/* Linux before 5.3, or the id of a thread. */
	if (course->process < 0)
		return kill(course->pid, 0) != 0 && errno == ESRCH;
	return poll(&process, 1, 0) == 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void moment_keep(struct course *course)
{
	const struct look *look = &course->look;
	uint64_t seconds = (uint64_t)(course_clock() - course->began) / 1000;
	uint64_t column = seconds / COURSE_COLUMN_SECONDS + 1;
	struct course_moment *kept = &course->moments[column % COURSE_COLUMNS];

	/* Resident memory may have fallen since the look. */
	kept->column = column;
	kept->resident = course->resident_bytes;
	kept->live = least(look->live_resident_bytes, kept->resident);
	kept->free = least(look->whole_bytes + look->shared_bytes, kept->resident - kept->live);
	kept->gone = look->gone_bytes;
}

static void look_keep(struct course *course)
{
	const struct look *look = &course->look;
	double minutes;

	if (!course->looks++)
		course->began = course_clock();
	course->watched = course_clock() - course->began;
	minutes = (double)course->watched / 60e3;
	trend_add(&course->live_series, minutes, look->live_bytes);
	trend_add(&course->resident_series, minutes, look->resident_bytes);
	trend_fit(&course->live_series, &course->live);
	trend_fit(&course->resident_series, &course->resident);
	course->verdict = look->verdict != VERDICT_NOT_GLIBC &&
	                  trend_is_leak(&course->live_series, &course->live, &course->limits) ?
	                  VERDICT_LEAK : look->verdict;
	course->resident_bytes = look->resident_bytes;
	moment_keep(course);
}

void course_look(struct course *course)
{
	int64_t before = course_clock();
	int result;

	course->has_ended = course->looks && process_has_ended(course);
	if (course->has_ended)
		return;
	command_capture(course->failure, sizeof(course->failure));
	result = look_take(&course->look, course->pid, &course->limits);
	command_capture(NULL, 0);
	course->look_took = course_clock() - before;
	if (result == COMMAND_OK) {
		*course->failure = '\0';
		look_keep(course);
		return;
	}
	course->failed_looks++;
	/* Then that is the reason. */
	course->has_ended = course->looks && process_has_ended(course);
	if (course->has_ended)
		*course->failure = '\0';
}

void course_refresh(struct course *course)
{
	uint64_t bytes = measure_rss(course->pid);

	course->has_ended = course->has_ended || process_has_ended(course);
	if (!bytes || course->has_ended)
		return;
	course->watched = course_clock() - course->began;
	course->resident_bytes = bytes;
	moment_keep(course);
}

/* --- words --- */

void course_sentence(const struct course *course, char *text, size_t size)
{
	const struct look *look = &course->look;
	const struct trend_series *live = &course->live_series;
	struct text heap = amount(look->heap_bytes);

	switch (course->verdict) {
	case VERDICT_LEAK:
		snprintf(text, size, "live memory grew by %s since the first look, and goes on growing",
		         amount(live->points[live->count - 1].bytes - live->points[0].bytes).text);
		break;
	case VERDICT_RETENTION:
		snprintf(text, size, "%s of the heap's %s are free, and could go back whole",
		         amount(look->whole_bytes).text, heap.text);
		break;
	case VERDICT_FRAGMENTATION:
		snprintf(text, size, "%s of the heap's %s are free, but on pages that live blocks share",
		         amount(look->shared_bytes).text, heap.text);
		break;
	case VERDICT_NOT_GLIBC:
		snprintf(text, size, "most of its memory is not in glibc's heap");
		break;
	default:
		snprintf(text, size, "of the heap's %s the program uses %s", heap.text,
		         amount(look->live_resident_bytes).text);
	}
}

void course_trend_text(const struct trend *trend, char *text, size_t size)
{
	double rate = trend->bytes_per_minute;
	struct text bytes = amount((uint64_t)(rate < 0 ? -rate : rate));

	if (trend->kind == TREND_UNKNOWN)
		snprintf(text, size, "after %d looks", TREND_LOOKS);
	else if (trend->kind == TREND_STEADY)
		snprintf(text, size, "steady (%u%% sure)", trend->confidence_percent);
	else
		snprintf(text, size, "%s by %s a minute (%u%% sure)", trend_kind_name(trend->kind),
		         bytes.text, trend->confidence_percent);
}

void course_time_text(const struct course *course, char *text, size_t size)
{
	int64_t seconds = course->watched / 1000;

	snprintf(text, size, "%d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60),
	         (int)(seconds % 60));
}
