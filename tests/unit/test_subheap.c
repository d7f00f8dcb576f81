/*
 * heap/subheap: 64 MiB heaps of other arenas: where they lie, how they grow, end
 * and go, and what happens when the system refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/registry.h"
#include "heap/subheap.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arena *a;

/* This thread works in an arena of its own. */
static void start(enum policy policy)
{
	(void)script_heap(policy);
	a = subheap_new_arena(1);
	EXPECT(a != NULL && !arena_is_main(a));
	thread_self->arena = a;
	script_reset();
}

static void *block_of(size_t bytes)
{
	void *block = cede_malloc(bytes);

	EXPECT(block != NULL);
	pattern_fill(block, bytes, bytes);
	return block;
}

static bool intact(const void *block, size_t bytes)
{
	return pattern_match(block, bytes, bytes) == bytes;
}

static bool is_in(const struct heap_info *heap, const void *block)
{
	return subheap_of(block) == heap;
}

/* ---- a new heap ---- */

static void check_heap(struct heap_info *heap)
{
	EXPECT(heap != NULL && (uintptr_t)heap % HEAP_MAX == 0);
	EXPECT(subheap_known(heap) && subheap_known((char *)heap + HEAP_MAX - 1));
	EXPECT(!subheap_known((char *)heap - 1) || subheap_of((char *)heap - 1)->size != 0);
	EXPECT(heap->size % os_page_size == 0 && heap->accessible >= heap->size);
	memset((char *)heap + sizeof(*heap), 1, heap->size - sizeof(*heap));
}

static void a_heap_is_found_by_masking(void)
{
	struct heap_info *heap;

	(void)script_heap(POLICY_CLASSIC);
	for (int i = 0; i < 4; i++) {
		heap = subheap_create(100, 0);
		check_heap(heap);
		EXPECT(heap->size == HEAP_MIN);
	}
	heap = subheap_create(MIB, 3);
	EXPECT(heap->size == MIB + 4096);
	heap = subheap_create(HEAP_MAX, SIZE_MAX);
	EXPECT(heap->size == HEAP_MAX);
	EXPECT(subheap_create(HEAP_MAX + 1, 0) == NULL);
}

static char *free_place(void)
{
	char *place = os_map(NULL, 8 * HEAP_MAX, OS_NONE);

	EXPECT(place != NULL && os_unmap(place, 8 * HEAP_MAX));
	script_reset();
	return (char *)align_up((uintptr_t)place, HEAP_MAX);
}

/* Half of an aligned reservation is left: the next heap goes there. */
static void an_aligned_reservation_serves_twice(void)
{
	char *place, *other;

	(void)script_heap(POLICY_CLASSIC);
	place = free_place();
	script_map_at(place);
	EXPECT((char *)subheap_create(100, 0) == place);
	EXPECT((char *)subheap_create(100, 0) == place + HEAP_MAX);
	/* Unless somebody else is there. */
	place += 4 * HEAP_MAX;
	script_map_at(place);
	EXPECT((char *)subheap_create(100, 0) == place);
	other = os_map(place + HEAP_MAX, 4096, OS_NONE);
	EXPECT(other == place + HEAP_MAX);
	check_heap(subheap_create(100, 0));
}

static void with_little_address_space_luck_decides(void)
{
	char *place;

	(void)script_heap(POLICY_CLASSIC);
	place = free_place();
	/* Twice the size is not to be had, and the once is not aligned. */
	script_fail(OS_MAP, 1);
	script_map_at(place + 4096);
	EXPECT(subheap_create(100, 0) == NULL);
	EXPECT(script_calls(OS_UNMAP) == 1);
	script_fail(OS_MAP, 1);
	script_map_at(place);
	check_heap(subheap_create(100, 0));
	script_fail_from(OS_MAP, 1);
	EXPECT(subheap_create(100, 0) == NULL);
}

static void a_heap_that_stays_inaccessible_is_none(void)
{
	unsigned maps;

	(void)script_heap(POLICY_CLASSIC);
	script_fail(OS_PROTECT, 1);
	EXPECT(subheap_create(100, 0) == NULL);
	maps = script_calls(OS_UNMAP);
	EXPECT(maps >= 2); /* around the heap, and the heap itself */
	for (size_t i = 0; i < sizeof(subheap_bits) / sizeof(subheap_bits[0]); i++)
		EXPECT(subheap_bits[i] == 0);
	check_heap(subheap_create(100, 0));
}

/* Address space that cannot be unmapped stays reserved: no more than that. */
static void unmapping_around_a_heap_may_fail(void)
{
	(void)script_heap(POLICY_CLASSIC);
	script_fail_from(OS_UNMAP, 1);
	check_heap(subheap_create(100, 0));
	check_heap(subheap_create(100, 0));
}

