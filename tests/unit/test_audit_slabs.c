/*
 * heap/audit_slabs: each invariant of segments and slabs is broken by hand, to see
 * that the validator can fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "heap/arena.h"
#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/thread.h"
#include "support/child.h"
#include "support/scripted_os.h"

static struct arena *a;

/* Three slabs of a class: full, nearly full, nearly empty; and one of four units. */
static struct slab *full, *some, *most, *large;
static struct segment *first, *second;

#define SIZE  1024
#define COUNT 64 /* blocks of such a slab */
/* Blocks that lie on two units, and so many that they need a second segment. */
#define LARGE       7168
#define LARGE_COUNT 256

static void give(void *block)
{
	(void)slab_give(a, &block, 1, 0);
}

static void plant(void)
{
	void *blocks[4 * COUNT], *more[LARGE_COUNT];
	unsigned class = class_of_request(SIZE);

	a = script_heap(POLICY_DEFAULT);
	EXPECT(slab_take(a, class, blocks, 4 * COUNT) == 4 * COUNT);
	full = slab_at(blocks[0]);
	some = slab_at(blocks[COUNT]);
	most = slab_at(blocks[2 * COUNT]);
	give(blocks[COUNT + 5]);
	for (unsigned i = 1; i < COUNT; i++)
		give(blocks[2 * COUNT + i]);
	/* A unit that ended, and a second segment. */
	for (unsigned i = 0; i < COUNT; i++)
		give(blocks[3 * COUNT + i]);
	EXPECT(slab_take(a, class_of_request(LARGE), more, LARGE_COUNT) == LARGE_COUNT);
	large = slab_at(more[0]);
	first = segment_of_unit((size_t)(full - window.slabs));
	second = segment_of_unit(window_unit(more[LARGE_COUNT - 1]));
	EXPECT(second != first && large->units == 2 && !second->queued);
	EXPECT(full->ring == SLAB_RINGS && some->ring == 0 && most->ring == 2);
	audit_arena(a);
	dprintf(2, "sound\n");
}

static unsigned unit_of(const struct slab *s)
{
	return (unsigned)(s - window.slabs) % SEGMENT_UNITS;
}

/* ---- segment.h ---- */

static void segment_i1_in_another_list(void)
{
	a->segments.by_free[30] = second;
	a->segments.nonempty |= (uint64_t)1 << 30;
	a->segments.by_free[__builtin_popcount(second->free)] = NULL;
	a->segments.nonempty &= ~((uint64_t)1 << __builtin_popcount(second->free));
}

static void segment_i1_in_no_list(void)
{
	a->segments.by_free[__builtin_popcount(second->free)] = NULL;
	a->segments.nonempty &= ~((uint64_t)1 << __builtin_popcount(second->free));
}

static void segment_i1_a_bit_is_missing(void)
{
	a->segments.nonempty &= ~((uint64_t)1 << __builtin_popcount(second->free));
}

static void segment_i1_a_bit_too_many(void)
{
	a->segments.nonempty |= (uint64_t)1 << 29;
}

static void segment_i1_links_that_do_not_lead_back(void)
{
	second->prev = first;
}

static void segment_i1_of_another_arena(void)
{
	static struct arena other;

	second->arena = &other;
}

static void segment_i1_false_count(void)
{
	a->segments.count++;
}

static void segment_i2_idle_but_not_touched(void)
{
	unsigned unit = unit_of(most);

	first->idle[unit] = 0x8000;
	first->touched[unit] = (uint16_t)(first->touched[unit] & 0x7fff);
	a->segments.touched--;
}

static void segment_i3_idle_but_not_pending(void)
{
	unsigned unit = unit_of(most);

	first->idle[unit] = 0x8000;
	first->pending &= ~(1u << unit);
	EXPECT(first->pending != 0);
}

static void segment_i3_pending_but_not_queued(void)
{
	second->pending = 1;
}

static void segment_i3_queued_for_nothing(void)
{
	first->pending = 0;
}

static void segment_i3_not_in_the_queue(void)
{
	a->segments.queue = a->segments.queue_last = NULL;
}

static void segment_i3_twice_in_the_queue(void)
{
	first->later = first;
}

static void segment_i3_false_end_of_the_queue(void)
{
	a->segments.queue_last = second;
}

