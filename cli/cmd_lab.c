/*
 * cede lab: the experiments of the two articles as measurements.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "lab/allocator.h"
#include "lab/chart.h"
#include "lab/experiment.h"
#include "lab/report.h"
#include "lab/run.h"
#include "library.h"

#define TOTAL_MOST (2ULL << 30)       /* what the first article allocates */
#define TOTAL_LEAST (1ULL << 20)
#define DEMO_TOTAL (10000 * 65536ULL) /* the list at the second article's size */
#define DEMO_PEERS_SECONDS 48         /* peers are started until then */

struct lab_options {
	char **allocators, *only, *total_text, *chart;
	int json, steps, demo, list;
	const char **experiments;     /* names; NULL: those that run by default */
	uint64_t total;
};

struct lab {
	struct lab_options options;
	struct allocators allocators;
	struct run *runs;             /* grouped by experiment */
	size_t run_count, done;
	char program[PATH_MAX];
	bool on_terminal;
};

static const char lab_about[] =
	"Each experiment is performed by a process of its own, measured from outside at\n"
	"each step: under glibc, cede with its policy classic, cede as it is by default,\n"
	"and every other allocator found here. `cede lab --list` names the experiments;\n"
	"a group's name stands for all in it, and `all` for everything.\n"
	"\n"
	"kept +1 s  of the memory that became resident by allocating, what still was one\n"
	"           second after the last free\n"
	"[heap] and malloc_stats are as of that second; `-`: its malloc_stats tells nothing\n"
	"--json     schema \"cede-lab/1\": runs[], each with its steps[] and its trace[]\n"
	"\n"
	"Exit status: 0 all runs ended (one that a memory limit killed has), 1 one failed,\n"
	"2 it was called wrongly.\n\n"
	"  cede lab --demo\n"
	"  cede lab --total 500M --only glibc,cede list pin\n"
	"  cede lab --allocator mine=./libmine.so --chart lab.svg blocks-100\n";

static void interrupt_note(int signal_number)
{
	(void)signal_number;
	run_interrupted = 1;
}

/* A pipe to a subject must not land on 0, 1 or 2, which the subject's own are. */
static void descriptors_prepare(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static void signals_prepare(void)
{
	const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = interrupt_note };

	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		sigaction(ending[i], &action, NULL);
	/* A subject that died is noticed by its silence. */
	signal(SIGPIPE, SIG_IGN);
}

/* On stderr, over itself: "[3/18] list under cede: freed". */
static struct lab *progress_lab;

static void progress_show(const struct run *run, const char *moment)
{
	if (progress_lab->on_terminal)
		fprintf(stderr, "\r\033[K[%zu/%zu] %s under %s: %s", progress_lab->done + 1,
		        progress_lab->run_count, run->experiment->name, run->allocator->name, moment);
}

static void progress_clear(const struct lab *lab)
{
	if (lab->on_terminal)
		fputs("\r\033[K", stderr);
}

static int size_parse(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMG";
	char *end;
	unsigned long long value = strtoull(text, &end, 10);
	const char *suffix = *end ? strchr(suffixes, *end & ~0x20) : NULL;
	int shift = suffix ? 10 * (int)(suffix - suffixes + 1) : 0;

	if (end == text || *text == '-' || end[suffix ? 1 : 0] || value > UINT64_MAX >> shift >> 1)
		return -1;
	*bytes = value << shift;
	return 0;
}

/* Returns an enum command_exit. */
static int total_choose(struct lab_options *options)
{
	struct measure_machine machine;
	uint64_t most = options->demo ? DEMO_TOTAL : TOTAL_MOST;

	if (measure_machine(&machine) != 0)
		return command_fail("/proc/meminfo: %s", strerror(errno));
	options->total = machine.available / 4 < most ? machine.available / 4 : most;
	if (options->total_text && (size_parse(options->total_text, &options->total) != 0 ||
	                            options->total < TOTAL_LEAST))
		return command_misused("--total is a size of 1M or more, as 500M or 2G, not '%s'",
		                       options->total_text);
	/* Headers, the array of pointers and the copy of it take half as much again. */
	if (options->total + options->total / 2 > machine.available)
		return command_fail("not enough memory: --total %s needs about %llu MB, and %llu MB are "
		                    "available", options->total_text,
		                    (unsigned long long)(options->total * 3 / 2 / 1000000),
		                    (unsigned long long)(machine.available / 1000000));
	return COMMAND_OK;
}

