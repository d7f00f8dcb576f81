/*
 * The words of the doctor's reports for people: amounts and lines of tables.
 * Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_WORDS_H
#define CEDE_CLI_DOCTOR_WORDS_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

struct text {
	char text[32];
};

static inline struct text amount(uint64_t bytes)
{
	struct text amount;

	if (bytes < 10000)
		snprintf(amount.text, sizeof(amount.text), "%" PRIu64 " bytes", bytes);
	else if (bytes < 1000000)
		snprintf(amount.text, sizeof(amount.text), "%.0f kB", (double)bytes / 1e3);
	else
		snprintf(amount.text, sizeof(amount.text), "%.1f MB", (double)bytes / 1e6);
	return amount;
}

static inline const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static inline unsigned percent(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)((200 * part + whole) / (2 * whole)) : 0;
}

/* "2026-01-31T12:00:00Z", of milliseconds since 1970. */
static inline struct text moment(uint64_t milliseconds)
{
	time_t seconds = (time_t)(milliseconds / 1000);
	struct text moment = { "" };
	struct tm parts;

	if (gmtime_r(&seconds, &parts))
		strftime(moment.text, sizeof(moment.text), "%Y-%m-%dT%H:%M:%SZ", &parts);
	return moment;
}

/* A line of a table: megabytes, what they are, and more about it. */
__attribute__((format(printf, 4, 5)))
static inline void row(FILE *out, uint64_t bytes, const char *name, const char *format, ...)
{
	va_list args;

	fprintf(out, "  %12.1f  %-16s", (double)bytes / 1e6, name);
	va_start(args, format);
	vfprintf(out, format, args);
	va_end(args);
	fputc('\n', out);
}

#endif