/* ---- growth ---- */

static void growth_is_in_place_then_in_a_new_heap(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		struct heap_info *first;
		void *blocks[60];

		start((enum policy)policy);
		first = subheap_of(a->top);
		for (size_t i = 0; i < 60; i++) {
			blocks[i] = block_of(MIB + i * 16);
			EXPECT(is_in(first, blocks[i]));
			audit_arena(a);
		}
		EXPECT(a->system_bytes == first->size);
		(void)block_of(8 * MIB);
		EXPECT(subheap_of(a->top) != first && subheap_of(a->top)->prev == first);
		EXPECT(a->system_bytes == first->size + subheap_of(a->top)->size);
		audit_arena(a);
		for (size_t i = 0; i < 60; i++) {
			EXPECT(intact(blocks[i], MIB + i * 16));
			cede_free(blocks[i]);
			audit_arena(a);
		}
	}
}

/* Access comes in steps, so that small growth is not one system call each. */
static void small_growth_is_cheap(void)
{
	start(POLICY_CLASSIC);
	for (int i = 0; i < 2000; i++)
		(void)block_of(1000);
	EXPECT(script_calls(OS_PROTECT) <= 2 * MIB / (128 * KIB) + 1);
	audit_arena(a);
}

static void what_no_heap_can_hold_is_mapped(void)
{
	char *block;

	start(POLICY_CLASSIC);
	block = block_of(HEAP_MAX);
	EXPECT(chunk_is_mapped(block_to_chunk(block)));
	cede_free(block);
	EXPECT(mapped.blocks == 0);
	audit_arena(a);
}

/* mprotect fails once: a new heap; always: a mapped chunk; mmap too: nothing. */
/* Blocks of half of what would wake the purger, which a sanitizer does not survive. */
static void refused_growth_goes_elsewhere(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		struct heap_info *first;
		char *small, *block;
		size_t system_bytes;

		start((enum policy)policy);
		small = block_of(1000);
		first = subheap_of(a->top);
		script_fail_from(OS_PROTECT, 1);
		block = block_of(MIB / 2);
		EXPECT(chunk_is_mapped(block_to_chunk(block)));
		audit_arena(a);

		script_fail_from(OS_MAP, 1);
		script_fail_from(OS_SBRK, 1);
		system_bytes = a->system_bytes;
		errno = 0;
		EXPECT(cede_malloc(MIB / 2) == NULL && errno == ENOMEM);
		EXPECT(a->system_bytes == system_bytes && subheap_of(a->top) == first);
		audit_arena(a);

		script_reset();
		script_fail(OS_PROTECT, 1);
		(void)block_of(MIB / 2);
		EXPECT(subheap_of(a->top) != first);
		audit_arena(a);
		script_reset();
		(void)block_of(MIB / 2);
		EXPECT(intact(small, 1000) && intact(block, MIB / 2));
		cede_free(small);
		cede_free(block);
		audit_arena(a);
	}
}

/* The main arena serves a thread whose arena cannot grow. */
static void another_arena_serves(void)
{
	char *block;

	start(POLICY_CLASSIC);
	script_fail_from(OS_PROTECT, 1);
	script_fail_from(OS_MAP, 1);
	block = block_of(MIB);
	EXPECT(!chunk_is_mapped(block_to_chunk(block)));
	EXPECT((block_to_chunk(block)->size & NON_MAIN_ARENA) == 0);
	cede_free(block);
	audit_arena(a);
	audit_arena(&main_arena);
}

/* calloc trusts memory beyond the top only as far as it was never accessible. */
static void regrown_memory_is_cleared(void)
{
	for (int fail = 0; fail < 2; fail++) {
		char *block;

		start(POLICY_CLASSIC);
		settings.trim_threshold = SIZE_MAX;
		cede_free(memset(cede_malloc(MIB), 0xee, MIB));
		if (fail)
			script_fail(OS_DISCARD, 1);
		(void)subheap_trim(a, 0, true);
		block = cede_calloc(1, 2 * MIB);
		for (size_t i = 0; i < 2 * MIB; i++)
			EXPECT(block[i] == 0);
	}
}

/* ---- giving back ---- */

/* One block that keeps the first heap, and a second heap that can go. */
static void *two_heaps(void **in_second)
{
	void *kept, *filler;

	kept = block_of(MIB);
	filler = block_of(60 * MIB);
	*in_second = block_of(20 * MIB);
	EXPECT(subheap_of(a->top)->prev == subheap_of(kept));
	cede_free(filler);
	return kept;
}

