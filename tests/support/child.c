#include "support/child.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

static _Noreturn void run_as_child(void (*run)(void))
{
	struct rlimit none = { 0, 0 };

	/* cmocka's own handlers would return to the tests that follow. */
	for (int signal_number = 1; signal_number < 32; signal_number++)
		(void)signal(signal_number, SIG_DFL);
	setrlimit(RLIMIT_CORE, &none);
	alarm(CHILD_SECONDS);
	run();
	_exit(0);
}

void child_test_run(void **state)
{
	void (*run)(void) = (void (*)(void))(uintptr_t)*state;
	int status = -1;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		run_as_child(run);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

bool child_dies(void (*run)(void), const char *message)
{
	char text[1024];
	size_t used = 0;
	ssize_t n;
	int ends[2], status = 0;
	pid_t child;

	EXPECT(pipe(ends) == 0);
	child = fork();
	EXPECT(child >= 0);
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		run_as_child(run);
	}
	close(ends[1]);
	while (used < sizeof(text) - 1 &&
	       (n = read(ends[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(ends[0]);
	EXPECT(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(text, message) != NULL)
		return true;
	dprintf(2, "expected \"%s\" and SIGABRT, got status %#x and: %s\n", message,
	        (unsigned)status, text);
	return false;
}
