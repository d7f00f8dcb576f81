/*
 * The time between two looks at a process.  Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_WATCH_H
#define CEDE_CLI_DOCTOR_WATCH_H

#include <sys/types.h>

/*
 * Waits so many seconds, or until Ctrl-C.  Returns COMMAND_OK, or COMMAND_FAILED after it
 * said why: the process ended meanwhile.
 */
int watch_wait(pid_t pid, int seconds);

#endif