static void segment_i3_queue_out_of_order(void)
{
	a->ticks += 5;
	segment_queue(a, (size_t)(second - window.segments) * SEGMENT_UNITS, 1);
	first->queued_at = a->ticks + 1;
}

static void segment_i4_false_sum(void)
{
	a->segments.touched++;
}

static void segment_i5_gone_but_touched(void)
{
	first->gone[unit_of(most)] = 1;
}

static void segment_i4_false_sum_of_pending(void)
{
	a->segments.pending--;
}

static void looked_at(unsigned unit)
{
	EXPECT(first->pending >> unit & 1 && first->touched[unit] != 0);
	first->pending &= ~(1u << unit);
	a->segments.pending -= (unsigned)__builtin_popcount(first->touched[unit]);
	EXPECT(first->pending != 0);
}

static void segment_i6_free_page_of_a_slab(void)
{
	looked_at(unit_of(most));
}

static void segment_i6_free_unit(void)
{
	unsigned unit = unit_of(full) + 3;

	EXPECT(first->free >> unit & 1);
	looked_at(unit);
}

static void unit_that_is_free_and_a_slabs(void)
{
	segment_show_unit(a, (size_t)(large - window.slabs) + 1);
}

/* ---- slab.h ---- */

static void slab_i1_false_count(void)
{
	some->free++;
}

static void slab_i1_a_bit_too_few(void)
{
	most->bits[0] &= ~((uint64_t)1 << 9);
}

static void slab_i1_bits_past_the_last(void)
{
	EXPECT(large->blocks < 64 && a->slabs.rings[large->class][0] == NULL);
	large->bits[0] = (uint64_t)1 << large->blocks;
	large->free = 1;
	large->ring = 0;
	large->next = large->prev = NULL;
	a->slabs.rings[large->class][0] = large;
	a->slabs.live_bytes -= LARGE;
}

static void slab_i1_free_block_before_the_first(void)
{
	void *blocks[128];
	struct slab *s;

	EXPECT(slab_take(a, class_of_request(512), blocks, 128) == 128);
	s = slab_at(blocks[0]);
	give(blocks[100]);
	give(blocks[3]);
	s->first = 1;
}

static void slab_i1_bits_of_another(void)
{
	full->bits = some->few;
}

static void slab_i2_in_no_ring(void)
{
	a->slabs.rings[some->class][some->ring] = NULL;
}

static void slab_i2_in_another_ring(void)
{
	a->slabs.rings[some->class][1] = some;
	a->slabs.rings[some->class][0] = NULL;
}

static void slab_i2_of_another_fullness(void)
{
	slab_i2_in_another_ring();
	some->ring = 1;
}

static void slab_i2_full_and_in_a_ring(void)
{
	full->ring = 1;
	a->slabs.rings[full->class][1] = full;
}

static void slab_i2_in_the_ring_of_another_class(void)
{
	a->slabs.rings[some->class + 1][0] = some;
	a->slabs.rings[some->class][0] = NULL;
}

static void slab_i2_links_that_do_not_lead_back(void)
{
	some->prev = most;
}

static void slab_i2_ring_without_end(void)
{
	some->next = some->prev = some;
}

static void slab_i3_live_blocks_on_untouched_pages(void)
{
	unsigned unit = unit_of(full);

	first->touched[unit] &= (uint16_t)~0x10;
	a->segments.touched--;
}

static void slab_i3_a_live_block_across_units(void)
{
	unsigned unit = unit_of(large) + 1;

	EXPECT(large->free == 0 && slab_index(large, UNIT - 1) == slab_index(large, UNIT));
	first->touched[unit] &= (uint16_t)~1;
	a->segments.touched--;
}

static void slab_without_live_blocks(void)
{
	most->bits[0] |= 1;
	most->free++;
	a->slabs.live_bytes -= SIZE;
}

static void slab_with_more_claimed_than_there_are(void)
{
	some->claimed = COUNT;
}

static void slab_of_another_arena(void)
{
	static struct arena other;

	full->arena = &other;
}

static void slab_of_another_size(void)
{
	full->size += 16;
}

static void slab_of_fewer_units(void)
{
	large->units = 1;
}

static void slab_of_fewer_blocks(void)
{
	full->blocks--;
}

