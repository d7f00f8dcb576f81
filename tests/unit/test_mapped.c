/*
 * heap/mapped: chunks mapped by themselves, the threshold that rises, and a system
 * that will not map, unmap or move.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/spare.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arena *a;

/* glibc's threshold again: script_heap maps nothing. */
static void start(void)
{
	a = script_heap(POLICY_CLASSIC);
	settings.mmap_threshold = DEFAULT_MMAP_THRESHOLD;
}

static void *block_of(size_t bytes)
{
	void *block = cede_malloc(bytes);

	EXPECT(block != NULL);
	pattern_fill(block, bytes, 1);
	return block;
}

static bool is_mapped(const void *block)
{
	return chunk_is_mapped(block_to_chunk(block));
}

static void counts_follow(void)
{
	char *first, *second;

	start();
	EXPECT(!is_mapped(block_of(100 * KIB)));
	first = block_of(200 * KIB);
	second = block_of(MIB);
	EXPECT(is_mapped(first) && is_mapped(second));
	EXPECT(mapped.blocks == 2 && mapped.bytes == 200 * KIB + 4096 + MIB + 4096);
	cede_free(first);
	EXPECT(mapped.blocks == 1 && mapped.bytes == MIB + 4096);
	cede_free(second);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	EXPECT(mapped.max_blocks == 2 && mapped.max_bytes == 200 * KIB + MIB + 2 * 4096);
	audit_arena(a);
}

static void the_threshold_follows_freed_blocks(void)
{
	start();
	cede_free(block_of(MIB));
	EXPECT(settings.mmap_threshold == MIB + 4096);
	EXPECT(settings.trim_threshold == 2 * (MIB + 4096));
	EXPECT(!is_mapped(block_of(MIB)));
	/* Neither down, nor beyond the greatest. */
	cede_free(block_of(2 * MIB));
	cede_free(block_of(40 * MIB));
	EXPECT(settings.mmap_threshold == 2 * MIB + 4096);
	EXPECT(is_mapped(block_of(40 * MIB)));
}

static void a_threshold_that_was_set_stays(void)
{
	const int params[] = { M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX };

	for (size_t i = 0; i < 4; i++) {
		size_t trim;

		start();
		EXPECT(cede_mallopt(params[i], 128 << 10) == 1);
		trim = settings.trim_threshold;
		cede_free(block_of(MIB));
		EXPECT(settings.mmap_threshold == DEFAULT_MMAP_THRESHOLD);
		EXPECT(settings.trim_threshold == trim);
	}
}

static void only_so_many_are_mapped(void)
{
	start();
	settings.mmap_max = 2;
	EXPECT(is_mapped(block_of(MIB)) && is_mapped(block_of(MIB)));
	EXPECT(!is_mapped(block_of(MIB)));
	audit_arena(a);
}

/* As ptmalloc: what cannot be mapped comes from the break. */
static void a_refused_mapping_comes_from_the_break(void)
{
	char *block;

	start();
	script_fail_from(OS_MAP, 1);
	block = block_of(MIB);
	EXPECT(!is_mapped(block) && mapped.blocks == 0);
	audit_arena(a);
	script_fail_from(OS_SBRK, 1);
	errno = 0;
	EXPECT(cede_malloc(2 * MIB) == NULL && errno == ENOMEM);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	audit_arena(a);
	script_reset();
	EXPECT(is_mapped(block_of(2 * MIB)));
	EXPECT(pattern_match(block, MIB, 1) == MIB);
	cede_free(block);
	audit_arena(a);
}

static void a_refused_unmap_still_empties_the_pages(void)
{
	char *block;

	start();
	block = block_of(4 * MIB);
	script_fail_from(OS_UNMAP, 1);
	errno = 5;
	cede_free(block);
	EXPECT(errno == 5);
	EXPECT(os_resident(block_to_chunk(block), 4 * MIB) == 0);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	/* And when that is refused too, the heap goes on. */
	settings.dynamic_threshold = false;
	settings.mmap_threshold = DEFAULT_MMAP_THRESHOLD;
	block = block_of(4 * MIB);
	script_fail_from(OS_DISCARD, 1);
	cede_free(block);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	script_reset();
	EXPECT(is_mapped(block_of(4 * MIB)));
}

static void realloc_moves_the_mapping(void)
{
	char *block, *moved;

	start();
	block = block_of(MIB);
	for (size_t size = MIB; size < 16 * MIB; size += size / 3) {
		moved = cede_realloc(block, size);
		EXPECT(moved != NULL && is_mapped(moved));
		EXPECT(pattern_match(moved, MIB, 1) == MIB);
		EXPECT(cede_malloc_usable_size(moved) >= size);
		block = moved;
	}
	EXPECT(mapped.blocks == 1 && script_calls(OS_REMAP) > 5 && script_calls(OS_MAP) == 1);
	block = cede_realloc(block, 200 * KIB);
	EXPECT(mapped.bytes == 200 * KIB + 4096);
	EXPECT(pattern_match(block, 200 * KIB, 1) == 200 * KIB);
	cede_free(block);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
}

