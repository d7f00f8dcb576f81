/*
 * cede doctor: why does a live process hold on to its memory?
 */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "doctor/comparison.h"
#include "doctor/limits.h"
#include "doctor/report.h"
#include "doctor/snapshot.h"
#include "doctor/watch.h"
#include "doctor/words.h"

#define UNWATCHED INT_MIN

struct doctor_options {
	int json, compare, leaks;
	char *file;
	struct patient_source source;
	int watch;                   /* seconds, or UNWATCHED */
	struct limits_options limits;
};

static const char doctor_about[] =
	"Reads the heap of a process that runs on glibc's malloc or on cede, as it runs: nothing\n"
	"is loaded into it and nothing changed.  It is stopped for some tens of milliseconds;\n"
	"whatever happens to this command, it then runs on.  Reads core files, too.\n\n"
	"Exit status: 0 the memory is in use, 10 it is lost (--leaks) or grew between two looks,\n"
	"11 it is free but retained, 12 it is free but on pages shared with what is in use,\n"
	"13 most is in neither's heap, 1 the doctor could not tell, 2 it was called wrongly.\n\n"
	"  cede doctor $(pidof server)\n"
	"  cede doctor --leaks $(pidof server)\n"
	"  cede doctor --core core.4711 --exe ./server\n"
	"  cede doctor --watch 60 $(pidof server)\n"
	"  cede doctor --compare before.snap after.snap\n"
	"  cede doctor --json 4711 | jq .trim.bytes\n";

/* Of the verdict, unless the report could not be written. */
static int exit_status(enum verdict_kind verdict, int report_failed)
{
	return report_failed ? command_fail("the report could not be written") :
	       patient_exit_status(verdict);
}

static int patient_tell(struct patient *patient, const struct doctor_options *options)
{
	const struct verdict_limits limits = limits_of(&options->limits);

	patient_judge(patient, &limits);
	if (!patient_group(patient))
		return command_fail("out of memory");
	if (options->file && !options->json)
		printf("%s, taken %s\n", options->file, moment(patient->taken).text);
	return exit_status(patient->verdict.kind,
	                   options->json ? doctor_report_json(stdout, patient) :
	                   doctor_report_text(stdout, patient));
}

static int comparison_tell(struct patient *before, struct patient *after,
                           const struct doctor_options *options)
{
	const struct verdict_limits limits = limits_of(&options->limits);
	const char *hindrance = comparison_hindrance(before, after);
	struct comparison comparison;
	int result;

	if (hindrance)
		return command_fail("the two cannot be compared: %s", hindrance);
	patient_judge(before, &limits);
	patient_judge(after, &limits);
	if (!comparison_fill(&comparison, before, after, &limits))
		return command_fail("out of memory");
	result = exit_status(comparison.verdict,
	                     options->json ? comparison_report_json(stdout, &comparison) :
	                     comparison_report_text(stdout, &comparison));
	compare_free(&comparison.compare);
	return result;
}

/* --- one look or two --- */

/* The looks' patients are empty; whoever called discharges them. */
typedef int doctor_mode(struct patient looks[2], const char **rest,
                        const struct doctor_options *options);

static int doctor_look(struct patient looks[2], const char **rest,
                       const struct doctor_options *options)
{
	int result = patient_take(&looks[0], "doctor", rest, &options->source, options->leaks);

	return result == COMMAND_OK ? patient_tell(&looks[0], options) : result;
}

static int doctor_watch(struct patient looks[2], const char **rest,
                        const struct doctor_options *options)
{
	pid_t pid;
	int result = patient_named("doctor", rest, &pid);

	if (result == COMMAND_OK)
		result = patient_examine(&looks[0], pid, false);
	if (result == COMMAND_OK)
		result = watch_wait(pid, options->watch);
	if (result == COMMAND_OK)
		result = patient_examine(&looks[1], pid, false);
	return result == COMMAND_OK ? comparison_tell(&looks[0], &looks[1], options) : result;
}

static int doctor_file(struct patient looks[2], const char **rest,
                       const struct doctor_options *options)
{
	int result;

	if (rest)
		return command_misused("doctor: a file or a process, not both (see cede help doctor)");
	result = snapshot_read(options->file, &looks[0]);
	return result == COMMAND_OK ? patient_tell(&looks[0], options) : result;
}

static int doctor_compare(struct patient looks[2], const char **rest,
                          const struct doctor_options *options)
{
	int result;

	if (!rest || !rest[1] || rest[2])
		return command_misused("doctor: --compare takes two files of cede snapshot");
	result = snapshot_read(rest[0], &looks[0]);
	if (result == COMMAND_OK)
		result = snapshot_read(rest[1], &looks[1]);
	return result == COMMAND_OK ? comparison_tell(&looks[0], &looks[1], options) : result;
}

static int doctor_start(const char **rest, void *context)
{
	const struct doctor_options *options = context;
	bool is_watch = options->watch != UNWATCHED;
	doctor_mode *mode = options->compare ? doctor_compare : options->file ? doctor_file :
	                    is_watch ? doctor_watch : doctor_look;
	struct patient *looks;
	int result = limits_judge("doctor", &options->limits);

	if (result != COMMAND_OK)
		return result;
	if (is_watch && options->watch < 1)
		return command_misused("doctor: --watch is a number of seconds");
	if (options->leaks && mode != doctor_look)
		return command_misused("doctor: --leaks looks at a live process or a core, once");
	if (!!options->compare + !!options->file + !!options->source.core + is_watch > 1)
		return command_misused("doctor: one of --core, --file, --compare and --watch");
	looks = calloc(2, sizeof(*looks));
	if (!looks)
		return command_fail("out of memory");
	result = mode(looks, rest, options);
	patient_discharge(&looks[0]);
	patient_discharge(&looks[1]);
	free(looks);
	return result;
}

static int doctor_perform(int argc, const char **argv)
{
	struct doctor_options options = {
		.watch = UNWATCHED, .limits = LIMITS_DEFAULT,
	};
	const struct poptOption table[] = {
		{ "json", 0, POPT_ARG_NONE, &options.json, 0, "Write JSON (see docs/doctor.md)", NULL },
		{ "leaks", 0, POPT_ARG_NONE, &options.leaks, 0,
		  "Look for blocks in use that nothing leads to any more", NULL },
		PATIENT_SOURCE_OPTIONS(&options.source),
		{ "file", 0, POPT_ARG_STRING, &options.file, 0, "Look at a file of cede snapshot", "FILE" },
		{ "compare", 0, POPT_ARG_NONE, &options.compare, 0,
		  "Tell what changed from one file of cede snapshot to another", NULL },
		{ "watch", 0, POPT_ARG_INT, &options.watch, 0,
		  "Look twice and tell what changed; Ctrl-C: the second look now", "SECONDS" },
		LIMITS_OPTIONS(options.limits),
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	int result = command_line(&command_doctor, argc, argv, table, 0, doctor_start, &options);

	free(options.file);
	patient_source_free(&options.source);
	return result;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "tell why a process holds on to its memory",
	.arguments = "[option ...] PID | --core FILE | --file FILE | --compare FILE FILE",
	.about = doctor_about,
	.perform = doctor_perform,
};
