/*
 * cede run: starts a program with cede as its allocator, once it is sure that
 * the loader will put it there.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "library.h"
#include "program.h"

struct run_options {
	char *policy;
	char *background;
	char **others;       /* each "name=value"; NULL when none was given */
	char text[1024];     /* all of them as CEDE_OPTIONS has them */
};

static const char run_about[] =
	"Runs the program with libcede.so preloaded, and refuses one that the loader would run\n"
	"without cede. LD_PRELOAD and CEDE_OPTIONS keep what they had; CEDE_LIBRARY names another\n"
	"libcede.so.\n\n"
	"Exit status: the program's; 1 it was not started, 2 cede was called wrongly.\n\n"
	"  cede run -- ./server --port 8080\n"
	"  cede run --policy classic -- ./server\n"
	"  cede run --option retain_max=64M --option huge=on -- ./server\n";

static bool is_one_of(const char *value, const char *first, const char *second)
{
	return !strcmp(value, first) || !strcmp(value, second);
}

static bool text_add(struct run_options *options, const char *name, const char *value)
{
	size_t used = strlen(options->text), room = sizeof(options->text) - used;
	int length = snprintf(options->text + used, room, "%s%s%s%s", used ? "," : "", name,
	                      *name ? "=" : "", value);

	return length >= 0 && (size_t)length < room;
}

/* Returns COMMAND_OK, or COMMAND_USAGE after it said what is wrong. */
static int options_join(struct run_options *options)
{
	bool fits = true;

	if (options->policy && !is_one_of(options->policy, "default", "classic"))
		return command_misused("--policy is default or classic, not '%s'", options->policy);
	if (options->background && !is_one_of(options->background, "on", "off"))
		return command_misused("--background is on or off, not '%s'", options->background);
	for (char **other = options->others; other && *other; other++) {
		const char *sign = strchr(*other, '=');

		if (!sign || sign == *other || strchr(*other, ','))
			return command_misused("--option is name=value, not '%s'", *other);
		fits = fits && text_add(options, "", *other);
	}
	if (options->policy)
		fits = fits && text_add(options, "policy", options->policy);
	if (options->background)
		fits = fits && text_add(options, "background", options->background);
	return fits ? COMMAND_OK : command_misused("the options are too long");
}

static int program_start(const struct run_options *options, const char **argv)
{
	char library[PATH_MAX], path[PATH_MAX];

	if (library_find(library) != 0 || program_resolve(argv[0], path) != 0 ||
	    program_check(path, library) != 0 || library_preload(library, options->text) != 0)
		return COMMAND_FAILED;
	execv(path, (char *const *)argv);
	return command_fail("%s: %s", path, strerror(errno));
}

static int run_start(const char **rest, void *context)
{
	struct run_options *options = context;
	int result = options_join(options);

	if (result != COMMAND_OK)
		return result;
	return rest ? program_start(options, rest) :
	       command_misused("run: which program? (see cede help run)");
}

static int run_perform(int argc, const char **argv)
{
	struct run_options options = { 0 };
	const struct poptOption table[] = {
		{ "policy", 0, POPT_ARG_STRING, &options.policy, 0,
		  "How memory goes back: by itself (default), or as ptmalloc has it (classic)",
		  "default|classic" },
		{ "background", 0, POPT_ARG_STRING, &options.background, 0,
		  "Whether the default policy may start its thread", "on|off" },
		{ "option", 0, POPT_ARG_ARGV, &options.others, 0,
		  "Any other option of the library; may be given again", "name=value" },
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};

	/* The program's own options are not ours: stop at the first plain word. */
	return command_line(&command_run, argc, argv, table, POPT_CONTEXT_POSIXMEHARDER, run_start,
	                    &options);
}

const struct command command_run = {
	.name = "run",
	.summary = "run a program with cede as its allocator",
	.arguments = "[option ...] [--] program [argument ...]",
	.about = run_about,
	.perform = run_perform,
};
