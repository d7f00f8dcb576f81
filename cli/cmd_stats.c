/*
 * cede stats: what the heap of a live process holds, and why.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"
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
	"\"cede-stats/1\".\n";

/* What others may have put into a process's name must not reach the terminal. */
static void name_read(pid_t pid, char *name, size_t room)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, (int)room, file))
		snprintf(name, room, "?");
	if (file)
		fclose(file);
	name[strcspn(name, "\n")] = '\0';
	for (; *name; name++)
		if (!isprint((unsigned char)*name))
			*name = '?';
}

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
	/* Without it 0: the process may have ended since. */
	(void)measure_process(options->pid, &report.process);
	name_read(options->pid, report.name, sizeof(report.name));
	stats_reasons_find(&report);
	if (!options->json)
		stats_report_text(&report, stdout);
	else if (!stats_report_json(&report, stdout))
		return command_fail("out of memory");
	return COMMAND_OK;
}

static int pid_parse(const char *text, pid_t *pid)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end || errno || value <= 0 || value > INT_MAX)
		return command_misused("stats: '%s' is not the number of a process", text);
	*pid = (pid_t)value;
	return COMMAND_OK;
}

/* Returns an enum command_exit. */
static int arguments_judge(poptContext context, struct stats_options *options)
{
	const char **rest = poptGetArgs(context);

	if (!(options->seconds >= 0 && options->seconds <= SECONDS_MOST))
		return command_misused("stats: --seconds is a number from 0 to %d", SECONDS_MOST);
	if (!rest || rest[1])
		return command_misused("stats: which process? Give its number (see cede help stats)");
	return pid_parse(rest[0], &options->pid);
}

static int stats_perform(int argc, const char **argv)
{
	struct stats_options options = { .seconds = 1 };
	const struct poptOption table[] = {
		{ "json", 0, POPT_ARG_NONE, &options.json, 0, "Print JSON", NULL },
		{ "seconds", 0, POPT_ARG_DOUBLE, &options.seconds, 0,
		  "Between the two readings; 0: read once (1)", "NUMBER" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	poptContext context = poptGetContext(NULL, argc, argv, table, 0);
	int option, result;

	poptSetOtherOptionHelp(context, "[option ...] PID");
	option = poptGetNextOpt(context);
	if (option == COMMAND_HELP_VALUE) {
		command_help(context, stats_about);
		result = COMMAND_OK;
	} else if (option < -1) {
		result = command_misused("stats: %s: %s (see cede help stats)",
		                         poptBadOption(context, POPT_BADOPTION_NOALIAS),
		                         poptStrerror(option));
	} else {
		result = arguments_judge(context, &options);
		if (result == COMMAND_OK)
			result = process_report(&options);
	}
	poptFreeContext(context);
	return result;
}

const struct command command_stats = {
	.name = "stats",
	.summary = "tell what the heap of a process on cede holds, and why",
	.perform = stats_perform,
};
