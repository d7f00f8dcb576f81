/*
 * The options that say how much makes a verdict.  Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_LIMITS_H
#define CEDE_CLI_DOCTOR_LIMITS_H

#include "command.h"
#include "doctor/verdict.h"

struct limits_options {
	int share;                   /* percent */
	long long least;             /* bytes */
};

#define LIMITS_DEFAULT \
	{ .share = (int)VERDICT_LIMITS.share_percent, .least = (long long)VERDICT_LIMITS.bytes }

/* For a command's table. */
#define LIMITS_OPTIONS(limits) \
	{ "share", 0, POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &(limits).share, 0, \
	  "Retention or fragmentation: from this share of the heap's resident memory on; " \
	  "leak: when live memory grew by this share", "PERCENT" }, \
	{ "least", 0, POPT_ARG_LONGLONG | POPT_ARGFLAG_SHOW_DEFAULT, &(limits).least, 0, \
	  "and from so much on", "BYTES" }

/* Returns COMMAND_OK, or what command_misused gave. */
static inline int limits_judge(const char *command, const struct limits_options *options)
{
	if (options->share < 1 || options->share > 100)
		return command_misused("%s: --share is a percentage from 1 to 100", command);
	if (options->least < 0)
		return command_misused("%s: --least is a number of bytes", command);
	return COMMAND_OK;
}

static inline struct verdict_limits limits_of(const struct limits_options *options)
{
	return (struct verdict_limits){ (unsigned)options->share, (uint64_t)options->least };
}

#endif
