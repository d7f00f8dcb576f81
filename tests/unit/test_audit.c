/*
 * heap/audit: each invariant is broken by hand, to see that the validator can
 * fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/subheap.h"
#include "support/child.h"
#include "support/scripted_os.h"

static struct arena *a;

/* Free chunks of these sizes, in this order; a pin behind each. */
static const size_t sizes[] = { 64, 64, 208, 4640, 4704, 5008, 4704, 5008, 20000, 300000 };

#define HOLES (sizeof(sizes) / sizeof(sizes[0]))

static struct chunk *holes[HOLES];

/* The sizes whose bin is a tree with two children, and a ring on one of them. */
#define ROOT  3
#define LEFT  4
#define RIGHT 5
#define RING  6
#define LARGE 8

/* A sound heap: holes in their bins, some unsorted, and a top. */
static void plant(enum policy policy)
{
	a = script_heap(policy);
	settings.mxfast = 0;
	for (size_t i = 0; i < HOLES; i++) {
		char *block = cede_malloc(sizes[i] - SIZE_SZ);

		EXPECT(block != NULL && cede_malloc(24) != NULL);
		holes[i] = block_to_chunk(memset(block, 1, sizes[i] - SIZE_SZ));
		EXPECT(chunk_size(holes[i]) == sizes[i]);
	}
	for (size_t i = 0; i < HOLES; i++)
		cede_free(chunk_to_block(holes[i]));
	/* The last one splits: the others are sorted. */
	EXPECT(cede_malloc(250000) != NULL);
	settings.mxfast = policy == POLICY_CLASSIC ? DEFAULT_MXFAST : 0;
	audit_arena(a);
	dprintf(2, "sound\n");
}

/* ---- chunk.h ---- */

static void chunk_i1_size_not_a_multiple(void)
{
	holes[2]->size += 8;
}

static void chunk_i1_size_too_small(void)
{
	holes[0]->size = 16 | PREV_INUSE;
}

static void chunk_i2_free_neighbours(void)
{
	struct chunk *pin = chunk_next(holes[0]);

	chunk_next(pin)->size &= ~PREV_INUSE;
}

static void chunk_i3_false_foot(void)
{
	chunk_next(holes[LARGE])->prev_size -= 16;
}

static void chunk_of_another_arena(void)
{
	chunk_next(holes[0])->size |= NON_MAIN_ARENA;
}

static void free_chunk_that_looks_in_use(void)
{
	chunk_next(holes[0])->size |= PREV_INUSE;
}

static void free_chunk_with_odd_bits(void)
{
	holes[0]->size |= IS_MMAPPED;
}

static void size_that_leads_nowhere(void)
{
	chunk_next(holes[LARGE])->size = ((size_t)1 << 40) | (chunk_next(holes[LARGE])->size & 7);
}

/* ---- arena.h ---- */

static void arena_i1_free_chunk_in_no_bin(void)
{
	bin_unlink(a, holes[0]);
}

static void arena_i1_free_chunk_in_no_bin_large(void)
{
	bin_unlink(a, holes[LARGE]);
	if (policy_is_default())
		(void)extent_take(a, holes[LARGE], sizes[LARGE]);
}

static void arena_i1_top_after_a_free_chunk(void)
{
	a->top->size &= ~PREV_INUSE;
}

static void arena_i2_fast_bins_of_default(void)
{
	struct chunk *pin = chunk_next(holes[0]);

	pin->fd = NULL;
	a->fastbins[fast_bin(chunk_size(pin))] = pin;
	a->have_fastchunks = true;
}

static void arena_i4_false_sum(void)
{
	a->binned_bytes += 16;
}

static void arena_i4_false_sum_of_pages(void)
{
	a->gone_bytes += os_page_size;
}

static void arena_i3_false_sum(void)
{
	a->dirty_bytes += os_page_size;
}

static void fast_chunk_unannounced(void)
{
	cede_free(chunk_to_block(chunk_next(holes[0])));
	a->have_fastchunks = false;
}

static void fast_chunk_of_another_size(void)
{
	cede_free(chunk_to_block(chunk_next(holes[0])));
	a->fastbins[5] = a->fastbins[0];
	a->fastbins[0] = NULL;
}

