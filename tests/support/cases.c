#include "support/cases.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "support/check.h"

static int case_run(const struct test_case *c)
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		alarm(c->seconds);
		c->run();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGALRM)
		dprintf(2, "%s: not done after %u s\n", c->name, c->seconds);
	else
		dprintf(2, "%s: killed by signal %d\n", c->name, WTERMSIG(status));
	return 1;
}

static bool case_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return true;
	}
	return argc < 2;
}

static const char *verdict(int status)
{
	if (status == EXIT_SKIPPED)
		return "skipped";
	return status == 0 ? "ok" : "FAILED";
}

int cases_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
	size_t ran = 0, failed = 0, skipped = 0;

	for (size_t i = 0; i < count; i++) {
		if (!case_wanted(cases[i].name, argc, argv))
			continue;
		int status = case_run(&cases[i]);

		ran++;
		skipped += status == EXIT_SKIPPED;
		failed += status != 0 && status != EXIT_SKIPPED;
		dprintf(1, "%-7s %s\n", verdict(status), cases[i].name);
	}
	if (ran == 0 || (argc > 1 && ran != (size_t)argc - 1)) {
		dprintf(2, "unknown case\n");
		return 2;
	}
	if (failed > 0)
		return 1;
	return skipped == ran ? EXIT_SKIPPED : 0;
}
