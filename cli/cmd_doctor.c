/*
 * cede doctor: why does a live process hold on to its memory?
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "doctor/report.h"
#include "readers/access.h"

enum doctor_exit { DOCTOR_RETENTION = 11, DOCTOR_FRAGMENTATION = 12, DOCTOR_NOT_GLIBC = 13 };

#define LOST_BYTES (256ul << 10)     /* a break of so much is somebody's */

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

/* --- errors --- */

/* Who traces the process already: 0 for nobody. */
static int tracer_of(pid_t pid)
{
	char path[64], line[256];
	int tracer = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && !tracer && fgets(line, sizeof(line), file))
		if (sscanf(line, "TracerPid: %d", &tracer) != 1)
			tracer = 0;
	if (file)
		fclose(file);
	return tracer;
}

static int errno_fail(pid_t pid, int error)
{
	int tracer = error == EPERM ? tracer_of(pid) : 0;
	char why[400];

	if (tracer > 0)
		return command_fail("process %d is traced by process %d: end that (gdb? strace?) and "
		                    "try again", pid, tracer);
	if (error == ETIMEDOUT)
		return command_fail("process %d does not stop: one of its threads waits for a disk or a "
		                    "child in a way that nothing interrupts; try again later", pid);
	access_explain(pid, error, why, sizeof(why));
	return command_fail("%s", why);
}

static int outcome_fail(const struct patient *patient)
{
	const char *why = patient->reading.why;

	switch (patient->outcome) {
	case GLIBC_UNKNOWN:
		return command_fail("process %d: %s; look for a newer cede", patient->pid, why);
	case GLIBC_BUSY:
		return command_fail("process %d was in the middle of changing its heap each of %u times; "
		                    "try again (%s)", patient->pid, patient->reading.stops,
		                    *why ? why : "an arena was locked");
	case GLIBC_CORRUPT:
		return command_fail("the heap of process %d is corrupted: %s; no verdict on its memory",
		                    patient->pid, why);
	default:
		return errno_fail(patient->pid, patient->reading.error);
	}
}

/* --- the examination --- */

/* A break in use, by a program with glibc's malloc, that glibc has no arena for. */
static bool is_arena_lost(const struct patient *patient, const struct memory *memory)
{
	return patient->outcome == GLIBC_ABSENT && !patient->allocator.name &&
	       allocator_is_glibc(memory) && patient->reading.break_bytes >= LOST_BYTES;
}

/* The program chose its names: nothing of them may reach a terminal but text. */
static void text_clean(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

static void name_read(struct patient *patient)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", patient->pid);
	file = fopen(path, "re");
	if (!file || !fgets(patient->name, sizeof(patient->name), file))
		strcpy(patient->name, "?");
	if (file)
		fclose(file);
	patient->name[strcspn(patient->name, "\n")] = '\0';
	text_clean(patient->name);
}

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

static int patient_examine(pid_t pid, const struct doctor_options *options)
{
	struct patient *patient = calloc(1, sizeof(*patient));
	struct memory memory;
	int error, result;

	if (!patient)
		return command_fail("%s", strerror(ENOMEM));
	patient->pid = pid;
	error = memory_open(&memory, pid);
	if (error) {
		free(patient);
		return errno_fail(pid, error);
	}
	name_read(patient);
	if (allocator_word_bits(&memory) == 32) {
		result = command_fail("process %d is a 32-bit program, which the doctor cannot read", pid);
	} else {
		patient->outcome = glibc_read(&memory, &patient->model, &patient->reading);
		allocator_find(&memory, &patient->allocator);
		text_clean(patient->allocator.file);
		text_clean(patient->reading.why);
		if (is_arena_lost(patient, &memory)) {
			patient->outcome = GLIBC_CORRUPT;
			snprintf(patient->reading.why, sizeof(patient->reading.why),
			         "its break is in use, but what glibc keeps of it cannot be found");
		}
		result = patient->outcome == GLIBC_READ || patient->outcome == GLIBC_ABSENT ?
		         patient_tell(patient, options) : outcome_fail(patient);
	}
	model_free(&patient->model);
	memory_close(&memory);
	free(patient);
	return result;
}

static int doctor_start(const char **rest, const struct doctor_options *options)
{
	char *end;
	long pid;

	if (!rest || rest[1])
		return command_misused("doctor: which process? (one process id; see cede help doctor)");
	errno = 0;
	pid = strtol(rest[0], &end, 10);
	if (errno || *end || end == rest[0] || pid <= 0 || pid > INT32_MAX)
		return command_misused("doctor: '%s' is no process id", rest[0]);
	if (options->share < 1 || options->share > 100)
		return command_misused("doctor: --share is a percentage from 1 to 100");
	if (options->least < 0)
		return command_misused("doctor: --least is a number of bytes");
	if (pid == getpid())
		return command_misused("doctor: it cannot examine itself");
	return patient_examine((pid_t)pid, options);
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