static void a_refused_move_is_a_copy(void)
{
	char *block, *moved;

	start();
	block = block_of(MIB);
	script_fail_from(OS_REMAP, 1);
	moved = cede_realloc(block, 3 * MIB);
	EXPECT(moved != NULL && moved != block);
	EXPECT(pattern_match(moved, MIB, 1) == MIB);
	EXPECT(mapped.blocks == 1 && mapped.bytes == 3 * MIB + 4096);
	/* Smaller: it may as well stay. */
	EXPECT(cede_realloc(moved, 2 * MIB) == moved);
	EXPECT(cede_malloc_usable_size(moved) >= 3 * MIB);
	/* No memory for the copy either: the block is as it was. */
	script_fail_from(OS_MAP, 1);
	script_fail_from(OS_SBRK, 1);
	errno = 0;
	EXPECT(cede_realloc(moved, 8 * MIB) == NULL && errno == ENOMEM);
	EXPECT(pattern_match(moved, MIB, 1) == MIB && mapped.blocks == 1);
	script_reset();
	moved = cede_realloc(moved, 8 * MIB);
	EXPECT(moved != NULL && pattern_match(moved, MIB, 1) == MIB);
	cede_free(moved);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	audit_arena(a);
}

/* An aligned chunk begins inside its mapping; all of that goes with it. */
static void an_aligned_block_goes_whole(void)
{
	for (size_t alignment = 32; alignment <= MIB; alignment *= 2) {
		char *block;

		start();
		settings.dynamic_threshold = false;
		block = cede_memalign(alignment, 300 * KIB);
		EXPECT(block != NULL && is_mapped(block) && (uintptr_t)block % alignment == 0);
		EXPECT(cede_malloc_usable_size(block) >= 300 * KIB);
		pattern_fill(block, cede_malloc_usable_size(block), 2);
		block = cede_realloc(block, 600 * KIB);
		EXPECT(block != NULL && pattern_match(block, 300 * KIB, 2) == 300 * KIB);
		pattern_fill(block, cede_malloc_usable_size(block), 3);
		cede_free(block);
		EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	}
}

static void mapped_memory_is_not_cleared_twice(void)
{
	char *block;

	start();
	block = cede_calloc(1, 64 * MIB);
	EXPECT(is_mapped(block));
	EXPECT(os_resident(block_to_chunk(block), 64 * MIB) <= MIB);
	cede_free(block);
}

static void the_greatest_requests_fail(void)
{
	start();
	for (size_t less = 0; less < 5000; less += 123) {
		errno = 0;
		EXPECT(cede_malloc((size_t)PTRDIFF_MAX - less) == NULL && errno == ENOMEM);
		errno = 0;
		EXPECT(cede_malloc(SIZE_MAX - less) == NULL && errno == ENOMEM);
	}
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0);
	audit_arena(a);
}

/* ---- default: what mapped blocks leave is kept ---- */

/* Blocks from 256 KiB on are mapped.  Below a mebibyte nobody wakes the purger. */
static void start_default(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.mmap_threshold = 256 * KIB;
	settings.dynamic_threshold = false;
}

static void a_freed_block_serves_the_next(void)
{
	char *block, *next, *other;

	start_default();
	block = block_of(900 * KIB);
	EXPECT(is_mapped(block));
	cede_free(block);
	EXPECT(mapped.blocks == 0 && mapped.bytes == 0 && spare_bytes() == 900 * KIB + 4096);
	next = block_of(300 * KIB);
	EXPECT(next == block && script_calls(OS_MAP) == 1 && spare_bytes() == 600 * KIB);
	EXPECT(cede_malloc_usable_size(next) == 300 * KIB + 4096 - CHUNK_HEADER);
	/* Where the first one's bytes were, the header is another's. */
	other = block_of(300 * KIB);
	EXPECT(other == block + 300 * KIB + 4096);
	cede_free(other);
	cede_free(next);
	EXPECT(spare_bytes() == 900 * KIB + 4096 && spare_count() == 1);
	EXPECT(cede_memalign(64, 600 * KIB) == (char *)block + 48);
}