/* ---- bins.h ---- */

static void bins_i1_list(void)
{
	bin_head(a, small_bin(64))->fd->bk = holes[2];
}

static void bins_i2_small_bin_of_another_size(void)
{
	bin_unlink(a, holes[2]);
	bin_list_insert(bin_head(a, small_bin(64)), holes[2]);
}

static void bins_i2_large_bin_of_another_range(void)
{
	struct chunk *c = holes[LARGE];

	bin_unlink(a, c);
	if (policy_is_default()) {
		tree_insert(&a->trees[large_bin(sizes[ROOT]) - SMALL_BINS], 0, c, sizes[LARGE]);
		return;
	}
	c->fd_nextsize = c->bk_nextsize = c;
	bin_list_insert(bin_head(a, 126), c);
	binmap_set(a, 126);
}

static void a_bit_of_the_map_is_missing(void)
{
	binmap_clear(a, small_bin(208));
}

static void a_bit_of_the_map_is_missing_large(void)
{
	binmap_clear(a, large_bin(sizes[LARGE]));
}

static void sorted_list_out_of_order(void)
{
	struct chunk *head = bin_head(a, large_bin(sizes[ROOT]));
	struct chunk *smallest = head->bk;

	bin_unlink_listed(smallest);
	bin_list_insert(head, smallest);
}

static void ring_with_a_second_of_its_size(void)
{
	/* Inserted second of its size: it lies behind the first. */
	struct chunk *second = holes[LEFT]->fd_nextsize == NULL ? holes[LEFT] : holes[RING];

	second->fd_nextsize = second->bk_nextsize = second;
}

static void ring_that_does_not_lead_back(void)
{
	holes[ROOT]->fd_nextsize->bk_nextsize = holes[LARGE];
}

/* ---- tree.h ---- */

static void tree_i1_children_on_the_wrong_sides(void)
{
	struct chunk *left = holes[ROOT]->fd_nextsize;

	EXPECT(tree_parent(holes[ROOT]) == TREE_ROOT);
	EXPECT(left == holes[LEFT] && holes[ROOT]->bk_nextsize == holes[RIGHT]);
	holes[ROOT]->fd_nextsize = holes[RIGHT];
	holes[ROOT]->bk_nextsize = left;
}

static void tree_i2_false_parent(void)
{
	((struct tree_chunk *)holes[LEFT])->parent = holes[LARGE];
}

static void tree_i2_ring_with_a_parent(void)
{
	EXPECT(holes[LEFT]->fd == holes[RING]);
	((struct tree_chunk *)holes[RING])->parent = holes[ROOT];
}

static void tree_ring_that_does_not_lead_back(void)
{
	holes[RING]->bk = holes[ROOT];
}

/* ---- extent.h ---- */

static struct dirty_chunk *dirty(void)
{
	struct dirty_chunk *d = (struct dirty_chunk *)holes[LARGE];

	EXPECT(d->hi - d->lo >= 3 * os_page_size);
	return d;
}

static void extent_i1_not_whole_pages(void)
{
	struct dirty_chunk *d = dirty();

	d->lo += 16;
	a->dirty_bytes -= 16;
}

static void extent_i1_beyond_the_chunk(void)
{
	struct dirty_chunk *d = dirty();

	d->hi += 2 * os_page_size;
	a->dirty_bytes += 2 * os_page_size;
}

static void extent_i1_over_the_links(void)
{
	struct dirty_chunk *d = dirty();

	d->lo -= os_page_size;
	a->dirty_bytes += os_page_size;
}

static void extent_i2_listed_though_clean(void)
{
	struct dirty_chunk *d = dirty();

	a->dirty_bytes -= d->hi - d->lo;
	d->lo = d->hi = 0;
}

static void extent_i2_dirty_though_not_listed(void)
{
	struct dirty_chunk *d = dirty();
	uintptr_t lo = d->lo, hi = d->hi;

	(void)extent_take(a, holes[LARGE], sizes[LARGE]);
	d->lo = lo;
	d->hi = hi;
}

static void dirty_list_that_does_not_lead_back(void)
{
	EXPECT(a->dirty_newest->older != NULL);
	a->dirty_newest->older->newer = NULL;
}

