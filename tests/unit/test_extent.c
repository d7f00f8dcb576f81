/*
 * heap/extent: what the heap says of its free pages, against what the kernel
 * says.  The property that everything stands on: a whole page of free memory that
 * is resident lies within an extent, whatever was allocated, freed, merged,
 * split, trimmed and claimed before; and no page given back holds a live byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/subheap.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define PAGE ((uintptr_t)4096)

/* ---- the parts ---- */

static _Alignas(4096) char memory[64 * 4096];

static struct chunk *free_chunk_at(size_t offset, size_t size)
{
	struct chunk *c = chunk_at(memory, offset);

	c->size = size | PREV_INUSE;
	return c;
}

static struct extent pages(size_t from, size_t to)
{
	return (struct extent){ (uintptr_t)memory + from * PAGE, (uintptr_t)memory + to * PAGE };
}

static void test_hull(void **state)
{
	struct extent e = extent_hull(pages(3, 5), pages(9, 10));

	(void)state;
	assert_true(e.lo == pages(3, 5).lo && e.hi == pages(9, 10).hi);
	e = extent_hull(EXTENT_EMPTY, pages(3, 5));
	assert_true(e.lo == pages(3, 5).lo && e.hi == pages(3, 5).hi);
	e = extent_hull(EXTENT_EMPTY, EXTENT_EMPTY);
	assert_true(e.lo >= e.hi);
}

static void test_put_keeps_the_inner_pages(void **state)
{
	struct arena a = { 0 };
	/* Its header lies in page 1, its end in page 7. */
	struct chunk *c = free_chunk_at(4096 + 64, 6 * 4096 + 512);
	struct extent e;

	(void)state;
	extent_put(&a, c, chunk_size(c), pages(0, 64));
	assert_int_equal(a.dirty_bytes, 5 * PAGE);
	e = extent_take(&a, c, chunk_size(c));
	assert_true(e.lo == pages(2, 7).lo && e.hi == pages(2, 7).hi);
	assert_int_equal(a.dirty_bytes, 0);
	assert_null(a.dirty_newest);
	assert_null(a.dirty_oldest);
	/* The links do not fit before the page's end: it is not inner. */
	c = free_chunk_at(4096 + 4096 - 80, 6 * 4096);
	assert_int_equal(extent_inner_start(c), pages(3, 3).lo);
}

static void test_a_clean_chunk_is_not_listed(void **state)
{
	struct arena a = { 0 };
	struct chunk *c = free_chunk_at(0, 8 * 4096);
	struct extent e;

	(void)state;
	extent_put(&a, c, chunk_size(c), EXTENT_EMPTY);
	assert_null(a.dirty_newest);
	extent_put(&a, c, chunk_size(c), pages(0, 1)); /* its header's page only */
	assert_null(a.dirty_newest);
	assert_int_equal(a.dirty_bytes, 0);
	e = extent_take(&a, c, chunk_size(c));
	assert_true(e.lo >= e.hi);
}

/* Below a page nothing is remembered: all of it counts. */
static void test_a_small_chunk_is_all_dirty(void **state)
{
	struct arena a = { 0 };
	struct chunk *c = free_chunk_at(4096 - 32, 64);
	struct extent e;

	(void)state;
	extent_put(&a, c, 64, EXTENT_EMPTY);
	e = extent_take(&a, c, 64);
	assert_true(e.lo == pages(0, 2).lo && e.hi == pages(0, 2).hi);
}

static void test_the_list_is_in_order_of_age(void **state)
{
	struct arena a = { 0 };
	struct chunk *c[4];
	struct dirty_chunk *d;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		c[i] = free_chunk_at(i * 16 * 4096, 8 * 4096);
		extent_put(&a, c[i], chunk_size(c[i]), pages(0, 64));
	}
	assert_int_equal(a.dirty_bytes, 4 * 7 * PAGE);
	extent_take(&a, c[1], chunk_size(c[1]));
	extent_take(&a, c[3], chunk_size(c[3]));
	extent_put(&a, c[1], chunk_size(c[1]), pages(0, 64));
	d = a.dirty_oldest;
	assert_ptr_equal(d, c[0]);
	assert_ptr_equal(d->newer, c[2]);
	assert_ptr_equal(d->newer->newer, c[1]);
	assert_ptr_equal(a.dirty_newest, c[1]);
	assert_int_equal(a.dirty_bytes, 3 * 7 * PAGE);
}

/* ---- the property ---- */

#define BLOCKS 192
#define SEEDS  60
#define STEPS  2000

