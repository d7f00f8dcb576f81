/*
 * The set of address spans that are in use: adding one that overlaps another
 * fails the test.  Layer: tests.  Safe from any thread; at most SPANS_MAX spans.
 */
#ifndef TESTS_STRESS_SPANS_H
#define TESTS_STRESS_SPANS_H

#include <stddef.h>
#include <stdint.h>

#define SPANS_MAX 16384

void spans_add(uintptr_t start, size_t size);
/* Exactly one that was added. */
void spans_remove(uintptr_t start, size_t size);

#endif
