/*
 * heap/claim: pages taken aside, while the program goes on.  (test_extent does the
 * same at random.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/giving.h"
#include "heap/purger.h"
#include "heap/spare.h"
#include "heap/subheap.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB  ((size_t)1 << 10)
#define MIB  ((size_t)1 << 20)
#define PAGE ((size_t)4096)

static struct arena *a;
static struct claim claim, another;

static char *touched(size_t bytes)
{
	char *block = cede_malloc(bytes);

	EXPECT(block != NULL);
	return memset(block, 0x99, bytes);
}

/* Free chunks that pins keep apart, and from the top; returns the first. */
static char *holes(unsigned count, size_t bytes)
{
	static char *blocks[3 * OS_DISCARD_RANGES];

	for (unsigned i = 0; i < count; i++) {
		blocks[i] = touched(bytes);
		(void)touched(24);
	}
	for (unsigned i = 0; i < count; i++)
		cede_free(blocks[i]);
	return blocks[0];
}

static size_t discard(void)
{
	uint64_t calls = 0;

	return os_discard(claim.ranges, claim.count, &calls);
}

static bool reads_zero(const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (at[i] != 0)
			return false;
	}
	return true;
}

static void *page_of(const char *at)
{
	return (void *)align_down((uintptr_t)at, os_page_size);
}

/* ---- what is taken ---- */

static void of_a_large_chunk_only_the_front(void)
{
	char *block, *next;

	a = script_heap(POLICY_DEFAULT);
	block = holes(1, 8 * MIB);
	EXPECT(claim_take(&claim, a, 64 * KIB) == 64 * KIB);
	EXPECT(claim.count == 1 && claim.chunks_count == 1);
	EXPECT(claim.ranges[0].size == 64 * KIB);
	EXPECT((char *)claim.ranges[0].start - block < (ptrdiff_t)PAGE);
	audit_arena(a);
	/* The program keeps the rest. */
	next = touched(7 * MIB);
	EXPECT(next > block + 64 * KIB && next < block + 8 * MIB);
	audit_arena(a);
	EXPECT(discard() == 64 * KIB);
	claim_return(&claim, true);
	audit_arena(a);
	EXPECT(a->claimed_bytes == 0);
	cede_free(next);
	audit_arena(a);
}

static void of_the_top_only_the_end(void)
{
	size_t top_size, dirty;
	char *end;

	a = script_heap(POLICY_DEFAULT);
	cede_free(touched(4 * MIB));
	top_size = chunk_size(a->top);
	end = (char *)a->top + top_size;
	dirty = extent_dirty_bytes(a);
	EXPECT(claim_take(&claim, a, MIB + 5) == MIB);
	EXPECT(claim.count == 1 && claim.chunks_count == 0);
	EXPECT(extent_dirty_bytes(a) == dirty - MIB);
	EXPECT(chunk_size(a->top) == top_size - a->top_claimed);
	EXPECT((char *)a->top + chunk_size(a->top) + a->top_claimed == end);
	EXPECT(claim_take(&another, a, SIZE_MAX) == 0); /* one end at a time */
	audit_arena(a);
	EXPECT(touched(2 * MIB) != NULL);
	audit_arena(a);
	discard();
	claim_return(&claim, true);
	EXPECT((char *)a->top + chunk_size(a->top) == end && a->top_claimed == 0);
	audit_arena(a);
}

static void the_oldest_first_and_the_top_last(void)
{
	char *first, *second;

	a = script_heap(POLICY_DEFAULT);
	second = touched(64 * KIB);
	(void)touched(24);
	first = touched(64 * KIB);
	(void)touched(24);
	cede_free(touched(MIB));
	cede_free(first);
	cede_free(second);
	EXPECT(claim_take(&claim, a, SIZE_MAX) > MIB);
	EXPECT(claim.count == 3 && claim.chunks_count == 2);
	EXPECT(claim.chunks[0] == block_to_chunk(first));
	EXPECT(claim.chunks[1] == block_to_chunk(second));
	EXPECT((struct chunk *)claim.ranges[2].start > a->top);
	EXPECT(extent_dirty_bytes(a) == 0);
	claim_return(&claim, true);
	audit_arena(a);
}

