/*
 * A program of named cases.  Each runs in a process of its own, forked from a
 * parent that has not used the heap, so that a crash, a hang or a changed
 * setting stays within its case.  Layer: tests.
 */
#ifndef TESTS_SUPPORT_CASES_H
#define TESTS_SUPPORT_CASES_H

#include <stddef.h>

struct test_case {
	const char *name;
	void (*run)(void); /* returns when all is well; CHECK ends it otherwise */
	unsigned seconds;  /* then it counts as hung */
};

/*
 * Runs the cases whose names are given, or all.  Returns the program's exit
 * status: 0, 1 when a case failed, 2 for an unknown name, EXIT_SKIPPED when every
 * case that ran was skipped.
 */
int cases_main(int argc, char **argv, const struct test_case *cases, size_t count);

#endif