static void a_spare_too_small_is_made_larger(void)
{
	start_default();
	cede_free(block_of(300 * KIB));
	EXPECT(is_mapped(block_of(900 * KIB)));
	EXPECT(script_calls(OS_MAP) == 1 && script_calls(OS_REMAP) == 1 && spare_bytes() == 0);
	/* When that is refused, it is kept, and a new one made. */
	start_default();
	cede_free(block_of(300 * KIB));
	script_fail_from(OS_REMAP, 1);
	mapped.max_bytes = 4 * MIB; /* room for both */
	EXPECT(is_mapped(block_of(900 * KIB)));
	EXPECT(script_calls(OS_MAP) == 2 && spare_bytes() == 300 * KIB + 4096);
}

static void a_spare_is_cleared_for_calloc(void)
{
	char *block;

	/* All there: cleared.  One page there: the others are not brought in. */
	for (size_t touched = 900 * KIB; touched != 0; touched = touched > 1 ? 1 : 0) {
		start_default();
		block = cede_malloc(900 * KIB);
		pattern_fill(block, touched, 1);
		cede_free(block);
		EXPECT(cede_calloc(900, KIB) == block);
		EXPECT(script_calls(OS_DISCARD) == (touched == 1));
		EXPECT(touched > 1 || os_resident(block_to_chunk(block), 900 * KIB) < 64 * KIB);
		for (size_t i = 0; i < 900 * KIB; i++)
			EXPECT(block[i] == 0);
		EXPECT(cede_malloc_trim(0) == 1 || spare_bytes() == 0);
	}
	/* Refused: cleared all the same. */
	start_default();
	block = cede_malloc(900 * KIB);
	pattern_fill(block + 400 * KIB, KIB, 1);
	cede_free(block);
	script_fail_from(OS_DISCARD, 1);
	EXPECT(cede_calloc(900, KIB) == block);
	for (size_t i = 0; i < 900 * KIB; i++)
		EXPECT(block[i] == 0);
}

static void realloc_leaves_and_takes_what_is_behind(void)
{
	char *block;

	start_default();
	block = block_of(900 * KIB);
	EXPECT(cede_realloc(block, 300 * KIB) == block && spare_bytes() == 600 * KIB);
	EXPECT(mapped.bytes == 300 * KIB + 4096);
	EXPECT(cede_realloc(block, 800 * KIB) == block && spare_bytes() == 100 * KIB);
	EXPECT(script_calls(OS_REMAP) == 0 && pattern_match(block, 300 * KIB, 1) == 300 * KIB);
	/* More than there is: all of it moves. */
	block = cede_realloc(block, 2 * MIB);
	EXPECT(block != NULL && spare_bytes() == 0 && script_calls(OS_REMAP) == 1);
	EXPECT(mapped.bytes == 2 * MIB + 4096);
	EXPECT(pattern_match(block, 300 * KIB, 1) == 300 * KIB);
}

static void a_refused_growth_changes_nothing(void)
{
	char *block;

	start_default();
	block = block_of(900 * KIB);
	EXPECT(cede_realloc(block, 700 * KIB) == block);
	EXPECT(cede_realloc(block, 400 * KIB) == block && spare_bytes() == 300 * KIB);
	script_fail_from(OS_REMAP, 1);
	script_fail_from(OS_MAP, 1);
	script_fail_from(OS_SBRK, 1);
	errno = 0;
	EXPECT(cede_realloc(block, 2 * MIB) == NULL && errno == ENOMEM);
	EXPECT(pattern_match(block, 400 * KIB, 1) == 400 * KIB);
	EXPECT(mapped.bytes == 400 * KIB + 4096 && spare_bytes() == 300 * KIB);
}

/* Copied once to where there is room, a block grows without the system. */
static void a_block_that_grows_moves_to_a_larger_spare(void)
{
	char *large, *block;

	start_default();
	large = block_of(900 * KIB);
	block = block_of(256 * KIB);
	cede_free(large);
	EXPECT(cede_realloc(block, 300 * KIB) == large);
	EXPECT(pattern_match(large, 256 * KIB, 1) == 256 * KIB);
	EXPECT(mapped.blocks == 1 && spare_bytes() == (600 + 256) * KIB + 4096);
	EXPECT(cede_realloc(large, 800 * KIB) == large && script_calls(OS_REMAP) == 0);
	EXPECT(pattern_match(large, 256 * KIB, 1) == 256 * KIB);
}

static void realloc_maps_what_grows_and_unmaps_what_is_little(void)
{
	char *block, *moved;

	start_default();
	settings.mmap_threshold = 16 * MIB;
	settings.dynamic_threshold = true;
	block = block_of(200 * KIB);
	EXPECT(!is_mapped(block));
	moved = cede_realloc(block, 300 * KIB);
	EXPECT(is_mapped(moved) && pattern_match(moved, 200 * KIB, 1) == 200 * KIB);
	block = cede_realloc(moved, 100);
	EXPECT(!is_mapped(block) && pattern_match(block, 96, 1) == 96);
	EXPECT(mapped.blocks == 0 && spare_bytes() == 300 * KIB + 4096);
	/* Not when the thresholds were set. */
	start_default();
	settings.dynamic_threshold = true;
	EXPECT(cede_mallopt(M_MMAP_THRESHOLD, 16 << 20) == 1);
	EXPECT(!is_mapped(cede_realloc(block_of(200 * KIB), 300 * KIB)));
	audit_arena(a);
}