static bool experiment_is_wanted(const struct lab_options *options,
                                 const struct experiment *experiment)
{
	static const char *const demo[] = { "blocks-100", "list", "pin", NULL };
	const char *const *names = options->demo ? demo : options->experiments;

	if (!names)
		return experiment->by_default;
	for (; *names; names++)
		if (experiment_matches(experiment, *names))
			return true;
	return false;
}

static int names_check(const struct lab_options *options)
{
	for (const char **name = options->experiments; name && *name; name++) {
		size_t i = 0;

		while (i < experiment_count && !experiment_matches(&experiments[i], *name))
			i++;
		if (i == experiment_count)
			return command_misused("no experiment '%s' (see cede lab --list)", *name);
	}
	return COMMAND_OK;
}

static int runs_plan(struct lab *lab)
{
	lab->runs = calloc(experiment_count * lab->allocators.count + 1, sizeof(*lab->runs));
	if (!lab->runs)
		return command_fail("out of memory");
	for (size_t e = 0; e < experiment_count; e++) {
		if (!experiment_is_wanted(&lab->options, &experiments[e]))
			continue;
		for (size_t a = 0; a < lab->allocators.count; a++)
			lab->runs[lab->run_count++] = (struct run){
				.experiment = &experiments[e],
				.allocator = &lab->allocators.list[a],
				.total = lab->options.total,
			};
	}
	return COMMAND_OK;
}

static int subject_find(char path[PATH_MAX])
{
	static const char *const places[] = { "cede-lab-subject", "../libexec/cede/cede-lab-subject" };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (library_beside_command(path, places[i]) == 0 && access(path, X_OK) == 0)
			return COMMAND_OK;
	return command_fail("cede-lab-subject is neither beside this command nor in "
	                    "../libexec/cede: reinstall cede");
}

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Prints the table of the experiment whose last run is at `last`. */
static void group_report(const struct lab *lab, size_t last)
{
	size_t begin = last;

	if (lab->options.json ||
	    (last + 1 < lab->run_count &&
	     lab->runs[last + 1].experiment == lab->runs[last].experiment))
		return;
	while (begin && lab->runs[begin - 1].experiment == lab->runs[last].experiment)
		begin--;
	progress_clear(lab);
	report_table(stdout, lab->runs + begin, last - begin + 1, lab->options.steps);
}

static void runs_perform(struct lab *lab)
{
	for (size_t i = 0; i < lab->run_count && !run_interrupted; i++) {
		run_perform(&lab->runs[i], lab->program, progress_show);
		lab->done++;
		group_report(lab, i);
	}
	progress_clear(lab);
}

/* The runs of peers come last, as long as there is time. */
static void demo_perform(struct lab *lab)
{
	double began = seconds_now();

	for (int peers = 0; peers < 2; peers++) {
		for (size_t i = 0; i < lab->run_count && !run_interrupted; i++) {
			struct run *run = &lab->runs[i];

			if (run->allocator->is_peer != (bool)peers)
				continue;
			if (peers && seconds_now() - began > DEMO_PEERS_SECONDS) {
				run->outcome = RUN_SKIPPED;
				snprintf(run->note, sizeof(run->note), "left out, to end within a minute");
				continue;
			}
			run_perform(run, lab->program, progress_show);
			lab->done++;
		}
	}
	for (size_t i = 0; i < lab->run_count && !run_interrupted; i++)
		group_report(lab, i);
}

static void demo_summarise(const struct lab *lab, const char *allocator, const char *verb)
{
	const char *separator = "";
	uint64_t kept, gained;

	printf("One second after the last free, %s %s ", allocator, verb);
	for (size_t i = 0; i < lab->run_count; i++) {
		if (strcmp(lab->runs[i].allocator->name, allocator) ||
		    !run_kept(&lab->runs[i], &kept, &gained))
			continue;
		printf("%s%.0f of %.0f MB (%s)", separator, (double)kept / 1e6, (double)gained / 1e6,
		       lab->runs[i].experiment->name);
		separator = ", ";
	}
	puts(".");
}

