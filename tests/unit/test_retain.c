/*
 * heap/purger: retain_max, by what frees leave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/extent.h"
#include "heap/spare.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define MOST (2 * MIB + 1000)

static struct arena *a;

static void use_and_free(size_t bytes)
{
	cede_free(memset(cede_malloc(bytes), 0x33, bytes));
}

static size_t retained(void)
{
	return extent_dirty_bytes(a) + spare_bytes();
}

/* What a free leaves above it that free gives back, be there a thread or not. */
static void retained_bytes_are_bounded(void)
{
	static void *blocks[256];
	struct rng rng = { 7 };
	size_t most = 0;

	a = script_heap(POLICY_DEFAULT);
	settings.retain_max = MOST;
	settings.trim_threshold = SIZE_MAX;
	for (int absent = 0; absent < 2; absent++) {
		settings.background = !absent;
		for (int i = 0; i < 5000; i++) {
			size_t at = rng_below(&rng, 256);
			size_t bytes = rng_below(&rng, i % 16 == 0 ? 600 * KIB : 20 * KIB);

			cede_free(blocks[at]);
			EXPECT(retained() <= MOST);
			most = size_max(most, retained());
			blocks[at] = memset(cede_malloc(bytes), 1, bytes);
			blocks[at] = cede_realloc(blocks[at], bytes / 2);
			EXPECT(retained() <= MOST);
		}
	}
	/* It is not simply given back all. */
	EXPECT(most > MOST - 64 * KIB);
	audit_arena(a);
}

/* What goes is what is above, oldest first. */
static void what_is_below_the_bound_stays(void)
{
	void *old, *pin, *young;

	a = script_heap(POLICY_DEFAULT);
	settings.background = false;
	settings.retain_max = MOST;
	settings.trim_threshold = SIZE_MAX;
	old = memset(cede_malloc(MIB), 1, MIB);
	pin = cede_malloc(KIB);
	young = memset(cede_malloc(2 * MIB), 1, 2 * MIB);
	EXPECT(cede_malloc(KIB) != NULL);
	cede_free(old);
	EXPECT(script_discarded == 0);
	cede_free(young);
	EXPECT(retained() <= MOST && retained() > MOST - 2 * os_page_size);
	EXPECT(os_resident((void *)align_up((uintptr_t)young, 4096), MIB) == MIB);
	EXPECT(os_resident((void *)align_up((uintptr_t)old, 4096), MIB / 2) == 0);
	cede_free(pin);
	audit_arena(a);
}

static void spares_are_bounded(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.retain_max = MOST;
	settings.mmap_threshold = MIB;
	for (size_t size = MIB; size < 12 * MIB; size += MIB) {
		use_and_free(size);
		EXPECT(spare_bytes() <= MOST && (size < 2 * MIB || spare_bytes() > MIB));
	}
}

/* No free waits for what cannot go. */
static void bound_beside_locked_memory(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.background = false;
	settings.retain_max = MOST;
	settings.trim_threshold = SIZE_MAX;
	(void)mlockall(MCL_CURRENT);
	if (!os_memory_is_locked())
		return;
	for (int i = 0; i < 10; i++)
		use_and_free(16 * MIB);
	EXPECT(retained() > MOST && script_calls(OS_DISCARD) == 1);
	audit_arena(a);
	EXPECT(munlockall() == 0 && cede_release(0) >= 15 * MIB);
	use_and_free(16 * MIB);
	EXPECT(retained() <= MOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(retained_bytes_are_bounded),
		child_test(what_is_below_the_bound_stays),
		child_test(spares_are_bounded),
		child_test(bound_beside_locked_memory),
	};

	return cmocka_run_group_tests_name("retain", tests, NULL, NULL);
}
