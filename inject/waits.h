/*
 * What the threads of a process wait for, noted before anybody stops them.  Layer: inject.
 *
 * A wait for a time that was interrupted is begun again by the kernel as another call
 * ("restart_syscall"), which no longer tells which one it was.
 */
#ifndef CEDE_INJECT_WAITS_H
#define CEDE_INJECT_WAITS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct wait {
	pid_t thread;
	long call;
	uint64_t arguments[6], stack_pointer, instruction_pointer;
};

struct waits {
	struct wait *items;
	size_t count;
};

/* None where it cannot be told. */
void waits_note(struct waits *waits, pid_t pid);
void waits_free(struct waits *waits);

/* The call in which a stopped thread is, as it was noted; -1: it is another one. */
long waits_call(const struct waits *waits, pid_t thread,
                const struct user_regs_struct *registers);

#endif