static int chart_make(const struct lab *lab)
{
	const char *path = lab->options.chart, *error;

	if (!path && lab->options.demo)
		path = access("build", W_OK) == 0 ? "build/cede-lab.svg" : "cede-lab.svg";
	if (!path)
		return COMMAND_OK;
	error = chart_write(path, lab->runs, lab->run_count);
	if (error)
		return command_fail("chart %s: %s", path, error);
	fprintf(lab->options.json ? stderr : stdout, "Chart: %s\n", path);
	return COMMAND_OK;
}

static int results_tell(const struct lab *lab)
{
	int result = COMMAND_OK;

	for (size_t i = 0; i < lab->run_count; i++) {
		const struct run *run = &lab->runs[i];

		if (run->outcome == RUN_FAILED && !run_interrupted)
			result = command_fail("%s under %s: %s", run->experiment->name,
			                      run->allocator->name, run->note);
	}
	if (run_interrupted)
		return command_fail("interrupted");
	if (lab->options.json) {
		if (report_json(stdout, lab->runs, lab->run_count) != 0)
			result = command_fail("the results cannot be written: %s", strerror(errno));
	} else if (lab->options.demo) {
		putchar('\n');
		demo_summarise(lab, "glibc", "still holds");
		demo_summarise(lab, "cede", "holds");
	}
	return chart_make(lab) == COMMAND_OK ? result : COMMAND_FAILED;
}

static void experiments_list(void)
{
	for (size_t i = 0; i < experiment_count; i++)
		printf("%-14s %-8s %s%s\n", experiments[i].name, experiments[i].group,
		       experiments[i].title, experiments[i].by_default ? "" : " (on request)");
}

static int lab_start(const char **rest, void *context)
{
	struct lab *lab = context;
	struct lab_options *options = &lab->options;
	int result;

	options->experiments = rest;
	if (options->list) {
		experiments_list();
		return COMMAND_OK;
	}
	if (options->demo && options->experiments)
		return command_misused("--demo chooses the experiments itself");
	if (options->chart && !chart_can_write(options->chart))
		return command_misused("--chart writes .svg and .png, not '%s'", options->chart);
	result = names_check(options);
	if (result == COMMAND_OK)
		result = total_choose(options);
	if (result == COMMAND_OK)
		result = subject_find(lab->program);
	if (result == COMMAND_OK && allocators_find(&lab->allocators, options->allocators,
	                                            options->only) != 0)
		result = COMMAND_FAILED;
	if (result == COMMAND_OK)
		result = runs_plan(lab);
	if (result != COMMAND_OK)
		return result;
	descriptors_prepare();
	signals_prepare();
	lab->on_terminal = isatty(STDERR_FILENO);
	progress_lab = lab;
	if (options->demo)
		demo_perform(lab);
	else
		runs_perform(lab);
	result = results_tell(lab);
	for (size_t i = 0; i < lab->run_count; i++)
		run_free(&lab->runs[i]);
	free(lab->runs);
	return result;
}

static int lab_perform(int argc, const char **argv)
{
	static struct lab lab;
	struct lab_options *options = &lab.options;
	const struct poptOption table[] = {
		{ "total", 0, POPT_ARG_STRING, &options->total_text, 0,
		  "Allocate at most so much in blocks (default: 2G, or a quarter of what is available)",
		  "SIZE" },
		{ "only", 0, POPT_ARG_STRING, &options->only, 0,
		  "Under these allocators alone (glibc, classic, cede, jemalloc, ...)", "NAME,..." },
		{ "allocator", 0, POPT_ARG_ARGV, &options->allocators, 0,
		  "Under this library too; may be given again", "NAME=PATH" },
		{ "steps", 0, POPT_ARG_NONE, &options->steps, 0,
		  "Print everything measured, a row per step", NULL },
		{ "json", 0, POPT_ARG_NONE, &options->json, 0, "Print JSON instead of tables", NULL },
		{ "chart", 0, POPT_ARG_STRING, &options->chart, 0,
		  "Draw live bytes and RSS over time into FILE.svg or FILE.png", "FILE" },
		{ "demo", 0, POPT_ARG_NONE, &options->demo, 0,
		  "Three experiments, within a minute, with a chart", NULL },
		{ "list", 0, POPT_ARG_NONE, &options->list, 0, "List the experiments", NULL },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};

	return command_line(&command_lab, argc, argv, table, 0, lab_start, &lab);
}

const struct command command_lab = {
	.name = "lab",
	.summary = "measure what allocators keep after a free",
	.arguments = "[option ...] [experiment ...]",
	.about = lab_about,
	.perform = lab_perform,
};
