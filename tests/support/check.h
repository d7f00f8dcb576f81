/*
 * CHECK for tests that are programs of their own: says what failed on stderr and
 * ends the process with status 1.  Layer: tests; uses no heap, so that a test of
 * the heap can say that the heap is broken.
 */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define EXIT_SKIPPED 77 /* SKIP_RETURN_CODE of every registered test */

#define CHECK(condition) CHECK_THAT(condition, "%s (errno %d)", #condition, errno)

/* The same with a message of the caller's, which must be a literal. */
#define CHECK_THAT(condition, ...) \
	do { \
		if (!(condition)) { \
			dprintf(2, "%s:%d: ", __FILE__, __LINE__); \
			dprintf(2, __VA_ARGS__); \
			dprintf(2, "\n"); \
			_exit(1); \
		} \
	} while (0)

/* For what this machine does not permit; says so plainly. */
#define SKIP(why) \
	do { \
		dprintf(1, "skipped: %s\n", why); \
		_exit(EXIT_SKIPPED); \
	} while (0)

#endif
