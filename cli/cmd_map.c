/*
 * cede map: the heap of a process, live, in a core or in a file, as a picture.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "doctor/snapshot.h"
#include "map/draw.h"
#include "map/page.h"

static const char map_about[] =
	"Draws the heap of a process on glibc's malloc or cede, live or in a core: its address\n"
	"space in rows, a cell for each page or group of pages, coloured by what became of its bytes.\n"
	"The file's ending says how: .svg, .png, or .html, which zooms and tells what lies\n"
	"under the pointer. See docs/map.md.\n\n"
	"  cede map -o heap.html $(pidof server)\n"
	"  cede map -o heap.svg --file heap.snap\n"
	"  cede map -o heap.svg --core core.4711\n";

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
		return command_fail("%s has no heap of glibc's malloc, or cede's, to draw%s%s", patient->what,
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
	struct patient_source source;
};

static int patient_find(struct patient *patient, const char **rest,
                        const struct map_options *options)
{
	if (options->file && (rest || options->source.core))
		return command_misused("map: a file or a process, not both (see cede help map)");
	return options->file ? snapshot_read(options->file, patient) :
	       patient_take(patient, "map", rest, &options->source, false);
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
	result = patient_find(patient, rest, options);
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
		PATIENT_SOURCE_OPTIONS(&options.source),
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	int result = command_line(&command_map, argc, argv, table, 0, map_start, &options);

	free(options.path);
	free(options.file);
	patient_source_free(&options.source);
	return result;
}

const struct command command_map = {
	.name = "map",
	.summary = "draw the heap of a process",
	.arguments = "-o FILE PID | -o FILE --file FILE | -o FILE --core FILE",
	.about = map_about,
	.perform = map_perform,
};
