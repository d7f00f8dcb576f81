/*
 * cede trim: gives back what a live process has freed.
 */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "doctor/patient.h"
#include "doctor/trim.h"
#include "doctor/words.h"
#include "inject/trim.h"

#define TRIM_NOT_GLIBC 13

struct trim_options {
	int yes, json;
};

static const char trim_about[] =
	"Makes a live process that runs on glibc's malloc call malloc_trim(0), once, at a moment\n"
	"when that cannot harm it; first it says what that gives back, and asks.  All threads\n"
	"wait meanwhile; whatever happens to this command, they go on.\n\n"
	"Exit status: 0 done (or nothing to give back), 1 it gave up and says why, 2 it was called\n"
	"wrongly, 13 the process does not run on glibc's malloc.\n\n"
	"  cede trim $(pidof server)\n"
	"  cede trim --yes --json $(pidof server) | jq .given_bytes\n";

/* --- to ask --- */

static bool is_agreed(const struct patient *patient, const struct trim *trim)
{
	char answer[16] = "";

	fprintf(stderr, "%s (%d): malloc_trim(0) gives back %s (%" PRIu64 " bytes).\n"
	        "One of its %zu thread%s is made to call it while all wait, for about %s.\n"
	        "Go on? [y/N] ", patient->name, patient->pid, amount(trim->bytes).text, trim->bytes,
	        patient->reading.threads, plural(patient->reading.threads),
	        trim->bytes < 1000000000 ? "a tenth of a second" : "a tenth of a second a gigabyte");
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

/* --- to tell --- */

static int json_write(const struct patient *patient, const struct trim *trim,
                      const struct trim_report *report)
{
	cJSON *root = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-trim/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	cJSON_AddNumberToObject(root, "pid", patient->pid);
	cJSON_AddStringToObject(root, "name", patient->name);
	cJSON_AddNumberToObject(root, "predicted_bytes", (double)trim->bytes);
	cJSON_AddNumberToObject(root, "before_bytes", (double)report->before_bytes);
	cJSON_AddNumberToObject(root, "after_bytes", (double)report->after_bytes);
	cJSON_AddNumberToObject(root, "given_bytes",
	                        (double)report->before_bytes - (double)report->after_bytes);
	cJSON_AddNumberToObject(root, "thread", report->thread);
	cJSON_AddNumberToObject(root, "stops", report->stops);
	cJSON_AddNumberToObject(root, "pause_microseconds", (double)report->pause_microseconds);
	text = cJSON_Print(root);
	if (text)
		puts(text);
	free(text);
	cJSON_Delete(root);
	return text && fflush(stdout) == 0 ? COMMAND_OK :
	       command_fail("the report could not be written");
}

static int text_write(const struct patient *patient, const struct trim *trim,
                      const struct trim_report *report)
{
	int64_t given = (int64_t)report->before_bytes - (int64_t)report->after_bytes;

	printf("%s (%d): gave back %s (%" PRId64 " bytes; predicted %" PRIu64 ").\n"
	       "Resident without files: %s before, %s now.  It stood still for %.1f ms.\n",
	       patient->name, patient->pid, amount(given > 0 ? (uint64_t)given : 0).text, given,
	       trim->bytes, amount(report->before_bytes).text, amount(report->after_bytes).text,
	       (double)report->pause_microseconds / 1e3);
	return fflush(stdout) == 0 ? COMMAND_OK : command_fail("the report could not be written");
}

static int outcome_tell(const struct patient *patient, const struct trim *trim,
                        const struct trim_report *report, enum trim_outcome outcome, bool json)
{
	switch (outcome) {
	case TRIM_DONE:
		return json ? json_write(patient, trim, report) : text_write(patient, trim, report);
	case TRIM_UNFINISHED:
		return command_fail("process %d takes more than 2 s for it; it runs on, and its thread %d "
		                    "finishes it by itself", patient->pid, report->thread);
	case TRIM_HINDERED:
		return command_fail("process %d was left as it is, after %u looks: %s", patient->pid,
		                    report->stops, report->why);
	case TRIM_FATAL:
		return command_fail("malloc_trim found the heap of process %d corrupted, and ended it",
		                    patient->pid);
	case TRIM_ENDED:
		return command_fail("process %d was ended meanwhile", patient->pid);
	default:
		return patient_fail(patient->pid, report->error);
	}
}

/* --- to do --- */

static int heap_trim(struct patient *patient, const struct waits *waits,
                     const struct trim_options *options)
{
	struct trim_report report = { 0 };
	enum trim_outcome outcome = TRIM_DONE;
	struct trim trim;

	trim_predict(&patient->model, &trim);
	if (!trim.bytes && !options->json) {
		printf("%s (%d): malloc_trim(0) would give nothing back\n", patient->name, patient->pid);
		return COMMAND_OK;
	}
	if (trim.bytes) {
		if (!options->yes && !is_agreed(patient, &trim))
			return command_fail("process %d was left as it is", patient->pid);
		outcome = trim_make(&patient->memory, waits, &report);
	}
	return outcome_tell(patient, &trim, &report, outcome, options->json);
}

static int process_trim(struct patient *patient, pid_t pid, const struct trim_options *options)
{
	struct waits waits;
	int result;

	waits_note(&waits, pid);
	result = patient_examine(patient, pid, false);
	if (result == COMMAND_OK && patient->allocator.is_malloc) {
		command_say("process %d runs on %s (%s), not on glibc's malloc", pid,
		            patient->allocator.name, patient->allocator.file);
		result = TRIM_NOT_GLIBC;
	} else if (result == COMMAND_OK && patient->outcome == GLIBC_ABSENT) {
		command_say("process %d has no heap of glibc's malloc", pid);
		result = TRIM_NOT_GLIBC;
	} else if (result == COMMAND_OK) {
		result = heap_trim(patient, &waits, options);
	}
	waits_free(&waits);
	patient_discharge(patient);
	return result;
}

static int trim_start(const char **rest, void *context)
{
	const struct trim_options *options = context;
	struct patient *patient;
	pid_t pid;
	int result = patient_named("trim", rest, &pid);

	if (result != COMMAND_OK)
		return result;
	if (!options->yes && !isatty(STDIN_FILENO))
		return command_misused("trim: it asks before it does anything, but nobody is at a "
		                       "terminal: --yes goes on without");
	patient = malloc(sizeof(*patient));
	if (!patient)
		return command_fail("out of memory");
	result = process_trim(patient, pid, options);
	free(patient);
	return result;
}

static int trim_perform(int argc, const char **argv)
{
	struct trim_options options = { 0 };
	const struct poptOption table[] = {
		{ "yes", 'y', POPT_ARG_NONE, &options.yes, 0, "Do not ask", NULL },
		{ "json", 0, POPT_ARG_NONE, &options.json, 0, "Write JSON (see docs/trim.md)", NULL },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};

	return command_line(&command_trim, argc, argv, table, 0, trim_start, &options);
}

const struct command command_trim = {
	.name = "trim",
	.summary = "give back what a live process has freed",
	.arguments = "[option ...] PID",
	.about = trim_about,
	.perform = trim_perform,
};
