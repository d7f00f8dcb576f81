/*
 * Whether a stopped thread is where it can be made to call malloc_trim.  Layer: inject.
 *
 * It can when it waits in the kernel, nothing on its stack leads into malloc, or it is
 * proven that none of its functions is of malloc, and the stack has room.  Signal handlers that interrupted malloc, and stacks that the program
 * made itself, are thereby out.
 */
#ifndef CEDE_INJECT_PLACE_H
#define CEDE_INJECT_PLACE_H

#include "inject/call.h"
#include "inject/functions.h"
#include "inject/waits.h"
#include "readers/stop.h"

/* What is in the way, the nearest to none last. */
enum place_hindrance {
	PLACE_RUNS,              /* not in a system call */
	PLACE_BUSY,              /* in one that is no wait */
	PLACE_SIGNAL,            /* one is on its way to it */
	PLACE_STRICT,            /* allowed to read and to write, by seccomp */
	PLACE_SHADOW,            /* has a shadow stack, which would see the call */
	PLACE_OTHER_STACK,
	PLACE_NO_ROOM,
	PLACE_IN_MALLOC,
	PLACE_GOOD
};

/* Fills the call for a good one, but for `function` and `argument`. */
enum place_hindrance place_judge(const struct memory *memory, const struct functions *functions,
                                 const struct waits *waits, const struct stop_thread *thread,
                                 struct call *call);

/* What is to be said of it: "its threads ...". */
const char *place_words(enum place_hindrance hindrance);

/* Whether the kernel keeps something of this call that is lost when nobody puts the thread
 * back into it. */
bool place_is_timed(const struct stop_thread *thread);

#endif
