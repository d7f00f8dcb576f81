/*
 * inject/call: what a thread finds after a call that it did not make itself, whose function
 * leaves nothing as it was, and whatever became of the caller.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "doctor/checked.h"
#include "inject/call.h"
#include "readers/stop.h"

void restore(void);
void spoil(void);

__asm__(".text\n"
	"restore:\n"
	"mov $15, %rax\n"
	"syscall\n"
	"spoil:\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"pcmpeqd %xmm\\v, %xmm\\v\n.endr\n"
	"mov $0x1234, %rcx; mov %rcx, %rdx; mov %rcx, %rsi; mov %rcx, %r8; mov %rcx, %r9\n"
	"mov %rcx, %r10; mov %rcx, %r11\n"
	"ret\n");

/* Shared with the processes that the tests make. */
static struct shared {
	volatile bool begun, go, fatal, spares_errno, done;
	volatile long result, argument;
	volatile int bad, odd;
} *shared;

static void function(long argument)
{
	shared->argument = argument;
	shared->odd = (uintptr_t)__builtin_frame_address(0) % 16;
	shared->begun = true;
	while (!shared->go)
		usleep(100);
	if (shared->fatal)
		abort();
	if (!shared->spares_errno)
		errno = 5;
	spoil();
}

struct subject {
	pid_t pid;
	int pipe[2];
};

static struct subject subject_begin(void)
{
	struct subject subject;
	char byte;

	*shared = (struct shared){ 0 };
	assert_int_equal(pipe(subject.pipe), 0);
	subject.pid = fork();
	if (subject.pid == 0) {
		const uint64_t arguments[6] = { (uint64_t)subject.pipe[0], (uint64_t)&byte, 1 };
		int bad;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		checked_begin();
		shared->result = checked_make(SYS_read, arguments, &bad);
		shared->bad = bad;
		shared->done = true;
		_exit(0);
	}
	/* Until it waits. */
	usleep(50000);
	return subject;
}

/* As cede trim would, but in our own process or in one more. */
static enum call_outcome subject_call(const struct subject *subject)
{
	const struct call call = {
		.function = (uint64_t)(uintptr_t)function, .argument = 4711, .waited = -1,
		.restorer = (uint64_t)(uintptr_t)restore, .errno_address = (uint64_t)(uintptr_t)&errno,
	};
	enum call_outcome outcome;
	struct memory memory;
	struct stop stop;

	assert_int_equal(memory_open(&memory, subject->pid), 0);
	assert_int_equal(stop_begin(&stop, &memory), 0);
	assert_int_equal(stop.threads[0].call, SYS_read);
	outcome = call_make(stop.threads[0].id, &call);
	stop_end(&stop);
	memory_close(&memory);
	return outcome;
}

/* The wait goes on, and ends as it would have. */
static void subject_end(const struct subject *subject)
{
	assert_false(shared->done);
	assert_int_equal(write(subject->pipe[1], "x", 1), 1);
	assert_int_equal(waitpid(subject->pid, NULL, 0), subject->pid);
	assert_true(shared->done);
	assert_int_equal(shared->argument, 4711);
	assert_int_equal(shared->odd, 0);
	assert_int_equal(shared->result, 1);
	assert_int_equal(shared->bad, 0);
	close(subject->pipe[0]);
	close(subject->pipe[1]);
}

static void test_done(void **state)
{
	struct subject subject = subject_begin();

	(void)state;
	shared->go = true;
	assert_int_equal(subject_call(&subject), CALL_DONE);
	subject_end(&subject);
}

/* By who may: nobody handles it, nothing restores it but the frame. */
static void test_caller_killed(void **state)
{
	struct subject subject = subject_begin();
	pid_t caller = fork();

	(void)state;
	shared->spares_errno = true;
	if (caller == 0)
		_exit((int)subject_call(&subject));
	while (!shared->begun)
		usleep(100);
	kill(caller, SIGKILL);
	assert_int_equal(waitpid(caller, NULL, 0), caller);
	shared->go = true;
	subject_end(&subject);
}

static void test_takes_too_long(void **state)
{
	struct subject subject = subject_begin();

	(void)state;
	shared->spares_errno = true;
	assert_int_equal(subject_call(&subject), CALL_UNFINISHED);
	shared->go = true;
	subject_end(&subject);
}

static void test_fatal(void **state)
{
	struct subject subject = subject_begin();
	int status;

	(void)state;
	shared->go = shared->fatal = true;
	assert_int_equal(subject_call(&subject), CALL_FATAL);
	assert_int_equal(waitpid(subject.pid, &status, 0), subject.pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_ended(void **state)
{
	struct subject subject = subject_begin();
	pid_t killer = fork();

	(void)state;
	if (killer == 0) {
		while (!shared->begun)
			usleep(100);
		kill(subject.pid, SIGKILL);
		_exit(0);
	}
	assert_int_equal(subject_call(&subject), CALL_ENDED);
	assert_int_equal(waitpid(killer, NULL, 0), killer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_done),
		cmocka_unit_test(test_caller_killed),
		cmocka_unit_test(test_takes_too_long),
		cmocka_unit_test(test_fatal),
		cmocka_unit_test(test_ended),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
