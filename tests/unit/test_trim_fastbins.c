/*
 * heap/free.c built with TRIM_FASTBINS: a small chunk next to the top joins it at
 * once, and with it those that waited in their fast bins.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/heap.h"
#include "support/child.h"
#include "support/scripted_os.h"

static void the_top_takes_its_neighbour(void)
{
	struct arena *a = script_heap(POLICY_CLASSIC);
	void *below = cede_malloc(100), *last = cede_malloc(100);
	size_t size = chunk_size(block_to_chunk(last));

	cede_free(below);
	EXPECT(a->fastbins[fast_bin(size)] == block_to_chunk(below));
	/* The top is large: joining it consolidates, and the other joins too. */
	cede_free(last);
	EXPECT(a->fastbins[fast_bin(size)] == NULL && !a->have_fastchunks);
	EXPECT(a->top == block_to_chunk(below));
	audit_arena(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { child_test(the_top_takes_its_neighbour) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