static void a_claim_is_bounded(void)
{
	size_t all, taken, sum = 0;
	int claims = 0;

	a = script_heap(POLICY_DEFAULT);
	EXPECT(claim_take(&claim, a, SIZE_MAX) == 0 && claim.count == 0);
	(void)holes(3 * OS_DISCARD_RANGES, 3 * PAGE);
	(void)holes(1, 3 * CLAIM_BYTES);
	EXPECT(claim_take(&claim, a, PAGE - 1) == 0 && claim.count == 0);
	all = extent_dirty_bytes(a);
	while ((taken = claim_take(&claim, a, SIZE_MAX)) != 0) {
		size_t bytes = 0;

		EXPECT(claim.count <= OS_DISCARD_RANGES && taken <= CLAIM_BYTES);
		EXPECT(claims >= 3 || claim.count == OS_DISCARD_RANGES);
		for (unsigned i = 0; i < claim.count; i++)
			bytes += claim.ranges[i].size;
		EXPECT(bytes == taken && discard() == taken);
		claim_return(&claim, true);
		audit_arena(a);
		sum += taken;
		claims++;
	}
	/* The front's page that became inner again is taken twice. */
	EXPECT(sum >= all && sum <= all + (size_t)claims * PAGE);
	EXPECT(claims >= 6 && extent_dirty_bytes(a) == 0);
}

static bool lock_was_free = true;

static void look_at_the_lock(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	lock_was_free &= __atomic_load_n(&a->lock.word, __ATOMIC_RELAXED) == 0;
}

/* This thread's own time: what others take from it is not the lock's. */
static double microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Nobody waits for the arena while the system works; how long at other times is
 * printed, for people: machines differ. */
static void the_lock_is_held_for_bookkeeping_only(void)
{
	double take = 0, put_back = 0, start, spent;

	a = script_heap(POLICY_DEFAULT);
	(void)holes(1000, 16 * KIB);
	script_discarding = look_at_the_lock;
	for (;;) {
		start = microseconds();
		if (claim_take(&claim, a, SIZE_MAX) == 0)
			break;
		spent = microseconds() - start;
		take = spent > take ? spent : take;
		discard();
		start = microseconds();
		claim_return(&claim, true);
		spent = microseconds() - start;
		put_back = spent > put_back ? spent : put_back;
	}
	EXPECT(lock_was_free);
	print_message("longest hold for a claim: %.0f us to take, %.0f us to put back\n", take,
	              put_back);
}

/* decay.h: the present tick's low-water mark falls when pages are taken. */
static void the_low_water_mark_falls(void)
{
	a = script_heap(POLICY_DEFAULT);
	(void)holes(1, MIB);
	cede_free(touched(2 * MIB));
	decay_tick(&a->decay, extent_dirty_bytes(a));
	while (claim_take(&claim, a, 512 * KIB) != 0) {
		EXPECT(a->decay.low <= extent_dirty_bytes(a));
		discard();
		claim_return(&claim, true);
		EXPECT(a->decay.low <= extent_dirty_bytes(a));
	}
	EXPECT(a->decay.low == 0);
}

/* ---- while it is taken ---- */

static void neighbours_come_and_go_meanwhile(void)
{
	char *before, *middle, *after;

	a = script_heap(POLICY_DEFAULT);
	before = touched(20 * KIB);
	middle = touched(64 * KIB);
	after = touched(20 * KIB);
	(void)touched(24);
	cede_free(middle);
	EXPECT(claim_take(&claim, a, SIZE_MAX) != 0);
	cede_free(before);
	cede_free(after);
	audit_arena(a);
	/* They did not merge with what is taken, and now all three do. */
	EXPECT(chunk_size(block_to_chunk(before)) < 21 * KIB);
	discard();
	claim_return(&claim, true);
	EXPECT(chunk_size(block_to_chunk(before)) > 100 * KIB);
	audit_arena(a);
	EXPECT(cede_malloc(100 * KIB) == before);
	audit_arena(a);
}

/* The top's end is away: it cannot move, so large requests are mapped. */
static void growth_waits_for_the_end_of_the_top(void)
{
	for (int i = 0; i < 2; i++) {
		struct chunk *c, *small;
		size_t system_bytes;

		a = script_heap(POLICY_DEFAULT);
		if (i == 1)
			a = subheap_new_arena(1);
		c = alloc_chunk(a, 2 * MIB);
		memset(chunk_to_block(c), 1, MIB);
		free_chunk(a, c);
		EXPECT(claim_take(&claim, a, SIZE_MAX) != 0 && a->top_claimed != 0);
		system_bytes = a->system_bytes;
		script_reset();
		c = alloc_chunk(a, 4 * MIB);
		EXPECT(c != NULL && chunk_is_mapped(c));
		EXPECT(a->system_bytes == system_bytes && script_calls(OS_SBRK) == 0);
		mapped_free(c, "free");
		EXPECT(spare_release(SIZE_MAX) != 0);
		/* Nor can it be trimmed. */
		EXPECT(i == 1 ? subheap_trim(a, 0, true) == 0 : grow_trim_main(a, 0) == 0);
		script_fail_from(OS_MAP, 1);
		EXPECT(alloc_chunk(a, 4 * MIB) == NULL);
		small = alloc_chunk(a, 64);
		EXPECT(small != NULL);
		audit_arena(a);
		discard();
		claim_return(&claim, true);
		audit_arena(a);
		script_reset();
		c = alloc_chunk(a, 4 * MIB);
		EXPECT(c != NULL && !chunk_is_mapped(c));
		audit_arena(a);
	}
}