static void an_empty_heap_is_unmapped(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		void *kept, *second;

		start((enum policy)policy);
		kept = two_heaps(&second);
		cede_free(second);
		(void)subheap_trim(a, 0, true);
		EXPECT(subheap_of(a->top) == subheap_of(kept));
		EXPECT(!subheap_known(second));
		EXPECT(a->system_bytes == subheap_of(kept)->size && a->system_bytes < 2 * MIB);
		EXPECT(intact(kept, MIB));
		audit_arena(a);
		(void)block_of(30 * MIB);
		audit_arena(a);
	}
}

static size_t resident_of(void *heap)
{
	return os_resident(heap, HEAP_MAX);
}

/* It stays in the address space, out of use, but not in memory. */
static void an_empty_heap_that_stays_mapped_is_emptied(void)
{
	void *kept, *second, *heap;

	start(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	kept = two_heaps(&second);
	heap = subheap_of(second);
	script_fail_from(OS_UNMAP, 1);
	cede_free(second);
	(void)subheap_trim(a, 0, true);
	EXPECT(subheap_of(a->top) == subheap_of(kept) && !subheap_known(second));
	EXPECT(intact(kept, MIB));
	audit_arena(a);
	EXPECT(resident_of(heap) == 0);
	script_reset();
	(void)block_of(30 * MIB);
	audit_arena(a);
}

static void the_end_of_the_top_goes(void)
{
	struct heap_info *heap;
	size_t gone, before;

	start(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	cede_free(block_of(4 * MIB));
	heap = subheap_of(a->top);
	before = heap->size;
	EXPECT(subheap_trim(a, 0, false) == 0);
	gone = subheap_trim(a, MIB, true);
	EXPECT(gone >= 3 * MIB - 64 * KIB && heap->size == before - gone);
	EXPECT(a->system_bytes == heap->size && chunk_size(a->top) >= MIB);
	EXPECT(os_resident((char *)heap + heap->size, gone) == 0);
	audit_arena(a);
	EXPECT(subheap_trim(a, MIB, true) == 0);
	EXPECT(subheap_trim(a, SIZE_MAX, true) == 0);
	audit_arena(a);
}

static void what_the_system_kept_is_not_counted(void)
{
	start(POLICY_DEFAULT);
	cede_free(block_of(4 * MIB));
	script_fail_from(OS_DISCARD, 1);
	EXPECT(subheap_trim(a, 0, true) == 0);
	audit_arena(a);
	script_reset();
	EXPECT(intact(block_of(4 * MIB), 4 * MIB));
	audit_arena(a);
}

/* Tops of every small size are closed by posts, and opened again. */
static void the_smallest_tops_come_and_go(void)
{
	for (size_t left = MIN_CHUNK; left <= 4 * MIN_CHUNK; left += CHUNK_ALIGN) {
		char *first, *filler, *last, *second;

		start(POLICY_DEFAULT);
		first = block_of(1000);
		filler = cede_malloc((size_t)60 * MIB);
		last = cede_malloc(HEAP_MAX - ((uintptr_t)a->top & (HEAP_MAX - 1)) - left - SIZE_SZ);
		EXPECT(is_in(subheap_of(first), last) && chunk_size(a->top) == left);
		second = block_of(MIB);
		EXPECT(!is_in(subheap_of(first), second));
		audit_arena(a);
		cede_free(filler);
		cede_free(second);
		audit_arena(a);
		(void)subheap_trim(a, 0, true);
		audit_arena(a);
		cede_free(last);
		(void)subheap_trim(a, 0, true);
		audit_arena(a);
		EXPECT(is_in(subheap_of(first), a->top) && intact(first, 1000));
		(void)block_of(MIB);
		audit_arena(a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_heap_is_found_by_masking),
		child_test(an_aligned_reservation_serves_twice),
		child_test(with_little_address_space_luck_decides),
		child_test(a_heap_that_stays_inaccessible_is_none),
		child_test(unmapping_around_a_heap_may_fail),
		child_test(growth_is_in_place_then_in_a_new_heap),
		child_test(small_growth_is_cheap),
		child_test(what_no_heap_can_hold_is_mapped),
		child_test(refused_growth_goes_elsewhere),
		child_test(another_arena_serves),
		child_test(regrown_memory_is_cleared),
		child_test(an_empty_heap_is_unmapped),
		child_test(an_empty_heap_that_stays_mapped_is_emptied),
		child_test(the_end_of_the_top_goes),
		child_test(what_the_system_kept_is_not_counted),
		child_test(the_smallest_tops_come_and_go),
	};

	return cmocka_run_group_tests_name("subheap", tests, NULL, NULL);
}
