/*
 * Stops every thread of another process, and lets them go on.  Layer: readers.
 *
 * The kernel itself lets the process go when the one who stopped it ends, however
 * that may be, so nothing is caught here: no signal, no exit.  The thread that
 * stops must be the one that resumes.
 *
 * What the process can notice: calls that wait and that Linux never restarts
 * (epoll_wait, sigtimedwait and a few more) come back with EINTR, as under strace.
 */
#ifndef CEDE_READERS_STOP_H
#define CEDE_READERS_STOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "readers/memory.h"

struct stop_thread {
	pid_t id;
	int signal;              /* that was on its way to it; it gets it when it goes on */
	bool by_user;            /* it was stopped before we came, and must stay so */
	uint64_t thread_pointer; /* fs_base: thread-local data lies below */
	uint64_t instruction_pointer, stack_pointer;
	long call;               /* the number of the system call it is in, or -1 */
	uint64_t *registers;     /* of a core's thread, which the core owns */
	size_t register_count;
};

struct stop {
	struct stop_thread *threads;
	size_t count;
	bool for_good;           /* a core's: whatever they were in the middle of stays so */
	sigset_t mask;           /* of the caller, before */
};

/*
 * Returns 0, or the errno: ESRCH no such process, EPERM not ours to stop or another
 * one traces it, ETIMEDOUT a thread sits in a call that nothing interrupts (then
 * all go on as before), ENOMEM.  The threads of a core stand still already.
 *
 * Ctrl-Z has to wait until stop_end: were the caller stopped meanwhile, the process would
 * wait with it.  SIGSTOP cannot be made to.
 */
int stop_begin(struct stop *stop, const struct memory *memory);
void stop_end(struct stop *stop);

/*
 * Lets one thread run on for a moment and stops it again, and with it what threads it
 * has made meanwhile.  Threads that ended are no longer among them, so that indices
 * change.  Returns as stop_begin does, but leaves to stop_end what a failure leaves.
 */
int stop_step(struct stop *stop, pid_t pid, size_t index);

/* The registers of a stopped thread as words, of use to it now: general ones, and vectors
 * unless it is in a system call.  Returns how many. */
size_t stop_registers(const struct stop_thread *thread, uint64_t *words, size_t most);

#endif