/* Blocks that lie beside the claimed end are freed into the shortened top. */
static void a_block_before_the_claimed_end_is_freed(void)
{
	char *block;

	a = script_heap(POLICY_DEFAULT);
	block = touched(100 * KIB);
	cede_free(touched(MIB));
	EXPECT(claim_take(&claim, a, SIZE_MAX) != 0);
	cede_free(block);
	audit_arena(a);
	discard();
	claim_return(&claim, true);
	audit_arena(a);
	EXPECT(extent_dirty_bytes(a) >= 96 * KIB);
	EXPECT(giving_release(SIZE_MAX) >= 96 * KIB);
	EXPECT(extent_dirty_bytes(a) == 0);
}

static void statistics_count_what_is_taken_as_free(void)
{
	struct cede_stats before, during;

	a = script_heap(POLICY_DEFAULT);
	(void)holes(1, MIB);
	cede_free(touched(2 * MIB));
	(void)cede_stats(&before, sizeof(before));
	EXPECT(claim_take(&claim, a, SIZE_MAX) > MIB);
	(void)cede_stats(&during, sizeof(during));
	EXPECT(during.live_bytes == before.live_bytes && during.free_bytes == before.free_bytes);
	EXPECT(during.system_bytes == before.system_bytes);
	EXPECT(during.free_resident_bytes == 0);
	claim_return(&claim, true);
}

/* ---- after it went ---- */

static void purged_memory_reads_zero(void)
{
	char *block, *again;

	a = script_heap(POLICY_DEFAULT);
	block = holes(1, MIB);
	cede_free(touched(2 * MIB));
	EXPECT(giving_release(SIZE_MAX) >= 3 * MIB - 4 * PAGE);
	EXPECT(extent_dirty_bytes(a) == 0);
	again = cede_malloc(MIB);
	EXPECT(again == block);
	EXPECT(reads_zero(again + PAGE, MIB - 2 * PAGE));
	again = cede_calloc(1, MIB);
	EXPECT(reads_zero(again, MIB));
	audit_arena(a);
}

/* Nor need calloc clear it, in a hole or in the top; the rest it must. */
static void purged_memory_is_not_cleared_again(void)
{
	char *block, *again;

	a = script_heap(POLICY_DEFAULT);
	block = holes(1, 2 * MIB);
	EXPECT(giving_release(SIZE_MAX) != 0);
	again = cede_calloc(1, MIB);
	EXPECT(again == block && os_resident(page_of(block), MIB) <= 2 * PAGE);
	EXPECT(reads_zero(again, MIB));
	cede_free(touched(8 * MIB));
	EXPECT(giving_release(SIZE_MAX) != 0);
	again = cede_calloc(1, 4 * MIB);
	EXPECT(os_resident(page_of(again), 4 * MIB) <= 2 * PAGE);
	EXPECT(reads_zero(again, 4 * MIB));
	/* Half of it was there again when it was freed. */
	cede_free(block);
	cede_free(memset(cede_malloc(MIB), 1, MIB));
	EXPECT(reads_zero(cede_calloc(2, MIB - 4 * PAGE), 2 * (MIB - 4 * PAGE)));
	audit_arena(a);
}

/* Freed, but hardly touched: calloc makes no more of it. */
static void sparse_memory_stays_sparse(void)
{
	char *block;

	a = script_heap(POLICY_DEFAULT);
	block = cede_malloc(8 * MIB);
	(void)touched(24);
	block[5 * MIB] = 1;
	cede_free(block);
	EXPECT(cede_calloc(1, 8 * MIB) == block);
	EXPECT(os_resident(page_of(block), 8 * MIB) <= 2 * PAGE);
	EXPECT(reads_zero(block, 8 * MIB));
}