struct run {
	struct arena *a;
	struct rng rng;
	struct chunk *blocks[BLOCKS];
	size_t filled[BLOCKS]; /* bytes from the start that hold the pattern */
	struct claim claim;
	bool claimed;
};

static struct run run;

/* Over all runs, so that no check passes for want of a case. */
static struct {
	size_t clean_pages; /* found in free memory, outside the extents */
	size_t tops, chunks;
} seen;

static size_t resident(uintptr_t lo, uintptr_t hi)
{
	static unsigned char in_memory[1 << 16];
	size_t count = 0;

	if (lo >= hi)
		return 0;
	EXPECT((hi - lo) / PAGE <= sizeof(in_memory));
	EXPECT(mincore((void *)lo, hi - lo, in_memory) == 0);
	for (size_t i = 0; i < (hi - lo) / PAGE; i++)
		count += in_memory[i] & 1;
	seen.clean_pages += (hi - lo) / PAGE - count;
	return count;
}

/* Of the free pages [lo, hi), those outside `e` are gone. */
static void check_outside(uintptr_t lo, uintptr_t hi, struct extent e)
{
	if (e.lo >= e.hi) {
		EXPECT(resident(lo, hi) == 0);
		return;
	}
	EXPECT(e.lo >= lo && e.hi <= hi);
	EXPECT(resident(lo, e.lo) == 0);
	EXPECT(resident(e.hi, hi) == 0);
}

static void check_free_chunk(const struct chunk *c)
{
	const struct dirty_chunk *d = (const struct dirty_chunk *)c;

	if (chunk_size(c) >= PAGE)
		check_outside(extent_inner_start(c),
		              align_down((uintptr_t)c + chunk_size(c), PAGE),
		              (struct extent){ d->lo, d->hi });
}

static void check_tree(const struct chunk *node)
{
	const struct chunk *c = node;

	if (node == NULL)
		return;
	do {
		check_free_chunk(c);
		c = c->fd;
	} while (c != node);
	check_tree(node->fd_nextsize);
	check_tree(node->bk_nextsize);
}

static void check_pages(void)
{
	struct arena *a = run.a;
	struct chunk *head = bin_head(a, UNSORTED);
	struct extent top = extent_of_top(a);

	audit_arena(a);
	for (struct chunk *c = head->bk; c != head; c = c->bk)
		check_free_chunk(c);
	for (unsigned i = 0; i < LARGE_BINS; i++)
		check_tree(a->trees[i]);
	if (chunk_size(a->top) != 0)
		check_outside(align_up((uintptr_t)a->top + MIN_CHUNK, PAGE),
		              align_down((uintptr_t)a->top + chunk_size(a->top), PAGE), top);
}

static void no_live_byte(const struct os_range *ranges, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char *lo = ranges[i].start, *hi = lo + ranges[i].size;

		EXPECT(((uintptr_t)lo | ranges[i].size) % PAGE == 0 && lo < hi);
		for (size_t b = 0; b < BLOCKS; b++) {
			char *c = (char *)run.blocks[b];

			EXPECT(c == NULL || hi <= c || lo >= c + chunk_size(run.blocks[b]) + SIZE_SZ);
		}
	}
}

static size_t random_bytes(void)
{
	static const size_t most[] = { 100, 1000, 1000, 5000, 5000, 20000, 60000, 300000 };

	return 1 + rng_below(&run.rng, most[rng_below(&run.rng, 8)]);
}

/* A program writes to all of a block, to a part, or never. */
static void fill(size_t i)
{
	size_t usable = chunk_usable(run.blocks[i]);

	run.filled[i] = rng_below(&run.rng, 3) != 0 ? usable : rng_below(&run.rng, usable + 1);
	pattern_fill(chunk_to_block(run.blocks[i]), run.filled[i], i);
}

static void check_contents(size_t i, size_t bytes)
{
	EXPECT(pattern_match(chunk_to_block(run.blocks[i]), bytes, i) == bytes);
}

static void take(size_t i)
{
	size_t size = request_to_size(random_bytes()), stale = 0;
	struct chunk *c;

	switch (rng_below(&run.rng, 6)) {
	case 0:
		c = alloc_aligned(run.a, (size_t)32 << rng_below(&run.rng, 9), size);
		break;
	case 1:
		c = alloc_chunk_zero(run.a, size, &stale);
		for (size_t at = stale; c != NULL && at < chunk_usable(c); at++)
			EXPECT(((char *)chunk_to_block(c))[at] == 0);
		break;
	default:
		c = alloc_chunk(run.a, size);
	}
	run.blocks[i] = c;
	if (c != NULL)
		fill(i);
}

