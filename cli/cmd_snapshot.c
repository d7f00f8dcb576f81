/*
 * cede snapshot: a process's heap in a file, to be looked at elsewhere or later.
 */
#include <stdlib.h>

#include "command.h"
#include "doctor/sample.h"
#include "doctor/snapshot.h"

static const char snapshot_about[] =
	"Writes where the blocks of a process's heap are, what became of each and which pages\n"
	"are resident; of what is in them the names of types, nothing else unless asked to.\n"
	"The process is stopped as by cede doctor; or it is read from a core.\n\n"
	"  cede snapshot $(pidof server) -o before.snap; sleep 3600\n"
	"  cede snapshot $(pidof server) -o after.snap\n"
	"  cede doctor --file after.snap\n"
	"  cede doctor --compare before.snap after.snap\n"
	"  cede snapshot --core core.4711 -o crash.snap\n";

struct snapshot_options {
	char *path;
	int leaks, contents;
	struct patient_source source;
};

static int snapshot_start(const char **rest, void *context)
{
	const struct snapshot_options *options = context;
	struct patient *patient;
	int result;

	if (!options->path)
		return command_misused("snapshot: where to? (-o FILE)");
	patient = malloc(sizeof(*patient));
	if (!patient)
		return command_fail("out of memory");
	result = patient_take(patient, "snapshot", rest, &options->source, options->leaks);
	if (result == COMMAND_OK && options->contents && !sample_keep(patient))
		result = command_fail("out of memory");
	if (result == COMMAND_OK)
		result = snapshot_store(patient, options->path);
	patient_discharge(patient);
	free(patient);
	return result;
}

static int snapshot_perform(int argc, const char **argv)
{
	struct snapshot_options options = { 0 };
	const struct poptOption table[] = {
		{ "output", 'o', POPT_ARG_STRING, &options.path, 0, "Where to write it", "FILE" },
		{ "leaks", 0, POPT_ARG_NONE, &options.leaks, 0,
		  "Look for blocks that nothing leads to any more, too", NULL },
		{ "contents", 0, POPT_ARG_NONE, &options.contents, 0,
		  "Write the first 64 bytes of two blocks of each size and kind, too", NULL },
		PATIENT_SOURCE_OPTIONS(&options.source),
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	int result = command_line(&command_snapshot, argc, argv, table, 0, snapshot_start,
	                          &options);

	free(options.path);
	patient_source_free(&options.source);
	return result;
}

const struct command command_snapshot = {
	.name = "snapshot",
	.summary = "write a process's heap to a file, for cede doctor",
	.arguments = "PID -o FILE | --core FILE -o FILE",
	.about = snapshot_about,
	.perform = snapshot_perform,
};