static void what_was_refused_is_cleared(void)
{
	char *block;

	a = script_heap(POLICY_DEFAULT);
	block = holes(1, 2 * MIB);
	cede_free(touched(4 * MIB));
	script_fail_from(OS_DISCARD, 1);
	EXPECT(giving_release(SIZE_MAX) == 0 && extent_dirty_bytes(a) == 0);
	EXPECT(cede_calloc(1, MIB) == block && reads_zero(block, MIB));
	EXPECT(reads_zero(cede_calloc(1, 4 * MIB), 4 * MIB));
	audit_arena(a);
}

/* Locked memory: it stays, is not counted, and is not asked for again. */
static void a_refused_discard_ends(void)
{
	unsigned calls;

	a = script_heap(POLICY_DEFAULT);
	(void)holes(100, 64 * KIB);
	cede_free(touched(MIB));
	script_fail_from(OS_DISCARD, 1);
	EXPECT(giving_release(SIZE_MAX) == 0);
	calls = script_calls(OS_DISCARD);
	EXPECT(calls <= 4 && extent_dirty_bytes(a) == 0);
	EXPECT(giving_release(SIZE_MAX) == 0 && script_calls(OS_DISCARD) == calls);
	EXPECT(purge_counts.bytes == 0);
	audit_arena(a);
	script_reset();
	EXPECT(touched(64 * KIB) != NULL);
	EXPECT(reads_zero(cede_calloc(1, 300 * KIB), 300 * KIB));
	audit_arena(a);
}

/* ---- and is wanted again ---- */

/* Each page once, as it is handed out; in one piece or more. */
static void what_went_of_a_hole_is_counted_when_it_is_taken(void)
{
	size_t gone;
	char *block, *rest;

	a = script_heap(POLICY_DEFAULT);
	block = holes(1, MIB);
	gone = giving_release(SIZE_MAX);
	EXPECT(gone >= MIB - 2 * PAGE && a->refaulted_bytes == 0);
	EXPECT(cede_malloc(256 * KIB) == block);
	EXPECT(a->refaulted_bytes == align_up(256 * KIB, PAGE));
	rest = cede_malloc(512 * KIB);
	EXPECT(cede_realloc(rest, 600 * KIB) == rest && rest > block && rest < block + MIB);
	EXPECT((char *)cede_malloc(MIB - 856 * KIB - 64) < block + MIB);
	EXPECT(a->refaulted_bytes == gone);
	cede_free(block);
	EXPECT(cede_malloc(256 * KIB) == block && a->refaulted_bytes == gone);
}

/* What was never handed out is new. */
static void what_went_of_the_top_is_counted_when_it_is_taken(void)
{
	size_t gone;
	char *block, *next;

	a = script_heap(POLICY_DEFAULT);
	cede_free(touched(4 * MIB));
	gone = giving_release(SIZE_MAX);
	EXPECT(gone >= 4 * MIB - 2 * PAGE);
	block = touched(2 * MIB);
	EXPECT(a->refaulted_bytes >= 2 * MIB - PAGE && a->refaulted_bytes <= 2 * MIB);
	EXPECT(cede_realloc(block, 3 * MIB) == block);
	EXPECT(a->refaulted_bytes >= 3 * MIB - PAGE && a->refaulted_bytes <= 3 * MIB);
	next = touched(8 * MIB);
	EXPECT(next > block && a->refaulted_bytes == gone);
	cede_free(next);
	EXPECT(touched(8 * MIB) == next && a->refaulted_bytes == gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(of_a_large_chunk_only_the_front),
		child_test(of_the_top_only_the_end),
		child_test(the_oldest_first_and_the_top_last),
		child_test(a_claim_is_bounded),
		child_test(the_lock_is_held_for_bookkeeping_only),
		child_test(the_low_water_mark_falls),
		child_test(neighbours_come_and_go_meanwhile),
		child_test(growth_waits_for_the_end_of_the_top),
		child_test(a_block_before_the_claimed_end_is_freed),
		child_test(statistics_count_what_is_taken_as_free),
		child_test(purged_memory_reads_zero),
		child_test(purged_memory_is_not_cleared_again),
		child_test(sparse_memory_stays_sparse),
		child_test(what_was_refused_is_cleared),
		child_test(a_refused_discard_ends),
		child_test(what_went_of_a_hole_is_counted_when_it_is_taken),
		child_test(what_went_of_the_top_is_counted_when_it_is_taken),
	};

	return cmocka_run_group_tests_name("claim", tests, NULL, NULL);
}
