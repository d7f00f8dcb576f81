/*
 * cede snapshot: a process's heap in a file, to be looked at elsewhere or later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "doctor/snapshot.h"

static const char snapshot_about[] =
	"Writes where the blocks of a process's heap are, what became of each and which pages\n"
	"are resident; nothing that is in them.  The process is stopped as by cede doctor.\n\n"
	"  cede snapshot $(pidof server) -o before.snap; sleep 3600\n"
	"  cede snapshot $(pidof server) -o after.snap\n"
	"  cede doctor --file after.snap\n"
	"  cede doctor --compare before.snap after.snap\n";

static int patient_write(struct patient *patient, const char *path)
{
	/* Where its blocks are is no one else's business. */
	int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char why[SNAPSHOT_WHY];

	if (descriptor < 0)
		return command_fail("%s: %s", path, strerror(errno));
	if (!snapshot_save(descriptor, patient, why))
		return command_fail("%s: %s; what is written of it is of no use", path, why);
	return COMMAND_OK;
}

static int process_write(pid_t pid, const char *path)
{
	struct patient *patient = malloc(sizeof(*patient));
	int result;

	if (!patient)
		return command_fail("out of memory");
	result = patient_examine(patient, pid, false);
	if (result == COMMAND_OK)
		result = patient_write(patient, path);
	patient_discharge(patient);
	free(patient);
	return result;
}

static int snapshot_perform(int argc, const char **argv)
{
	char *path = NULL;
	const struct poptOption table[] = {
		{ "output", 'o', POPT_ARG_STRING, &path, 0, "Where to write it", "FILE" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	poptContext context = poptGetContext(NULL, argc, argv, table, 0);
	int option, result;
	pid_t pid;

	poptSetOtherOptionHelp(context, "PID -o FILE");
	option = poptGetNextOpt(context);
	if (option == COMMAND_HELP_VALUE) {
		command_help(context, snapshot_about);
		result = COMMAND_OK;
	} else if (option < -1) {
		result = command_misused("snapshot: %s: %s (see cede help snapshot)",
		                         poptBadOption(context, POPT_BADOPTION_NOALIAS),
		                         poptStrerror(option));
	} else if (!path) {
		result = command_misused("snapshot: where to? (-o FILE)");
	} else {
		result = patient_named("snapshot", poptGetArgs(context), &pid);
		if (result == COMMAND_OK)
			result = process_write(pid, path);
	}
	free(path);
	poptFreeContext(context);
	return result;
}

const struct command command_snapshot = {
	.name = "snapshot",
	.summary = "write a process's heap to a file, for cede doctor",
	.perform = snapshot_perform,
};
