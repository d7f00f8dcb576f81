/*
 * cede stats: what the heap of a live process holds, and why.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "doctor/patient.h"
#include "stats/report.h"

#define SECONDS_MOST 3600

struct stats_options {
	int json;
	double seconds;
	pid_t pid;
};

static const char stats_about[] =
	"Reads the heap of a process that runs on cede from its memory, while it runs: the\n"
	"process does nothing for it and is not stopped. It must be yours, or this be root.\n"
	"What was given back lately is seen between two readings, --seconds apart.\n"
	"docs/statistics.md tells what each figure is, and the schema of --json,\n"
	"\"cede-stats/1\".\n\n"
	"  cede stats $(pidof server)\n"
	"  cede stats --seconds 10 $(pidof server)\n"
	"  cede stats --json --seconds 0 4711 | jq .stats.live_bytes\n";

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void sleep_for(double seconds)
{
	struct timespec left = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* Twice, when --seconds are to lie between. */
static bool read_report(const struct cede_target *target, double seconds,
                        struct stats_report *report, struct cede_refusal *refusal)
{
	const struct cede_stats *now = &report->reading.stats;
	struct cede_stats before;
	double began;

	if (!cede_stats_read(target, &report->reading, refusal))
		return false;
	if (seconds > 0) {
		before = *now;
		began = seconds_now();
		sleep_for(seconds);
		if (!cede_stats_read(target, &report->reading, refusal))
			return false;
		report->seconds = seconds_now() - began;
		report->purged_bytes = now->purged_bytes - before.purged_bytes;
		report->refaulted_bytes = now->refaulted_bytes - before.refaulted_bytes;
	}
	return true;
}

static int process_report(const struct stats_options *options)
{
	struct stats_report report = { .pid = options->pid };
	struct cede_refusal refusal;
	struct cede_target target;
	bool is_read;

	if (!cede_target_open(&target, options->pid, &refusal))
		return command_fail("%s", refusal.text);
	memcpy(report.version, target.descriptor.library_version, sizeof(report.version));
	is_read = read_report(&target, options->seconds, &report, &refusal);
	cede_target_close(&target);
	if (!is_read)
		return command_fail("%s", refusal.text);
	report.now_ms = (uint64_t)(seconds_now() * 1000);
	/* Without it 0: the process may have ended since. */
	(void)measure_process(options->pid, &report.process);
	patient_name_read(options->pid, report.name, sizeof(report.name));
	stats_reasons_find(&report);
	if (!options->json)
		stats_report_text(&report, stdout);
	else if (!stats_report_json(&report, stdout))
		return command_fail("out of memory");
	return COMMAND_OK;
}

static int stats_start(const char **rest, void *context)
{
	struct stats_options *options = context;
	int result;

	if (!(options->seconds >= 0 && options->seconds <= SECONDS_MOST))
		return command_misused("stats: --seconds is a number from 0 to %d", SECONDS_MOST);
	result = patient_named("stats", rest, &options->pid);
	return result == COMMAND_OK ? process_report(options) : result;
}

static int stats_perform(int argc, const char **argv)
{
	struct stats_options options = { .seconds = 1 };
	const struct poptOption table[] = {
		{ "json", 0, POPT_ARG_NONE, &options.json, 0, "Print JSON", NULL },
		{ "seconds", 0, POPT_ARG_DOUBLE, &options.seconds, 0,
		  "Between the two readings; 0: read once (default: 1)", "NUMBER" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};

	return command_line(&command_stats, argc, argv, table, 0, stats_start, &options);
}

const struct command command_stats = {
	.name = "stats",
	.summary = "tell what the heap of a process on cede holds, and why",
	.arguments = "[option ...] PID",
	.about = stats_about,
	.perform = stats_perform,
};
