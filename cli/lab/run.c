#include "lab/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lab/cgroup.h"
#include "lab/subject.h"

#define TICK_SECONDS 0.02
#define PAUSE_SECONDS 1.0
#define TAIL_SECONDS 0.25      /* after the last moment, so that a chart shows its effect */
#define PERIODIC_SECONDS 0.1
#define PAGE_BYTES 4096

volatile sig_atomic_t run_interrupted;

/* A run in progress. */
struct stage {
	struct run *run;
	const char *program;
	struct subject subjects[2];
	struct cgroup group;
	double began, next_tick;
	bool has_stats;        /* until malloc_stats turns out to be another's */
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Always false, for `return run_fail(...)`. */
__attribute__((format(printf, 2, 3)))
static bool run_fail(struct run *run, const char *format, ...)
{
	va_list args;

	run->outcome = RUN_FAILED;
	va_start(args, format);
	vsnprintf(run->note, sizeof(run->note), format, args);
	va_end(args);
	return false;
}

static void point_add(struct stage *stage)
{
	struct run *run = stage->run;
	struct run_point *point;

	if (run->point_count == run->point_capacity) {
		size_t capacity = run->point_capacity ? 2 * run->point_capacity : 256;
		struct run_point *points = realloc(run->points, capacity * sizeof(*points));

		/* A trace that ends early is better than no measurement. */
		if (!points)
			return;
		run->points = points;
		run->point_capacity = capacity;
	}
	point = &run->points[run->point_count++];
	*point = (struct run_point){ .seconds = now() - stage->began };
	for (int i = 0; i < 2; i++) {
		if (!stage->subjects[i].pid)
			continue;
		point->rss += measure_rss(stage->subjects[i].pid);
		point->live += subject_live(&stage->subjects[i]);
	}
}

static int tick_milliseconds(struct stage *stage)
{
	double left = stage->next_tick - now();

	if (left <= 0) {
		point_add(stage);
		stage->next_tick = now() + TICK_SECONDS;
		left = TICK_SECONDS;
	}
	return (int)(left * 1000) + 1;
}

static const char *last_line(const char *text)
{
	const char *line = text;

	for (const char *at = text; *at; at++)
		if (*at == '\n' && at[1])
			line = at + 1;
	return line;
}

static bool subject_lost(struct stage *stage, struct subject *subject, const char *moment)
{
	int status = subject_end_status(subject);
	const char *said = last_line(subject->text);
	int length = (int)strcspn(said, "\n");
	char how[64];

	if (status < 0)
		snprintf(how, sizeof(how), "was killed by SIG%s%s", sigabbrev_np(-status),
		         status == -SIGKILL ? " (out of memory?)" : "");
	else
		snprintf(how, sizeof(how), "ended with status %d", status);
	return run_fail(stage->run, "the subject %s at '%s'%s%.*s", how, moment,
	                length ? ": " : "", length, said);
}

/* Waits for the subject's next line, sampling meanwhile. */
static bool line_wait(struct stage *stage, struct subject *subject, const char *moment)
{
	while (!run_interrupted) {
		switch (subject_wait(subject, tick_milliseconds(stage))) {
		case SUBJECT_LINE:
			return true;
		case SUBJECT_GONE:
			return subject_lost(stage, subject, moment);
		case SUBJECT_NOTHING:
			break;
		}
	}
	return run_fail(stage->run, "interrupted");
}

static bool command_perform(struct stage *stage, struct subject *subject, char command,
                            const char *moment)
{
	subject_tell(subject, command);
	return line_wait(stage, subject, moment);
}

static bool pause_until(struct stage *stage, struct subject *subject, double end,
                        bool trimming, const char *moment)
{
	double next_trim = now();

	while (now() < end) {
		if (run_interrupted)
			return run_fail(stage->run, "interrupted");
		if (trimming && now() >= next_trim) {
			next_trim += PERIODIC_SECONDS;
			if (!command_perform(stage, subject, 't', moment))
				return false;
		}
		if (subject_wait(subject, tick_milliseconds(stage)) == SUBJECT_GONE)
			return subject_lost(stage, subject, moment);
	}
	return true;
}

/* Looks from outside first: malloc_stats runs in the subject. */
static bool sample_take(struct stage *stage, struct subject *subject, size_t index)
{
	struct run_sample *sample = &stage->run->samples[index];
	const char *moment = stage->run->experiment->moments[index].name;

	sample->seconds = now() - stage->began;
	point_add(stage);
	if (measure_process(subject->pid, &sample->process) != 0)
		return run_fail(stage->run, "the subject cannot be measured at '%s': %s", moment,
		                strerror(errno));
	if (measure_machine(&sample->machine) != 0)
		return run_fail(stage->run, "/proc/meminfo cannot be read");
	sample->live = subject_live(subject);
	sample->taken = true;
	if (stage->has_stats) {
		if (!command_perform(stage, subject, 's', moment))
			return false;
		measure_parse_stats(subject->text, &sample->stats);
		stage->has_stats = sample->stats.known;
	}
	return true;
}

static bool moment_start(struct stage *stage, struct subject *subject, const char *moment)
{
	struct run *run = stage->run;
	struct experiment_arguments arguments;

	experiment_describe(run->experiment, run->total, &arguments);
	if (subject_start(subject, stage->program, run->allocator, run->experiment, &arguments,
	                  run->experiment->limited ? &stage->group : NULL) != 0)
		return run_fail(run, "the subject cannot be started: %s", strerror(errno));
	if (!line_wait(stage, subject, moment))
		return false;
	if (*run->allocator->path && !measure_has_mapped(subject->pid, run->allocator->path))
		return run_fail(run, "the loader did not load %s", run->allocator->path);
	return true;
}

static bool moment_step(struct stage *stage, struct subject *subject, size_t index)
{
	const char *moment = stage->run->experiment->moments[index].name;
	unsigned long long pages;

	if (!command_perform(stage, subject, 'g', moment))
		return false;
	if (!strncmp(subject->line, "failed", strlen("failed")))
		return run_fail(stage->run, "malloc returned NULL before '%s': try a smaller --total",
		                moment);
	if (sscanf(subject->line, "%*s %*s pages=%llu", &pages) == 1)
		stage->run->samples[index].floor = pages * PAGE_BYTES;
	return true;
}

static bool moment_perform(struct stage *stage, size_t index)
{
	const struct experiment *experiment = stage->run->experiment;
	const struct moment *moment = &experiment->moments[index];
	struct subject *subject = &stage->subjects[moment->process];
	bool reached = false;

	switch (moment->action) {
	case MOMENT_START:
		reached = moment_start(stage, subject, moment->name);
		break;
	case MOMENT_STEP:
		reached = moment_step(stage, subject, index);
		break;
	case MOMENT_PAUSE:
		reached = pause_until(stage, subject, stage->began + PAUSE_SECONDS +
		                      stage->run->samples[index - 1].seconds,
		                      experiment->periodic_trim, moment->name);
		break;
	case MOMENT_TRIM:
		reached = command_perform(stage, subject, 't', moment->name);
		break;
	}
	return reached && sample_take(stage, subject, index);
}

/* Lets the subject end by itself: one that crashes at its exit has failed too. */
static bool subject_finish(struct stage *stage, struct subject *subject)
{
	subject_tell(subject, 'g');
	while (!run_interrupted) {
		if (subject_wait(subject, (int)(TICK_SECONDS * 1000)) == SUBJECT_GONE)
			return subject_end_status(subject) == 0 || subject_lost(stage, subject, "exit");
	}
	return run_fail(stage->run, "interrupted");
}

/* Was this one killed by the limit? */
static bool subject_is_killed(struct stage *stage, struct subject *subject)
{
	return subject->pid && subject_wait(subject, 0) == SUBJECT_GONE &&
	       subject_end_status(subject) == -SIGKILL && cgroup_oom_kills(&stage->group) > 0;
}

static void limit_judge(struct stage *stage)
{
	struct run *run = stage->run;
	bool first = subject_is_killed(stage, &stage->subjects[0]);
	bool second = subject_is_killed(stage, &stage->subjects[1]);

	if (!first && !second) {
		if (run->outcome == RUN_FINISHED)
			snprintf(run->note, sizeof(run->note), "both processes finished");
		return;
	}
	run->outcome = RUN_KILLED;
	snprintf(run->note, sizeof(run->note), "out of memory: the kernel killed %s",
	         first && second ? "both processes" : first ? "the first process" :
	         "the second process");
}

static void stage_perform(struct stage *stage, run_progress_fn *progress)
{
	struct run *run = stage->run;
	size_t count = experiment_moment_count(run->experiment);
	bool going = true;

	for (size_t i = 0; i < count && going; i++) {
		progress(run, run->experiment->moments[i].name);
		going = moment_perform(stage, i);
	}
	if (going)
		going = pause_until(stage, &stage->subjects[run->experiment->moments[count - 1].process],
		                    now() + TAIL_SECONDS, false, "the end");
	if (run->experiment->limited)
		limit_judge(stage);
	for (int i = 0; i < 2 && going && run->outcome == RUN_FINISHED; i++)
		if (stage->subjects[i].pid)
			going = subject_finish(stage, &stage->subjects[i]);
}

void run_perform(struct run *run, const char *program, run_progress_fn *progress)
{
	struct stage stage = {
		.run = run, .program = program, .has_stats = run->allocator->has_stats,
	};
	char why[256];

	if (run->experiment->limited) {
		run->limit = experiment_limit(run->total);
		if (cgroup_make(&stage.group, run->limit, why) != 0) {
			run->outcome = RUN_SKIPPED;
			snprintf(run->note, sizeof(run->note), "skipped: %s", why);
			return;
		}
	}
	stage.began = stage.next_tick = now();
	stage_perform(&stage, progress);
	for (int i = 0; i < 2; i++)
		subject_stop(&stage.subjects[i]);
	cgroup_remove(&stage.group);
}

size_t run_kept_moment(const struct experiment *experiment)
{
	size_t last = 0;

	for (size_t i = 0; i < experiment_moment_count(experiment); i++)
		if (experiment->moments[i].action == MOMENT_PAUSE && experiment->moments[i].process == 0)
			last = i;
	return last;
}

bool run_kept(const struct run *run, uint64_t *kept, uint64_t *gained)
{
	const struct run_sample *start = &run->samples[0];
	const struct run_sample *full = &run->samples[run->experiment->freed - 1];
	const struct run_sample *after = &run->samples[run_kept_moment(run->experiment)];

	if (!start->taken || !full->taken || !after->taken)
		return false;
	*gained = full->process.rss > start->process.rss ?
	          full->process.rss - start->process.rss : 0;
	*kept = after->process.rss > start->process.rss ?
	        after->process.rss - start->process.rss : 0;
	return *gained > 0;
}

void run_free(struct run *run)
{
	free(run->points);
	run->points = NULL;
}
