#include "inject/trim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "inject/place.h"
#include "readers/glibc_find.h"

#define TRY_MICROSECONDS 2000000u
#define WAIT_MICROSECONDS 500
#define WAIT_MICROSECONDS_MOST 20000

struct attempt {
	struct memory *memory;
	const struct waits *waits;
	struct stop stop;
	struct glibc glibc;
	struct functions functions;
	bool functions_known;
	struct trim_report *report;
};

static uint64_t now_microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t trim_process_bytes(pid_t pid)
{
	char path[64], line[256];
	uint64_t kilobytes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Anonymous: %" SCNu64, &kilobytes) == 1)
			break;
	if (file)
		fclose(file);
	return kilobytes << 10;
}

/* The first word of each arena is its lock, in the lower half. */
static bool is_locked(const struct glibc *glibc)
{
	uint64_t arena = glibc->main_arena;

	for (unsigned i = 0; i < GLIBC_ARENAS_MOST; i++) {
		if ((uint32_t)glibc_find_word(glibc, arena))
			return true;
		arena = glibc_find_word(glibc, glibc_find_bins(glibc, arena) + GLIBC_FROM_BINS_NEXT);
		if (arena == glibc->main_arena)
			return false;
	}
	return true;
}

static enum trim_outcome hinder(struct attempt *attempt, const char *why)
{
	snprintf(attempt->report->why, sizeof(attempt->report->why), "%s", why);
	return TRIM_HINDERED;
}

static enum trim_outcome thread_call(struct attempt *attempt, pid_t thread,
                                     const struct call *call)
{
	static const enum trim_outcome outcomes[] = {
		[CALL_DONE] = TRIM_DONE, [CALL_UNFINISHED] = TRIM_UNFINISHED,
		[CALL_FATAL] = TRIM_FATAL, [CALL_ENDED] = TRIM_ENDED, [CALL_FAILED] = TRIM_FAILED,
	};
	struct trim_report *report = attempt->report;
	enum call_outcome outcome;

	report->thread = thread;
	report->before_bytes = trim_process_bytes(attempt->memory->pid);
	outcome = call_make(thread, call);
	report->error = outcome == CALL_FAILED ? errno : 0;
	if (outcome == CALL_FAILED && call->filtered && report->error == EPERM)
		return hinder(attempt, "seccomp filters its system calls, and only root "
		              "(CAP_SYS_ADMIN) can put that off");
	report->after_bytes = trim_process_bytes(attempt->memory->pid);
	return outcomes[outcome];
}

/* A thread in a good place, best one whose wait has no length. */
static enum trim_outcome thread_choose(struct attempt *attempt)
{
	enum place_hindrance nearest = PLACE_RUNS;
	struct call call, best;
	pid_t thread = 0;
	bool is_timed = true;

	for (size_t i = 0; i < attempt->stop.count && is_timed; i++) {
		const struct stop_thread *candidate = &attempt->stop.threads[i];
		enum place_hindrance hindrance;

		if (thread && place_is_timed(candidate))
			continue;
		hindrance = place_judge(attempt->memory, &attempt->functions, attempt->waits, candidate,
		                        &call);
		nearest = hindrance > nearest ? hindrance : nearest;
		if (hindrance != PLACE_GOOD)
			continue;
		thread = candidate->id;
		is_timed = place_is_timed(candidate);
		best = call;
	}
	if (!thread)
		return hinder(attempt, place_words(nearest));
	best.function = attempt->functions.trim;
	return thread_call(attempt, thread, &best);
}

static enum trim_outcome process_try(struct attempt *attempt)
{
	attempt->report->error = memory_map(attempt->memory);
	if (attempt->report->error)
		return TRIM_FAILED;
	for (size_t i = 0; i < attempt->stop.count; i++)
		if (attempt->stop.threads[i].by_user)
			return hinder(attempt, "it was stopped (SIGSTOP): let it go on first, by SIGCONT");
	attempt->glibc = (struct glibc){ .memory = attempt->memory, .stop = &attempt->stop };
	if (glibc_find(&attempt->glibc) != GLIBC_FOUND)
		return hinder(attempt, "its heap cannot be found any more");
	if (is_locked(&attempt->glibc))
		return hinder(attempt, "a thread of it holds a lock of malloc");
	return attempt->functions_known ? thread_choose(attempt) : TRIM_HINDERED;
}

/* Looks for the functions once, while the process goes on: files take their time. */
static bool functions_know(struct attempt *attempt)
{
	struct trim_report *report = attempt->report;

	attempt->functions_known = functions_find(attempt->memory, attempt->glibc.main_arena,
	                                          &attempt->functions, report->why,
	                                          sizeof(report->why));
	return attempt->functions_known;
}

static enum trim_outcome stopped_try(struct attempt *attempt)
{
	struct trim_report *report = attempt->report;
	uint64_t begin = now_microseconds(), pause;
	enum trim_outcome outcome;

	report->error = stop_begin(&attempt->stop, attempt->memory);
	if (report->error)
		return TRIM_FAILED;
	report->stops++;
	outcome = process_try(attempt);
	stop_end(&attempt->stop);
	pause = now_microseconds() - begin;
	if (outcome != TRIM_HINDERED || pause > report->pause_microseconds)
		report->pause_microseconds = pause;
	return outcome;
}

enum trim_outcome trim_make(struct memory *memory, const struct waits *waits,
                            struct trim_report *report)
{
	struct attempt attempt = { .memory = memory, .waits = waits, .report = report };
	uint64_t end = now_microseconds() + TRY_MICROSECONDS;
	unsigned wait = WAIT_MICROSECONDS;
	enum trim_outcome outcome;

	*report = (struct trim_report){ 0 };
	for (;;) {
		outcome = stopped_try(&attempt);
		if (outcome != TRIM_HINDERED || now_microseconds() > end)
			return outcome;
		if (!attempt.functions_known && attempt.glibc.main_arena && !functions_know(&attempt))
			return TRIM_HINDERED;
		usleep(wait);
		wait = wait < WAIT_MICROSECONDS_MOST ? 2 * wait : wait;
	}
}
