/*
 * What every command shares: the table's entry, the exit codes, and how errors
 * are told.  Layer: cli.
 *
 * To add a command: write cli/cmd_NAME.c with a `const struct command
 * command_NAME`, declare it below, and add it to the table in main.c.
 */
#ifndef CEDE_CLI_COMMAND_H
#define CEDE_CLI_COMMAND_H

#include <cede/cede.h>
#include <popt.h>

enum command_exit { COMMAND_OK = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

#define COMMAND_TEXT_EXPANDED(number) #number
#define COMMAND_TEXT(number) COMMAND_TEXT_EXPANDED(number)
/* "major.minor.patch" */
#define COMMAND_VERSION COMMAND_TEXT(CEDE_VERSION_MAJOR) "." \
	COMMAND_TEXT(CEDE_VERSION_MINOR) "." COMMAND_TEXT(CEDE_VERSION_PATCH)

struct command {
	const char *name;
	const char *summary;   /* one line, for `cede --help` */
	const char *arguments; /* behind the name in its line of usage */
	const char *about;     /* the rest of its help */
	/* argv[0] is "cede NAME", the rest as on the command line.  Answers --help
	 * by itself.  Returns an enum command_exit,
	 * or a status that its help tells. */
	int (*perform)(int argc, const char **argv);
};

extern const struct command command_run;
extern const struct command command_doctor;
extern const struct command command_snapshot;
extern const struct command command_map;
extern const struct command command_trim;
extern const struct command command_lab;
extern const struct command command_stats;
extern const struct command command_watch;

/* One line on stderr, "cede: ...", without a newline in the format. */
void command_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, for `return command_fail(...)`: COMMAND_FAILED and COMMAND_USAGE. */
int command_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int command_misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What is said from now on is put into `text` instead, each time anew and without "cede: ";
 * NULL: it is printed again. */
void command_capture(char *text, size_t size);

/* For the table of a command's options. */
#define COMMAND_HELP_OPTION \
	{ "help", 'h', POPT_ARG_NONE, NULL, 'h', "Show this text", NULL }

/*
 * Reads the options of a command's line into what the table says, answers --help, tells what
 * it does not know, and hands over: `rest` are the arguments, NULL when there are none.
 * `flags` are those of poptGetContext.  Returns what `start` returned.
 */
typedef int command_start(const char **rest, void *options);
int command_line(const struct command *command, int argc, const char **argv,
                 const struct poptOption *table, unsigned flags, command_start *start,
                 void *options);

#endif