static void drop(size_t i)
{
	struct chunk *c = run.blocks[i];

	check_contents(i, run.filled[i]);
	run.blocks[i] = NULL;
	if (chunk_is_mapped(c))
		mapped_free(c, "free");
	else
		free_chunk(run.a, c);
}

static void resize(size_t i)
{
	size_t size = request_to_size(random_bytes()), kept;

	if (chunk_is_mapped(run.blocks[i]) || realloc_in_place(run.a, run.blocks[i], size) == NULL)
		return;
	kept = size_min(run.filled[i], chunk_usable(run.blocks[i]));
	check_contents(i, kept);
	fill(i);
}

static void claim_step(void)
{
	uint64_t calls = 0;
	size_t want = SIZE_MAX, taken;

	if (run.claimed) {
		no_live_byte(run.claim.ranges, run.claim.count);
		(void)os_discard(run.claim.ranges, run.claim.count, &calls);
		claim_return(&run.claim, true);
		run.claimed = false;
		return;
	}
	if (rng_below(&run.rng, 2) == 0)
		want = rng_below(&run.rng, 40 * PAGE);
	taken = claim_take(&run.claim, run.a, want);
	run.claimed = taken != 0;
	EXPECT(taken <= want);
	seen.chunks += run.claim.chunks_count;
	seen.tops += run.claim.count - run.claim.chunks_count;
	no_live_byte(run.claim.ranges, run.claim.count);
}

/* What seldom happens to the end of an arena. */
static void end_step(void)
{
	size_t pad = rng_below(&run.rng, 2) * 20000;

	if (!arena_is_main(run.a)) {
		(void)subheap_trim(run.a, pad, true);
		return;
	}
	switch (rng_below(&run.rng, 8)) {
	case 0:
		EXPECT(script_foreign_sbrk((intptr_t)rng_below(&run.rng, 3 * PAGE)) != NULL);
		break;
	case 1:
		if (script_calls(OS_SBRK) % 7 == 0)
			script_fail(OS_SBRK, 1);
		break;
	default:
		(void)grow_trim_main(run.a, pad);
	}
}

/* Now mostly full, now mostly empty. */
static void block_step(int step)
{
	size_t i = rng_below(&run.rng, BLOCKS);
	bool grow = step / 250 % 2 == 0;

	if (run.blocks[i] == NULL && (grow || rng_below(&run.rng, 4) == 0))
		take(i);
	else if (run.blocks[i] != NULL && rng_below(&run.rng, 4) == 0)
		resize(i);
	else if (run.blocks[i] != NULL && (!grow || rng_below(&run.rng, 3) == 0))
		drop(i);
}

static void random_run(struct arena *a, uint64_t seed)
{
	memset(&run, 0, sizeof(run));
	run.a = a;
	run.rng.state = seed;
	for (int step = 0; step < STEPS; step++) {
		if (rng_below(&run.rng, 12) == 0)
			claim_step();
		lock_acquire(&a->lock);
		if (rng_below(&run.rng, 40) == 0)
			end_step();
		else
			block_step(step);
		if (step % 16 == 0)
			check_pages();
		lock_release(&a->lock);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		if (run.blocks[i] != NULL)
			drop(i);
	}
	/* Then all of it goes, and nothing is dirty that cannot be taken. */
	while (run.claimed || extent_dirty_bytes(a) != 0) {
		claim_step();
		check_pages();
	}
}

static void nothing_resident_is_forgotten_in_the_main_arena(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		random_run(script_heap(POLICY_DEFAULT), seed);
	EXPECT(seen.chunks > 1000 && seen.tops > 100 && seen.clean_pages > 100000);
}

static void nothing_resident_is_forgotten_in_other_arenas(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct arena *a;

		(void)script_heap(POLICY_DEFAULT);
		a = subheap_new_arena(1);
		EXPECT(a != NULL);
		random_run(a, 1000 + seed);
	}
	EXPECT(seen.chunks > 1000 && seen.tops > 100 && seen.clean_pages > 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hull),
		cmocka_unit_test(test_put_keeps_the_inner_pages),
		cmocka_unit_test(test_a_clean_chunk_is_not_listed),
		cmocka_unit_test(test_a_small_chunk_is_all_dirty),
		cmocka_unit_test(test_the_list_is_in_order_of_age),
		child_test(nothing_resident_is_forgotten_in_the_main_arena),
		child_test(nothing_resident_is_forgotten_in_other_arenas),
	};

	/* One touch must make one page resident. */
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	return cmocka_run_group_tests_name("extent", tests, NULL, NULL);
}
