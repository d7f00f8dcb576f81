/*
 * The command `cede`: finds the command in the table and hands over.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
	&command_run,
	&command_doctor,
	&command_watch,
	&command_snapshot,
	&command_map,
	&command_trim,
	&command_lab,
	&command_stats,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help_print(void)
{
	puts("cede: the memory allocator that gives memory back\n\n"
	     "Usage: cede COMMAND [argument ...]\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
	puts("\n`cede help COMMAND` tells about one of them, `man cede-COMMAND` more;\n"
	     "`cede --version` prints the version.\n\n"
	     "Exit status, unless the command's help says more: 0 all went well, 1 it failed,\n"
	     "2 it was called wrongly.\n\n"
	     "  cede run -- ./server --port 8080\n"
	     "  cede doctor $(pidof server)");
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i]->name))
			return commands[i];
	return NULL;
}

static int command_hand_over(const struct command *command, int argc, const char **argv)
{
	char name[64];

	snprintf(name, sizeof(name), "cede %s", command->name);
	argv[0] = name;
	return command->perform(argc, argv);
}

static int help_command(int argc, const char **argv)
{
	const struct command *command;
	const char *help[] = { NULL, "--help", NULL };

	if (argc == 1) {
		help_print();
		return COMMAND_OK;
	}
	command = command_find(argv[1]);
	if (!command || argc > 2)
		return command_misused("help takes one command's name (see cede --help)");
	return command_hand_over(command, 2, help);
}

int main(int argc, const char **argv)
{
	const struct command *command;

	if (argc < 2)
		return command_misused("which command? (see cede --help)");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		help_print();
		return COMMAND_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("cede " COMMAND_VERSION);
		return COMMAND_OK;
	}
	if (!strcmp(argv[1], "help"))
		return help_command(argc - 1, argv + 1);
	command = command_find(argv[1]);
	if (!command)
		return command_misused("unknown command '%s' (see cede --help)", argv[1]);
	return command_hand_over(command, argc - 1, argv + 1);
}
