/*
 * Waiting for the purger to do its work.  Layer: tests; header only.  For children of
 * child_test.
 */
#ifndef TESTS_SUPPORT_PURGING_H
#define TESTS_SUPPORT_PURGING_H

#include <string.h>

#include "cede/cede.h"
#include "heap/arena.h"
#include "heap/purger.h"
#include "support/child.h"
#include "support/process.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arena *a;

static inline void use_and_free(size_t bytes)
{
	char *block = cede_malloc(bytes);

	EXPECT(block != NULL);
	cede_free(memset(block, 0x33, bytes));
}

static inline size_t resident_of_heap(void)
{
	size_t size = align_up((uintptr_t)(script_break() - a->lowest), os_page_size);

	return os_resident(a->lowest, size);
}

static inline enum purger_state wait_for(enum purger_state state)
{
	for (int ms = 0; purger_now() != state && ms < 5000; ms += 10)
		process_sleep_ms(10);
	return purger_now();
}

/* In the end: how soon is measured by integration/purger. */
static inline bool all_gone(void)
{
	for (unsigned waited = 0; waited < 5000; waited += 20) {
		if (resident_of_heap() <= 16 * KIB)
			return true;
		process_sleep_ms(20);
	}
	return false;
}

#endif
