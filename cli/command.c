#include "command.h"

#include <stdarg.h>
#include <stdio.h>

static char *captured;
static size_t captured_size;

static void say(const char *format, va_list args)
{
	if (captured) {
		vsnprintf(captured, captured_size, format, args);
		return;
	}
	fputs("cede: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void command_capture(char *text, size_t size)
{
	captured = text;
	captured_size = size;
}

void command_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

int command_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	return COMMAND_FAILED;
}

int command_misused(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	return COMMAND_USAGE;
}

int command_line(const struct command *command, int argc, const char **argv,
                 const struct poptOption *table, unsigned flags, command_start *start,
                 void *options)
{
	poptContext context = poptGetContext(NULL, argc, argv, table, flags);
	int option, result = COMMAND_OK;

	poptSetOtherOptionHelp(context, command->arguments);
	option = poptGetNextOpt(context);
	if (option > 0) {
		poptPrintHelp(context, stdout, 0);
		printf("\n%s", command->about);
	} else if (option < -1) {
		result = command_misused("%s: %s: %s (see cede help %s)", command->name,
		                         poptBadOption(context, POPT_BADOPTION_NOALIAS),
		                         poptStrerror(option), command->name);
	} else {
		result = start(poptGetArgs(context), options);
	}
	poptFreeContext(context);
	return result;
}
