/*
 * Makes one thread of a stopped process call a function of the process.  Layer: inject.
 *
 * To the thread it is as if a signal handler ran: whatever becomes of the caller, even
 * if it is killed in the middle, the function returns into a signal frame (frame.h) and
 * the thread goes on with what it did.  While the caller lives, it puts the thread back
 * into the system call itself, so that what the kernel keeps of a wait (how long it still
 * is) stays as it was; without the caller a wait that has a length begins again.
 *
 * Signals wait meanwhile, those that nobody can block apart.
 */
#ifndef CEDE_INJECT_CALL_H
#define CEDE_INJECT_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct call {
	uint64_t function, argument;
	uint64_t restorer;       /* mov $15, %rax; syscall */
	uint64_t errno_address;  /* of the thread's */
	bool filtered;           /* its system calls are: the filter is put off meanwhile */
	/* Of a wait that the kernel has begun anew ("restart_syscall"): the call that it was,
	 * or -1. */
	long waited;
};

enum call_outcome {
	CALL_DONE,
	CALL_UNFINISHED,         /* it takes too long: the process goes on with it by itself */
	CALL_FATAL,              /* the function met a signal that ends the process */
	CALL_ENDED,              /* the process was ended by another */
	CALL_FAILED              /* errno: nothing was done */
};

/* The thread is one that stop_begin has stopped, in a system call. */
enum call_outcome call_make(pid_t thread, const struct call *call);

#endif
