/*
 * heap/trim and malloc_trim: what goes back on request, what is counted, and a
 * system that keeps it.
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
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB    ((size_t)1 << 10)
#define MIB    ((size_t)1 << 20)
#define BLOCKS 64

static struct arena *a;
static char *blocks[BLOCKS], *pins[BLOCKS];

/* 64 free chunks of 64 KiB, each between two live blocks. */
static void scatter(enum policy policy)
{
	a = script_heap(policy);
	settings.trim_threshold = SIZE_MAX;
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = cede_malloc(64 * KIB);
		memset(blocks[i], 0x77, 64 * KIB);
		pins[i] = cede_malloc(24);
		pattern_fill(pins[i], 24, i);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		cede_free(blocks[i]);
}

static void check_pins(void)
{
	for (size_t i = 0; i < BLOCKS; i++)
		EXPECT(pattern_match(pins[i], 24, i) == 24);
	audit_arena(a);
}

static size_t resident_of_heap(void)
{
	char *start = a->lowest;

	return os_resident(start, align_up((uintptr_t)(script_break() - start), os_page_size));
}

static void classic_discards_inside_free_chunks(void)
{
	size_t before, gone;

	scatter(POLICY_CLASSIC);
	before = resident_of_heap();
	EXPECT(before >= BLOCKS * 64 * KIB);
	gone = trim_arena(a, 0);
	EXPECT(gone >= BLOCKS * 56 * KIB);
	EXPECT(resident_of_heap() <= BLOCKS * 8 * KIB);
	check_pins();
	/* What is gone is neither asked for nor counted again. */
	script_reset();
	EXPECT(trim_arena(a, 0) == 0 && script_calls(OS_DISCARD) == 0);
	EXPECT(cede_malloc_trim(0) == 0);
	for (size_t i = 0; i < BLOCKS; i++)
		memset(cede_malloc(64 * KIB), 1, 64 * KIB);
	check_pins();
}

static void classic_empties_the_fast_bins_first(void)
{
	char *small[1000];

	a = script_heap(POLICY_CLASSIC);
	for (size_t i = 0; i < 1000; i++)
		small[i] = memset(cede_malloc(100), 1, 100);
	for (size_t i = 0; i < 1000; i++)
		cede_free(small[i]);
	EXPECT(a->have_fastchunks);
	EXPECT(cede_malloc_trim(0) == 1);
	EXPECT(!a->have_fastchunks);
	EXPECT(chunk_size(a->top) < 8 * KIB);
	audit_arena(a);
}

static void the_pad_stays(void)
{
	a = script_heap(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	cede_free(memset(cede_malloc(4 * MIB), 1, 4 * MIB));
	EXPECT(cede_malloc_trim(MIB) == 1);
	EXPECT(chunk_size(a->top) >= MIB && chunk_size(a->top) <= MIB + 8 * KIB);
	EXPECT(cede_malloc_trim(MIB) == 0);
	EXPECT(cede_malloc_trim(SIZE_MAX) == 0);
	audit_arena(a);
}

static void default_gives_all_of_it(void)
{
	scatter(POLICY_DEFAULT);
	EXPECT(cede_malloc_trim(0) == 1);
	EXPECT(resident_of_heap() <= BLOCKS * 8 * KIB);
	check_pins();
	EXPECT(cede_malloc_trim(0) == 0);
}

/* Locked memory: nothing went, so nothing is counted, and it ends. */
static void what_the_system_keeps_is_not_counted(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		struct cede_stats before, after;
		size_t kept;

		scatter((enum policy)policy);
		/* The end of the heap is another matter. */
		(void)grow_trim_main(a, 0);
		(void)cede_stats(&before, sizeof(before));
		script_fail_from(OS_DISCARD, 1);
		kept = resident_of_heap();
		EXPECT(cede_release(0) == 0);
		EXPECT(cede_malloc_trim(0) == 0);
		EXPECT(resident_of_heap() == kept);
		(void)cede_stats(&after, sizeof(after));
		EXPECT(before.purged_bytes == after.purged_bytes);
		check_pins();
		script_reset();
		memset(cede_malloc(MIB), 1, MIB);
		check_pins();
	}
}

/* A stuck break: the pages of the top stay, and are not counted. */
static void a_stuck_break_gives_nothing(void)
{
	a = script_heap(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	cede_free(memset(cede_malloc(4 * MIB), 1, 4 * MIB));
	script_fail_from(OS_SBRK, 2);
	EXPECT(cede_malloc_trim(0) == 0);
	audit_arena(a);
	script_reset();
	EXPECT(cede_malloc_trim(0) == 1);
	audit_arena(a);
}

/* A free that reaches the trim threshold trims by itself: always in classic, in
 * default when the program asked for it. */
static void a_large_free_trims(void)
{
	for (int chosen = 0; chosen < 2; chosen++) {
		a = script_heap(chosen ? POLICY_DEFAULT : POLICY_CLASSIC);
		settings.trim_threshold_set = chosen;
		settings.trim_threshold = 256 * KIB;
		cede_free(memset(cede_malloc(100 * KIB), 1, 100 * KIB));
		EXPECT(a->system_bytes < 300 * KIB);
		cede_free(memset(cede_malloc(MIB), 1, MIB));
		EXPECT(a->system_bytes <= settings.top_pad + 8 * KIB);
		audit_arena(a);
	}
	a = script_heap(POLICY_DEFAULT);
	cede_free(memset(cede_malloc(512 * KIB), 1, 512 * KIB));
	EXPECT(a->system_bytes >= 512 * KIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(classic_discards_inside_free_chunks),
		child_test(classic_empties_the_fast_bins_first),
		child_test(the_pad_stays),
		child_test(default_gives_all_of_it),
		child_test(what_the_system_keeps_is_not_counted),
		child_test(a_stuck_break_gives_nothing),
		child_test(a_large_free_trims),
	};

	return cmocka_run_group_tests_name("trim", tests, NULL, NULL);
}
