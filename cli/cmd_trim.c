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
#include "doctor/words.h"
#include "inject/purger.h"
#include "inject/trim.h"
#include "readers/cede_stats.h"

struct trim_options {
	int yes, json;
};

static const char trim_about[] =
	"Makes a live process that runs on glibc's malloc call malloc_trim(0), once, at a moment\n"
	"when that cannot harm it; first it says what that gives back, and asks.  All threads\n"
	"wait meanwhile; whatever happens to this command, they go on.  A process on cede is\n"
	"asked to give back by itself.\n\n"
	"Exit status: 0 done (or nothing to give back), 1 it gave up and says why, 2 it was called\n"
	"wrongly, 13 the process runs on another malloc.\n\n"
	"  cede trim $(pidof server)\n"
	"  cede trim --yes --json $(pidof server) | jq .given_bytes\n";

/* What is to be done to a process, and what came of it. */
struct job {
	const struct patient *patient;
	const char *what;            /* "malloc_trim(0)", or who does it */
	uint64_t predicted_bytes;
	struct trim_report report;
	enum trim_outcome outcome;
};

/* --- to ask --- */

static bool is_agreed(const struct job *job)
{
	size_t threads = job->patient->reading.threads;
	char answer[16] = "";

	fprintf(stderr, "%s (%d): %s gives back %s (%" PRIu64 " bytes).\n", job->patient->name,
	        job->patient->pid, job->what, amount(job->predicted_bytes).text,
	        job->predicted_bytes);
	if (job->patient->outcome == READING_DONE && threads > 1)
		fprintf(stderr, "One of its %zu threads is made to call it while the others wait, for some "
		        "tenths of a second.\n", threads);
	else if (job->patient->outcome == READING_DONE)
		fputs("Its thread is made to call it, which takes some tenths of a second.\n", stderr);
	fputs("Go on? [y/N] ", stderr);
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

/* --- to tell --- */

static int json_write(const struct job *job)
{
	const struct trim_report *report = &job->report;
	cJSON *root = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-trim/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	cJSON_AddNumberToObject(root, "pid", job->patient->pid);
	cJSON_AddStringToObject(root, "name", job->patient->name);
	cJSON_AddStringToObject(root, "by", job->what);
	cJSON_AddNumberToObject(root, "predicted_bytes", (double)job->predicted_bytes);
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

static int text_write(const struct job *job)
{
	const struct trim_report *report = &job->report;
	int64_t given = (int64_t)report->before_bytes - (int64_t)report->after_bytes;

	if (!report->stops)
		printf("%s (%d): %s would give nothing back\n", job->patient->name, job->patient->pid,
		       job->what);
	else
		printf("%s (%d): gave back %s (%" PRId64 " bytes; predicted %" PRIu64 ").\n"
		       "Resident without files: %s before, %s now.  It stood still for %.1f ms.\n",
		       job->patient->name, job->patient->pid,
		       amount(given > 0 ? (uint64_t)given : 0).text, given, job->predicted_bytes,
		       amount(report->before_bytes).text, amount(report->after_bytes).text,
		       (double)report->pause_microseconds / 1e3);
	return fflush(stdout) == 0 ? COMMAND_OK : command_fail("the report could not be written");
}

static int outcome_tell(const struct job *job, bool json)
{
	pid_t pid = job->patient->pid;

	switch (job->outcome) {
	case TRIM_DONE:
		return json ? json_write(job) : text_write(job);
	case TRIM_UNFINISHED:
		return command_fail("process %d takes more than 2 s for it; it runs on, and its thread %d "
		                    "finishes it by itself", pid, job->report.thread);
	case TRIM_HINDERED:
		return command_fail("process %d was left as it is, after %u look%s: %s", pid,
		                    job->report.stops, plural(job->report.stops), job->report.why);
	case TRIM_FATAL:
		return command_fail("malloc_trim found the heap of process %d corrupted, and ended it",
		                    pid);
	case TRIM_ENDED:
		return command_fail("process %d was ended meanwhile", pid);
	default:
		return patient_fail(pid, job->report.error);
	}
}

/* --- to do --- */

static int heap_trim(struct patient *patient, const struct waits *waits,
                     const struct trim_options *options)
{
	struct job job = { .patient = patient, .what = "malloc_trim(0)",
	                   .predicted_bytes = patient->verdict.trim.bytes };

	if (job.predicted_bytes && !options->yes && !is_agreed(&job))
		return command_fail("process %d was left as it is", patient->pid);
	if (job.predicted_bytes)
		job.outcome = trim_make(&patient->memory, waits, &job.report);
	return outcome_tell(&job, options->json);
}

static int cede_trim(struct patient *patient, const struct trim_options *options)
{
	struct job job = { .patient = patient, .what = "cede's thread in it" };
	struct cede_reading reading;
	struct cede_refusal refusal;
	struct cede_target target;
	int result;

	if (!cede_target_open(&target, patient->pid, &refusal))
		return command_fail("%s", refusal.text);
	if (!cede_stats_read(&target, &reading, &refusal)) {
		result = command_fail("%s", refusal.text);
	} else {
		job.predicted_bytes = reading.stats.free_resident_bytes;
		if (!options->yes && !is_agreed(&job)) {
			result = command_fail("process %d was left as it is", patient->pid);
		} else {
			job.outcome = purger_ask(&target, &job.report);
			result = outcome_tell(&job, options->json);
		}
	}
	cede_target_close(&target);
	return result;
}

static int examined_trim(struct patient *patient, const struct waits *waits,
                         const struct trim_options *options)
{
	const struct allocator *allocator = &patient->allocator;
	bool is_absent = patient->outcome == READING_ABSENT;

	if (allocator->is_malloc && !strcmp(allocator->name, "cede"))
		return cede_trim(patient, options);
	/* Another allocator may be linked and yet not be used, or the other way round. */
	patient_judge(patient, &VERDICT_LIMITS);
	if (!is_absent && !(allocator->is_malloc && patient->verdict.kind == VERDICT_NOT_GLIBC))
		return heap_trim(patient, waits, options);
	if (allocator->is_malloc)
		command_say("process %d runs on %s (%s), not on glibc's malloc", patient->pid,
		            allocator->name, allocator->file);
	else
		command_say("process %d has no heap of glibc's malloc", patient->pid);
	return patient_exit_status(VERDICT_NOT_GLIBC);
}

static int process_trim(struct patient *patient, pid_t pid, const struct trim_options *options)
{
	struct waits waits;
	int result;

	waits_note(&waits, pid);
	result = patient_examine(patient, pid, false);
	if (result == COMMAND_OK)
		result = examined_trim(patient, &waits, options);
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