static void slab_unit_of_another_bin(void)
{
	window.bins[large - window.slabs + 1] = thread_bin_offset(0);
}

static void slab_unit_without_a_bin(void)
{
	window.bins[large - window.slabs + 1] = 0;
}

static void slab_unit_that_leads_elsewhere(void)
{
	large[1].back = 0;
}

static void free_unit_with_a_bin(void)
{
	window.bins[full - window.slabs + 3] = thread_bin_offset(full->class);
}

static void false_sum_of_units(void)
{
	a->slabs.units--;
}

static void false_sum_of_live_bytes(void)
{
	a->slabs.live_bytes += SIZE;
}

/* ---- the table ---- */

static const struct breach {
	void (*make)(void);
	const char *name;
} breaches[] = {
#define BREACH(function) { function, #function }
	BREACH(segment_i1_in_another_list),
	BREACH(segment_i1_in_no_list),
	BREACH(segment_i1_a_bit_is_missing),
	BREACH(segment_i1_a_bit_too_many),
	BREACH(segment_i1_links_that_do_not_lead_back),
	BREACH(segment_i1_of_another_arena),
	BREACH(segment_i1_false_count),
	BREACH(segment_i2_idle_but_not_touched),
	BREACH(segment_i3_idle_but_not_pending),
	BREACH(segment_i3_pending_but_not_queued),
	BREACH(segment_i3_queued_for_nothing),
	BREACH(segment_i3_not_in_the_queue),
	BREACH(segment_i3_twice_in_the_queue),
	BREACH(segment_i3_false_end_of_the_queue),
	BREACH(segment_i3_queue_out_of_order),
	BREACH(segment_i4_false_sum),
	BREACH(segment_i5_gone_but_touched),
	BREACH(segment_i4_false_sum_of_pending),
	BREACH(segment_i6_free_page_of_a_slab),
	BREACH(segment_i6_free_unit),
	BREACH(unit_that_is_free_and_a_slabs),
	BREACH(slab_i1_false_count),
	BREACH(slab_i1_a_bit_too_few),
	BREACH(slab_i1_bits_past_the_last),
	BREACH(slab_i1_free_block_before_the_first),
	BREACH(slab_i1_bits_of_another),
	BREACH(slab_i2_in_no_ring),
	BREACH(slab_i2_in_another_ring),
	BREACH(slab_i2_of_another_fullness),
	BREACH(slab_i2_full_and_in_a_ring),
	BREACH(slab_i2_in_the_ring_of_another_class),
	BREACH(slab_i2_links_that_do_not_lead_back),
	BREACH(slab_i2_ring_without_end),
	BREACH(slab_i3_live_blocks_on_untouched_pages),
	BREACH(slab_i3_a_live_block_across_units),
	BREACH(slab_without_live_blocks),
	BREACH(slab_with_more_claimed_than_there_are),
	BREACH(slab_of_another_arena),
	BREACH(slab_of_another_size),
	BREACH(slab_of_fewer_units),
	BREACH(slab_of_fewer_blocks),
	BREACH(slab_unit_of_another_bin),
	BREACH(slab_unit_without_a_bin),
	BREACH(slab_unit_that_leads_elsewhere),
	BREACH(free_unit_with_a_bin),
	BREACH(false_sum_of_units),
	BREACH(false_sum_of_live_bytes),
};

static const struct breach *breach;

static void commit(void)
{
	plant();
	breach->make();
	audit_arena(a);
}

static void test_each_breach_is_seen(void **state)
{
	int unseen = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(breaches) / sizeof(breaches[0]); i++) {
		breach = &breaches[i];
		if (child_dies(commit, "sound\ncede: internal error"))
			continue;
		print_error("%s: not seen\n", breach->name);
		unseen++;
	}
	assert_int_equal(unseen, 0);
}

/* What the purger holds is sound, too. */
static void claimed_parts_are_sound(void)
{
	plant();
	slab_hide(a, most, 8, 60);
	audit_arena(a);
	segment_hide_unit(a, (size_t)(full - window.slabs) + 3);
	audit_arena(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(claimed_parts_are_sound),
		cmocka_unit_test(test_each_breach_is_seen),
	};

	classes_init();
	return cmocka_run_group_tests_name("audit_slabs", tests, NULL, NULL);
}
