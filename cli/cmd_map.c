/*
 * cede map: the heap of a process, live or in a file, as a picture.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "doctor/snapshot.h"
#include "map/draw.h"
#include "map/page.h"

static const char map_about[] =
	"Draws the heap of a process on glibc's malloc: its address space in rows, a\n"
	"cell for each page or group of pages, coloured by what became of its bytes. The\n"
	"file's ending says how: .svg, .png, or .html, which zooms and tells what lies under\n"
	"the pointer. See docs/map.md.\n\n"
	"  cede map -o heap.html $(pidof server)\n"
	"  cede map -o heap.svg --file heap.snap\n";

static bool has_ending(const char *path, const char *ending)
{
	size_t length = strlen(path), wanted = strlen(ending);

	return length > wanted && !strcmp(path + length - wanted, ending);
}

static int patient_draw(struct patient *patient, const char *path)
{
	struct picture picture;
	const char *failure;

	if (!patient->model.region_count)
		return command_fail("process %d has no heap of glibc's malloc to draw%s%s", patient->pid,
		                    patient->allocator.name ? ": it runs on " : "",
		                    patient->allocator.name ? patient->allocator.name : "");
	patient_judge(patient, &VERDICT_LIMITS);
	if (!picture_make(&picture, patient))
		return command_fail("out of memory");
	failure = has_ending(path, ".html") ? page_write(path, &picture) :
	          draw_write(path, &picture);
	picture_discard(&picture);
	return failure ? command_fail("%s: %s", path, failure) : COMMAND_OK;
}

struct map_options {
	char *path, *file;
};

static int patient_find(struct patient *patient, const char **rest, const char *file)
{
	pid_t pid;
	int result;

	if (file && rest)
		return command_misused("map: a file or a process, not both (see cede help map)");
	if (file)
		return snapshot_read(file, patient);
	result = patient_named("map", rest, &pid);
	return result == COMMAND_OK ? patient_examine(patient, pid, false) : result;
}

static int map_start(const char **rest, void *context)
{
	const struct map_options *options = context;
	const char *path = options->path;
	struct patient *patient;
	int result;

	if (!path)
		return command_misused("map: where to? (-o FILE.svg, .png or .html)");
	if (!has_ending(path, ".svg") && !has_ending(path, ".png") && !has_ending(path, ".html"))
		return command_misused("map: '%s' ends neither in .svg nor .png nor .html", path);
	patient = calloc(1, sizeof(*patient));
	if (!patient)
		return command_fail("out of memory");
	result = patient_find(patient, rest, options->file);
	if (result == COMMAND_OK)
		result = patient_draw(patient, path);
	patient_discharge(patient);
	free(patient);
	return result;
}

static int map_perform(int argc, const char **argv)
{
	struct map_options options = { NULL };
	const struct poptOption table[] = {
		{ "output", 'o', POPT_ARG_STRING, &options.path, 0, "Draw to this file",
		  "FILE.svg|png|html" },
		{ "file", 0, POPT_ARG_STRING, &options.file, 0, "Draw a file of cede snapshot", "FILE" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	int result = command_line(&command_map, argc, argv, table, 0, map_start, &options);

	free(options.path);
	free(options.file);
	return result;
}

const struct command command_map = {
	.name = "map",
	.summary = "draw the heap of a process",
	.arguments = "-o FILE PID | -o FILE --file FILE",
	.about = map_about,
	.perform = map_perform,
};
