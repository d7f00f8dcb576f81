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
	};

	return cmocka_run_group_tests_name("mapped", tests, NULL, NULL);
}
