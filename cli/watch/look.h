/*
 * One look at a process, as far as it is shown while the process is watched.
 * Layer: cli/watch.  What goes wrong is told by the readers' commands, in words that help.
 *
 * On glibc's malloc the process is stopped for the look; on cede it runs on, and its figures
 * are those of cede's own counters (docs/statistics.md).
 */
#ifndef CEDE_CLI_WATCH_LOOK_H
#define CEDE_CLI_WATCH_LOOK_H

#include <sys/types.h>

#include "doctor/verdict.h"

#define LOOK_REASONS GATE_KINDS

/* What holds memory, and how. */
struct look_reason {
	const char *name;            /* of a gate, or as cede stats has it */
	uint64_t bytes;
	char text[256];
};

struct look {
	uint64_t taken;              /* in milliseconds since 1970 */
	char name[64];               /* of the process, printable */
	char allocator[64];          /* "glibc 2.36" */
	enum verdict_kind verdict;   /* of this look alone */
	uint64_t resident_bytes;     /* of the process */
	uint64_t heap_bytes;         /* of these: the heap's */
	uint64_t live_bytes;         /* that the program has not freed, */
	uint64_t live_resident_bytes;   /* and as far as they are resident */
	uint64_t whole_bytes, shared_bytes;   /* free and resident: struct account */
	uint64_t gone_bytes;         /* free and not resident: given back, or never used */
	struct look_reason reasons[LOOK_REASONS];
	size_t reason_count;
	uint64_t pause_microseconds; /* of all the times it was stopped, at most */
};

/* Returns COMMAND_OK, or COMMAND_FAILED after it said why; then `look` is not changed. */
int look_take(struct look *look, pid_t pid, const struct verdict_limits *limits);

#endif
