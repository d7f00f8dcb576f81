#include "command.h"

#include <stdarg.h>
#include <stdio.h>

static void say(const char *format, va_list args)
{
	fputs("cede: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
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

void command_help(poptContext context, const char *about)
{
	poptPrintHelp(context, stdout, 0);
	printf("\n%s", about);
}
