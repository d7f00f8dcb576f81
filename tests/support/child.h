/*
 * A unit test in a process of its own: it starts from a heap that nobody used,
 * may exhaust or break it, and may be expected to die.  Layer: tests.
 *
 * The functions given run in a child of a fork, where cmocka cannot follow: they
 * use EXPECT, not cmocka's assertions.
 */
#ifndef TESTS_SUPPORT_CHILD_H
#define TESTS_SUPPORT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* Says what failed and ends the child.  (CHECK is the allocator's own word.) */
#define EXPECT(condition) \
	do { \
		if (!(condition)) { \
			dprintf(2, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

#define CHILD_SECONDS 60 /* then it counts as hung */

/* The entry of cmocka's table for a `void function(void)`. */
#define child_test(function) \
	{ #function, child_test_run, NULL, NULL, (void *)(uintptr_t)(function) }

void child_test_run(void **state);

/*
 * Whether `run` ends by SIGABRT after a line on stderr that holds `message`;
 * when not, says what came instead.
 */
bool child_dies(void (*run)(void), const char *message);

#endif
