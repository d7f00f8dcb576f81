/*
 * cede map: the heap of a live process as a picture.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "map/draw.h"
#include "map/page.h"

static const char map_about[] =
	"Draws the heap of a live process on glibc's malloc: its address space in rows, a\n"
	"cell for each page or group of pages, coloured by what became of its bytes. The\n"
	"file's ending says how: .svg, .png, or .html, which zooms and tells what lies under\n"
	"the pointer. See docs/map.md.\n\n"
	"  cede map -o heap.html $(pidof server)\n";

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

static int map_start(const char **rest, void *context)
{
	const char *path = *(char **)context;
	struct patient *patient;
	pid_t pid;
	int result = patient_named("map", rest, &pid);

	if (result != COMMAND_OK)
		return result;
	if (!path)
		return command_misused("map: where to? (-o FILE.svg, .png or .html)");
	if (!has_ending(path, ".svg") && !has_ending(path, ".png") && !has_ending(path, ".html"))
		return command_misused("map: '%s' ends neither in .svg nor .png nor .html", path);
	patient = malloc(sizeof(*patient));
	if (!patient)
		return command_fail("out of memory");
	result = patient_examine(patient, pid, false);
	if (result == COMMAND_OK)
		result = patient_draw(patient, path);
	patient_discharge(patient);
	free(patient);
	return result;
}

static int map_perform(int argc, const char **argv)
{
	char *path = NULL;
	const struct poptOption table[] = {
		{ "output", 'o', POPT_ARG_STRING, &path, 0, "Draw to this file", "FILE.svg|png|html" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};
	int result = command_line(&command_map, argc, argv, table, 0, map_start, &path);

	free(path);
	return result;
}

const struct command command_map = {
	.name = "map",
	.summary = "draw the heap of a process",
	.arguments = "-o FILE PID",
	.about = map_about,
	.perform = map_perform,
};
