/*
 * A file without a name that ought to be a snapshot.  Layer: tests.
 */
#ifndef TESTS_DOCTOR_FILED_H
#define TESTS_DOCTOR_FILED_H

#include <stddef.h>

/* The path leads to it. */
struct filed {
	int descriptor;
	char path[64];
};

/* With these bytes; the caller closes the descriptor. */
struct filed filed_make(const void *bytes, size_t size);

/* It is no good snapshot, and why tells this reason. */
void filed_refused(const char *path, const char *reason);

#endif
