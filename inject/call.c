#include "inject/call.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "inject/frame.h"

#define WAIT_MILLISECONDS 2000
#define STOP_MILLISECONDS 200
#define ALARM_MICROSECONDS 50000
#define SYSCALL_BYTES 2            /* of the instruction */
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define DIRECTION_FLAG 0x400ul
#define TRAP_FLAG 0x100ul

/* What the kernel leaves in rax of a call that was interrupted; the program never sees it. */
enum restart { RESTART_SYS = 512, RESTART_NOINTR = 513, RESTART_NOHAND = 514, RESTART_BLOCK = 516 };

struct act {
	pid_t thread;
	const struct call *call;
	struct frame_state before;
	struct frame frame;
	int errno_before;
};

static uint64_t now_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * How the thread comes back to its system call without us: it makes it again.  Else it
 * returns what the kernel has said.
 */
static struct user_regs_struct registers_again(const struct act *act)
{
	struct user_regs_struct registers = act->before.registers;
	long call = (long)registers.orig_rax;

	switch (-(long)registers.rax) {
	case RESTART_BLOCK:
		if (call == SYS_restart_syscall && act->call->waited >= 0)
			call = act->call->waited;
		/* fallthrough */
	case RESTART_SYS: case RESTART_NOINTR: case RESTART_NOHAND:
		registers.rax = (uint64_t)call;
		registers.rip -= SYSCALL_BYTES;
	}
	registers.orig_rax = (uint64_t)-1;
	return registers;
}

/* --- before --- */

static bool state_read(struct act *act)
{
	struct iovec vectors = { act->before.vectors, sizeof(act->before.vectors) };
	struct iovec to = { &act->errno_before, sizeof(act->errno_before) };
	struct iovec from = { (void *)act->call->errno_address, sizeof(act->errno_before) };

	if (ptrace(PTRACE_GETREGS, act->thread, NULL, &act->before.registers) != 0 ||
	    ptrace(PTRACE_GETREGSET, act->thread, (void *)NT_X86_XSTATE, &vectors) != 0 ||
	    ptrace(PTRACE_GETSIGMASK, act->thread, (void *)sizeof(act->before.blocked),
	           &act->before.blocked) != 0)
		return false;
	act->before.vector_bytes = vectors.iov_len;
	return process_vm_readv(act->thread, &to, 1, &from, 1, 0) == (ssize_t)to.iov_len;
}

static bool frame_write(struct act *act)
{
	struct frame_state again = act->before;
	struct iovec from = { act->frame.content, 0 }, to;

	again.registers = registers_again(act);
	frame_build(&again, act->call->restorer, &act->frame);
	from.iov_len = act->frame.bytes;
	to = (struct iovec){ (void *)act->frame.address, act->frame.bytes };
	return process_vm_writev(act->thread, &from, 1, &to, 1, 0) == (ssize_t)act->frame.bytes;
}

/*
 * The registers come first and the signals' mask after them: a thread that is left alone
 * between the two still has the frame, which puts the mask right.
 */
static bool thread_turn(struct act *act)
{
	struct user_regs_struct registers = act->before.registers;
	long options = PTRACE_O_TRACESYSGOOD |
	               (act->call->filtered ? PTRACE_O_SUSPEND_SECCOMP : 0);
	uint64_t all = ~0ull;

	registers.rip = act->call->function;
	registers.rdi = act->call->argument;
	registers.rsp = act->frame.address;
	registers.rax = 0;
	registers.orig_rax = (uint64_t)-1;
	registers.eflags &= ~(DIRECTION_FLAG | TRAP_FLAG);
	if (ptrace(PTRACE_SETOPTIONS, act->thread, NULL, (void *)options) != 0 ||
	    ptrace(PTRACE_SETREGS, act->thread, NULL, &registers) != 0)
		return false;
	ptrace(PTRACE_SETSIGMASK, act->thread, (void *)sizeof(all), &all);
	return true;
}

/* --- meanwhile --- */

static void alarm_ignore(int signal)
{
	(void)signal;
}

/* From now on waitpid comes back from time to time, also with nothing. */
static void alarm_begin(void)
{
	const struct sigaction action = { .sa_handler = alarm_ignore };
	const struct itimerval often = { { 0, ALARM_MICROSECONDS }, { 0, ALARM_MICROSECONDS } };
	sigset_t alarms;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &alarms, NULL);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void alarm_end(void)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