static void the_greatest_requests_find_no_spare(void)
{
	char *block;

	start_default();
	settings.mmap_threshold = 16 * MIB;
	settings.dynamic_threshold = true;
	block = block_of(200 * KIB);
	cede_free(cede_realloc(block_of(200 * KIB), 400 * KIB));
	for (size_t less = 0; less < 40000; less += 123) {
		EXPECT(cede_realloc(block, (size_t)PTRDIFF_MAX - less) == NULL);
		EXPECT(spare_bytes() == 400 * KIB + 4096);
	}
	/* Nor does a block that is mapped already. */
	block = cede_realloc(block, 300 * KIB);
	EXPECT(is_mapped(block) && spare_bytes() == 100 * KIB);
	for (size_t less = 0; less < 40000; less += 123) {
		EXPECT(cede_realloc(block, (size_t)PTRDIFF_MAX - less) == NULL);
		EXPECT(mapped.bytes == 300 * KIB + 4096);
	}
	audit_arena(a);
}

static void spares_never_raise_the_peak(void)
{
	char *first, *second;

	start_default();
	first = block_of(300 * KIB);
	second = block_of(600 * KIB);
	cede_free(first);
	EXPECT(spare_bytes() == 300 * KIB + 4096);
	/* 300 and 600 fit beside it no more than below the 900 that were. */
	EXPECT(cede_realloc(second, 800 * KIB) != NULL);
	EXPECT(mapped.max_bytes == 900 * KIB + 2 * 4096);
	EXPECT(mapped.bytes + spare_bytes() == mapped.max_bytes);
}

static void free_twice(void)
{
	char *block;

	start_default();
	block = block_of(300 * KIB);
	cede_free(block);
	cede_free(block);
}

static void free_then_enlarge(void)
{
	char *block;

	start_default();
	block = block_of(300 * KIB);
	cede_free(block);
	(void)cede_realloc(block, 900 * KIB);
}

static void a_freed_block_is_recognised(void **state)
{
	(void)state;
	assert_true(child_dies(free_twice, "double free"));
	assert_true(child_dies(free_then_enlarge, "double free"));
}

static void all_goes_when_asked(void)
{
	struct cede_stats stats;
	char *block;

	start_default();
	block = block_of(900 * KIB);
	cede_free(block);
	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	EXPECT(stats.mapped_bytes == 0 && stats.free_resident_bytes >= 900 * KIB);
	EXPECT(stats.free_bytes + stats.live_bytes == stats.system_bytes);
	EXPECT(cede_malloc_trim(0) == 1);
	EXPECT(spare_bytes() == 0 && !os_is_mapped(block_to_chunk(block)));
}

static void nothing_is_kept_without_a_purger(void)
{
	char *block;

	start_default();
	settings.background = false;
	block = block_of(900 * KIB);
	cede_free(block);
	EXPECT(spare_bytes() == 0 && !os_is_mapped(block_to_chunk(block)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(counts_follow),
		child_test(the_threshold_follows_freed_blocks),
		child_test(a_threshold_that_was_set_stays),
		child_test(only_so_many_are_mapped),
		child_test(a_refused_mapping_comes_from_the_break),
		child_test(a_refused_unmap_still_empties_the_pages),
		child_test(realloc_moves_the_mapping),
		child_test(a_refused_move_is_a_copy),
		child_test(an_aligned_block_goes_whole),
		child_test(mapped_memory_is_not_cleared_twice),
		child_test(the_greatest_requests_fail),
		child_test(a_freed_block_serves_the_next),
		child_test(a_spare_too_small_is_made_larger),
		child_test(a_spare_is_cleared_for_calloc),
		child_test(realloc_leaves_and_takes_what_is_behind),
		child_test(a_refused_growth_changes_nothing),
		child_test(a_block_that_grows_moves_to_a_larger_spare),
		child_test(realloc_maps_what_grows_and_unmaps_what_is_little),
		child_test(the_greatest_requests_find_no_spare),
		child_test(spares_never_raise_the_peak),
		cmocka_unit_test(a_freed_block_is_recognised),
		child_test(all_goes_when_asked),
		child_test(nothing_is_kept_without_a_purger),
	};

	return cmocka_run_group_tests_name("mapped", tests, NULL, NULL);
}
