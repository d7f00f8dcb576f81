/*
 * The words of the doctor's reports: amounts, kinds of blocks, lines of tables.
 * Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_WORDS_H
#define CEDE_CLI_DOCTOR_WORDS_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cJSON.h>

#include "model/kinds.h"

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

#define LABEL_NAME 60              /* characters of a name that one screen has room for */

struct label {
	char text[LABEL_NAME + 32];
};

/* What blocks of a kind are, in a few words. */
static inline struct label kind_label(const struct kind *kind)
{
	static const char *const words[KIND_FORMS] = {
		[KIND_UNKNOWN] = "not resident", [KIND_ZEROS] = "zeros", [KIND_TEXT] = "text",
		[KIND_POINTERS] = "pointers", [KIND_OTHER] = "other data", [KIND_DATA] = "of ",
		[KIND_CODE] = "with function ", [KIND_FILE] = "with an address in ",
		[KIND_OBJECT] = "",
	};
	bool is_long = strlen(kind->name) > LABEL_NAME;
	struct label label;

	snprintf(label.text, sizeof(label.text), "%s%.*s%s", words[kind->form],
	         is_long ? LABEL_NAME - 3 : LABEL_NAME, kind->name, is_long ? "..." : "");
	return label;
}

/* Adds a kind's members to an object. */
static inline void kind_add(cJSON *object, const struct kind *kind)
{
	cJSON_AddStringToObject(object, "kind", kind_form_name(kind->form));
	cJSON_AddStringToObject(object, "name", kind->name);
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
