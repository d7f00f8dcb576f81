/*
 * api/malloc: a signal handler that allocates and frees inside an operation of its
 * own thread.  The test stands in for the handler: it holds the arena's lock and
 * calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/heap.h"
#include "support/child.h"
#include "support/scripted_os.h"

static void all_calls_return(struct arena *a)
{
	char *before = memset(cede_malloc(200), 1, 200), *grown, *zero, *aligned;

	lock_acquire(&a->lock);
	grown = cede_realloc(cede_malloc(100), 5000);
	zero = cede_calloc(100, 10);
	aligned = cede_memalign(4096, 100);
	EXPECT(grown != NULL && zero != NULL && aligned != NULL);
	EXPECT((uintptr_t)aligned % 4096 == 0);
	for (int i = 0; i < 1000; i++)
		EXPECT(zero[i] == 0);
	/* Of the interrupted arena: kept for later, and not handed out before. */
	cede_free(before);
	EXPECT(a->deferred != NULL && (char *)cede_malloc(200) != before);
	audit_arena(a);
	lock_release(&a->lock);

	cede_free(grown);
	cede_free(zero);
	cede_free(aligned);
	cede_free(cede_malloc(3000));
	EXPECT(a->deferred == NULL);
	audit_arena(a);
}

static void another_arena_serves(void)
{
	struct arena *a = script_heap(POLICY_DEFAULT);

	settings.arena_max = 4;
	all_calls_return(a);
	EXPECT(arena_count() == 2);
}

static void without_another_each_block_is_mapped(void)
{
	struct arena *a = script_heap(POLICY_DEFAULT);

	settings.arena_max = 1;
	all_calls_return(a);
	EXPECT(arena_count() == 1);
}

static void classic_too(void)
{
	struct arena *a = script_heap(POLICY_CLASSIC);

	settings.arena_max = 1;
	all_calls_return(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(another_arena_serves),
		child_test(without_another_each_block_is_mapped),
		child_test(classic_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
