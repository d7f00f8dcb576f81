/*
 * The functions that a stopped thread is in, from the innermost out.  Layer: inject.
 */
#ifndef CEDE_INJECT_FRAMES_H
#define CEDE_INJECT_FRAMES_H

#include "inject/functions.h"

/*
 * Whether none of them is in the functions' ranges.  False also when that is not proven: each
 * function's file must tell how to leave it, to the thread's first.
 */
bool frames_are_outside(const struct memory *memory, pid_t thread,
                        const struct functions *functions);

#endif
