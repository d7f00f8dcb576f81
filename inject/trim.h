/*
 * malloc_trim(0) in a live process.  Layer: inject.
 *
 * The process is stopped, and where no thread holds one of malloc's locks and one of them is
 * in a good place (place.h) that one is made to call it (call.h) while the others wait.
 * Else the process goes on, and another moment is tried.
 */
#ifndef CEDE_INJECT_TRIM_H
#define CEDE_INJECT_TRIM_H

#include "inject/waits.h"
#include "readers/memory.h"

enum trim_outcome {
	TRIM_DONE,
	TRIM_UNFINISHED,         /* the process goes on with it by itself */
	TRIM_HINDERED,           /* nothing was done: `why`, "its threads ..." */
	TRIM_FATAL,              /* its malloc found the heap corrupted, and ends it */
	TRIM_ENDED,              /* the process was ended meanwhile */
	TRIM_FAILED              /* errno, of stop_begin or of the call */
};

struct trim_report {
	int error;
	unsigned stops;
	pid_t thread;            /* that made the call */
	uint64_t pause_microseconds;   /* of the stop with the call; else the longest */
	uint64_t before_bytes, after_bytes;   /* anonymous and resident, of the whole process */
	char why[240];
};

/* What a process has that is anonymous and resident. */
uint64_t trim_process_bytes(pid_t pid);

/* `memory` is an open one of the process. */
enum trim_outcome trim_make(struct memory *memory, const struct waits *waits,
                               struct trim_report *report);

#endif