/*
 * The next stop of the thread, or false when it did not come in time; the status of an end
 * is not WIFSTOPPED's.  It blocks, as a trim makes thousands of system calls, each two stops.
 */
static bool stop_wait(pid_t thread, uint64_t deadline, int *status)
{
	for (;;) {
		pid_t id = waitpid(thread, status, __WALL);

		if (id == thread)
			return true;
		if (id < 0 && errno != EINTR) {
			*status = 0;
			return true;
		}
		if (now_milliseconds() > deadline)
			return false;
	}
}

/* About to return by the frame. */
static bool is_returning(const struct act *act)
{
	struct user_regs_struct registers;

	return ptrace(PTRACE_GETREGS, act->thread, NULL, &registers) == 0 &&
	       registers.orig_rax == SYS_rt_sigreturn &&
	       registers.rsp == act->frame.address + sizeof(uint64_t);
}

static bool is_fatal(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGABRT ||
	       signal == SIGFPE || signal == SIGSYS;
}

static enum call_outcome return_await(struct act *act)
{
	uint64_t deadline = now_milliseconds() + WAIT_MILLISECONDS;
	long signal = 0;
	int status;

	for (;;) {
		ptrace(PTRACE_SYSCALL, act->thread, NULL, (void *)signal);
		if (!stop_wait(act->thread, deadline, &status))
			break;
		if (!WIFSTOPPED(status))
			return CALL_ENDED;
		if (WSTOPSIG(status) == SYSCALL_STOP && is_returning(act))
			return CALL_DONE;
		/* A signal that nobody can block; what it does it does afterwards. */
		signal = status >> 16 || WSTOPSIG(status) == SYSCALL_STOP ? 0 : WSTOPSIG(status);
		if (is_fatal((int)signal)) {
			ptrace(PTRACE_DETACH, act->thread, NULL, (void *)signal);
			return CALL_FATAL;
		}
	}
	/* Only a stopped thread can be let go; one that does not stop is when we end.  The others
	 * have waited long enough. */
	ptrace(PTRACE_INTERRUPT, act->thread, NULL, NULL);
	stop_wait(act->thread, now_milliseconds() + STOP_MILLISECONDS, &status);
	return CALL_UNFINISHED;
}

/* --- afterwards --- */

/*
 * In place of rt_sigreturn, which makes the kernel forget what it keeps of a wait.  Until
 * the registers are set the frame does it; then the thread would make its call again; and
 * where it stops the next time, at the end of that call which is none, it is put back into
 * the wait.
 */
static void thread_turn_back(struct act *act)
{
	struct user_regs_struct again = registers_again(act);
	struct iovec vectors = { act->before.vectors, act->before.vector_bytes };
	struct iovec from = { &act->errno_before, sizeof(act->errno_before) };
	struct iovec to = { (void *)act->call->errno_address, sizeof(act->errno_before) };
	int status;

	process_vm_writev(act->thread, &from, 1, &to, 1, 0);
	ptrace(PTRACE_SETREGSET, act->thread, (void *)NT_X86_XSTATE, &vectors);
	ptrace(PTRACE_SETSIGMASK, act->thread, (void *)sizeof(act->before.blocked),
	       &act->before.blocked);
	ptrace(PTRACE_SETREGS, act->thread, NULL, &again);
	ptrace(PTRACE_INTERRUPT, act->thread, NULL, NULL);
	ptrace(PTRACE_CONT, act->thread, NULL, NULL);
	if (stop_wait(act->thread, now_milliseconds() + WAIT_MILLISECONDS, &status) &&
	    WIFSTOPPED(status))
		ptrace(PTRACE_SETREGS, act->thread, NULL, &act->before.registers);
}

enum call_outcome call_make(pid_t thread, const struct call *call)
{
	struct act *act = aligned_alloc(64, (sizeof(*act) + 63) & ~63ul);
	enum call_outcome outcome = CALL_FAILED;
	int error;

	if (!act)
		return CALL_FAILED;
	*act = (struct act){ .thread = thread, .call = call };
	alarm_begin();
	if (state_read(act) && frame_write(act) && thread_turn(act))
		outcome = return_await(act);
	error = errno;
	if (outcome == CALL_DONE)
		thread_turn_back(act);
	alarm_end();
	free(act);
	errno = error;
	return outcome;
}
