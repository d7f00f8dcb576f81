/*
 * cede doctor: why does a live process hold on to its memory?
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "doctor/report.h"

enum doctor_exit { DOCTOR_RETENTION = 11, DOCTOR_FRAGMENTATION = 12, DOCTOR_NOT_GLIBC = 13 };

struct doctor_options {
	int json;
	int share;                   /* percent */
	long long least;             /* bytes */
};

static const char doctor_about[] =
	"Reads the heap of a process that runs on glibc's malloc, as it runs: nothing is\n"
	"loaded into it and nothing changed.  It is stopped for some tens of milliseconds;\n"
	"whatever happens to this command, it then runs on.\n\n"
	"Exit status: 0 the memory is in use, 11 it is free but retained, 12 it is free but\n"
	"on pages shared with what is in use, 13 most is not in glibc's heap, 1 the doctor\n"
	"could not tell, 2 it was called wrongly.\n\n"
	"  cede doctor $(pidof server)\n"
	"  cede doctor --json 4711 | jq .trim.bytes\n";

static int exit_status(const struct patient *patient)
{
	static const int statuses[] = {
		[VERDICT_LIVE] = COMMAND_OK, [VERDICT_RETENTION] = DOCTOR_RETENTION,
		[VERDICT_FRAGMENTATION] = DOCTOR_FRAGMENTATION,
		[VERDICT_NOT_GLIBC] = DOCTOR_NOT_GLIBC,
	};

	return statuses[patient->verdict.kind];
}

static int patient_tell(struct patient *patient, const struct doctor_options *options)
{
	const struct verdict_limits limits = { (unsigned)options->share, (uint64_t)options->least };
	int failed;

	verdict_reach(&patient->model, &limits, patient->outcome == GLIBC_ABSENT ||
	              patient->allocator.is_malloc, &patient->verdict);
	failed = options->json ? doctor_report_json(stdout, patient) :
	         doctor_report_text(stdout, patient);
	return failed ? command_fail("the report could not be written") : exit_status(patient);
}

static int patient_visit(pid_t pid, const struct doctor_options *options)
{
	struct patient *patient = malloc(sizeof(*patient));
	int result;

	if (!patient)
		return command_fail("out of memory");
	result = patient_examine(patient, pid);
	if (result == COMMAND_OK)
		result = patient_tell(patient, options);
	patient_discharge(patient);
	free(patient);
	return result;
}

static int doctor_start(const char **rest, const struct doctor_options *options)
{
	pid_t pid;
	int result = patient_named("doctor", rest, &pid);

	if (result != COMMAND_OK)
		return result;
	if (options->share < 1 || options->share > 100)
		return command_misused("doctor: --share is a percentage from 1 to 100");
	if (options->least < 0)
		return command_misused("doctor: --least is a number of bytes");
	return patient_visit(pid, options);
}

static int doctor_perform(int argc, const char **argv)
{
	struct doctor_options options = {
		.share = (int)VERDICT_LIMITS.share_percent, .least = (long long)VERDICT_LIMITS.bytes,
	};
	const struct poptOption table[] = {
		{ "json", 0, POPT_ARG_NONE, &options.json, 0, "Write JSON (see docs/doctor.md)", NULL },
		{ "share", 0, POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &options.share, 0,
		  "Retention or fragmentation: from this share of the heap's resident memory on",
		  "PERCENT" },
		{ "least", 0, POPT_ARG_LONGLONG | POPT_ARGFLAG_SHOW_DEFAULT, &options.least, 0,
		  "and from so much on", "BYTES" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	poptContext context = poptGetContext(NULL, argc, argv, table, 0);
	int option, result;

	poptSetOtherOptionHelp(context, "[option ...] PID");
	option = poptGetNextOpt(context);
	if (option == COMMAND_HELP_VALUE) {
		command_help(context, doctor_about);
		poptFreeContext(context);
		return COMMAND_OK;
	}
	result = option < -1 ?
	         command_misused("doctor: %s: %s (see cede help doctor)",
	                         poptBadOption(context, POPT_BADOPTION_NOALIAS),
	                         poptStrerror(option)) :
	         doctor_start(poptGetArgs(context), &options);
	poptFreeContext(context);
	return result;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "tell why a process holds on to its memory",
	.perform = doctor_perform,
};