/* ---- claim.h ---- */

static void claim_i1_the_top_moved(void)
{
	static struct claim claim;

	/* Nothing but the top is dirty then. */
	while (a->dirty_oldest != NULL) {
		struct chunk *c = &a->dirty_oldest->tree.chunk;

		(void)extent_take(a, c, chunk_size(c));
	}
	cede_free(memset(cede_malloc(600000), 1, 600000));
	EXPECT(claim_take(&claim, a, SIZE_MAX) != 0 && a->top_claimed != 0);
	a->top->size -= os_page_size;
	claim_return(&claim, true);
}

/* ---- the table ---- */

#define D (1 << POLICY_DEFAULT)
#define C (1 << POLICY_CLASSIC)

static const struct breach {
	void (*make)(void);
	const char *name;
	int policies;
} breaches[] = {
#define BREACH(function, policies) { function, #function, policies }
	BREACH(chunk_i1_size_not_a_multiple, C | D),
	BREACH(chunk_i1_size_too_small, C | D),
	BREACH(chunk_i2_free_neighbours, C | D),
	BREACH(chunk_i3_false_foot, C | D),
	BREACH(chunk_of_another_arena, C | D),
	BREACH(free_chunk_that_looks_in_use, C | D),
	BREACH(free_chunk_with_odd_bits, C | D),
	BREACH(size_that_leads_nowhere, C | D),
	BREACH(arena_i1_free_chunk_in_no_bin, C | D),
	BREACH(arena_i1_free_chunk_in_no_bin_large, C | D),
	BREACH(arena_i1_top_after_a_free_chunk, C | D),
	BREACH(arena_i2_fast_bins_of_default, D),
	BREACH(arena_i3_false_sum, D),
	BREACH(arena_i4_false_sum, C | D),
	BREACH(arena_i4_false_sum_of_pages, D),
	BREACH(fast_chunk_unannounced, C),
	BREACH(fast_chunk_of_another_size, C),
	BREACH(bins_i1_list, C | D),
	BREACH(bins_i2_small_bin_of_another_size, C | D),
	BREACH(bins_i2_large_bin_of_another_range, C | D),
	BREACH(a_bit_of_the_map_is_missing, C | D),
	BREACH(a_bit_of_the_map_is_missing_large, C | D),
	BREACH(sorted_list_out_of_order, C),
	BREACH(ring_with_a_second_of_its_size, C),
	BREACH(ring_that_does_not_lead_back, C),
	BREACH(tree_i1_children_on_the_wrong_sides, D),
	BREACH(tree_i2_false_parent, D),
	BREACH(tree_i2_ring_with_a_parent, D),
	BREACH(tree_ring_that_does_not_lead_back, D),
	BREACH(extent_i1_not_whole_pages, D),
	BREACH(extent_i1_beyond_the_chunk, D),
	BREACH(extent_i1_over_the_links, D),
	BREACH(extent_i2_listed_though_clean, D),
	BREACH(extent_i2_dirty_though_not_listed, D),
	BREACH(dirty_list_that_does_not_lead_back, D),
	BREACH(claim_i1_the_top_moved, D),
};

static const struct breach *breach;
static enum policy policy;

static void commit(void)
{
	plant(policy);
	breach->make();
	audit_arena(a);
}

static void test_each_breach_is_seen(void **state)
{
	int unseen = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(breaches) / sizeof(breaches[0]); i++) {
		breach = &breaches[i];
		for (policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
			if (!(breach->policies & 1 << policy) ||
			    child_dies(commit, "sound\ncede: internal error"))
				continue;
			print_error("%s, policy %d: not seen\n", breach->name, (int)policy);
			unseen++;
		}
	}
	assert_int_equal(unseen, 0);
}

/* ---- sound heaps pass ---- */

static void sound_heaps_pass(void)
{
	a = script_heap(POLICY_DEFAULT);
	audit_arena(a);
	a = subheap_new_arena(1);
	audit_arena(a);
	plant(POLICY_DEFAULT);
	plant(POLICY_CLASSIC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(sound_heaps_pass),
		cmocka_unit_test(test_each_breach_is_seen),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
