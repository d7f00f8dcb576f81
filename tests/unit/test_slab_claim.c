/*
 * heap/slab_claim: which pages of slabs go, and when; nothing that lives is on them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/slab_claim.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB   ((size_t)1 << 10)
#define PAGE  ((size_t)4096)
#define MOST  4096 /* blocks of a slab */

static struct arena *a;
static struct claim claim;
static char *blocks[16 * MOST];

static void start(void)
{
	a = script_heap(POLICY_DEFAULT);
}

static void audit(void)
{
	lock_acquire(&a->lock);
	audit_arena(a);
	lock_release(&a->lock);
}

/* With the arena's lock, as all that calls slab.h. */
static void take(unsigned class, char **to, unsigned count)
{
	lock_acquire(&a->lock);
	EXPECT(slab_take(a, class, (void **)to, count) == count);
	lock_release(&a->lock);
	for (unsigned i = 0; i < count; i++)
		pattern_fill(to[i], class_sizes[class], (uintptr_t)to[i]);
}

static void check(const char *block, size_t size)
{
	EXPECT(pattern_match(block, size, (uintptr_t)block) == size);
}

static void give(char *block)
{
	check(block, slab_at(block)->size);
	lock_acquire(&a->lock);
	free_block(a, block);
	lock_release(&a->lock);
}

static unsigned blocks_of(unsigned class)
{
	return (unsigned)(slab_class_units(class_sizes[class]) * UNIT / class_sizes[class]);
}

/* ---- the purger's part ---- */

static bool claim_some(uint32_t tick, bool at_once)
{
	bool looked = slab_claim_take(&claim, a, tick, at_once, SIZE_MAX);

	EXPECT(claim.count <= OS_DISCARD_RANGES);
	audit();
	return looked;
}

static size_t discard(void)
{
	uint64_t calls = 0;
	size_t gone = claim.count == 0 ? 0 : os_discard(claim.ranges, claim.count, &calls);

	claim_return(&claim, true);
	audit();
	return gone;
}

/* One pass over what was queued at `tick` or before. */
static size_t pass(uint32_t tick, bool at_once)
{
	size_t gone = 0;

	while (claim_some(tick, at_once))
		gone += discard();
	return gone;
}

static size_t tick(void)
{
	a->ticks++;
	return pass(a->ticks - SLAB_TICKS, false);
}

static size_t ticks(unsigned count)
{
	size_t gone = 0;

	while (count-- > 0)
		gone += tick();
	return gone;
}

/* What malloc_trim does. */
static size_t release(void)
{
	a->ticks++;
	return pass(a->ticks - 1, true);
}

static size_t resident(const void *block)
{
	const struct slab *s = slab_at(block);

	return os_resident(slab_start(s), s->units * UNIT);
}

/* Each page of a block's slab is resident when a block in use is on it, or not at all. */
static void exactly_live_pages_stay(const struct slab *s)
{
	for (size_t page = 0; page < s->units * UNIT; page += PAGE) {
		uint32_t first = slab_index(s, page), last = slab_index(s, page + PAGE - 1);
		bool live = false;

		for (uint32_t i = first; i <= last && i < s->blocks; i++)
			live |= !(s->bits[i / 64] >> i % 64 & 1);
		EXPECT((os_resident(slab_start(s) + page, PAGE) != 0) == live);
	}
}

/* ---- when ---- */

/* Two looks, SLAB_TICKS apart, the first of them so long after the free. */
static void a_page_goes_at_the_second_look(void)
{
	unsigned class = class_of_request(1024);

	start();
	take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		give(blocks[i]);
	for (unsigned i = 0; i < 2 * SLAB_TICKS - 1; i++)
		EXPECT(tick() == 0);
	EXPECT(tick() == PAGE);
	exactly_live_pages_stay(slab_at(blocks[0]));
	check(blocks[3], 1024);
	EXPECT(ticks(20) == 0);
}

static void a_page_that_was_used_meanwhile_stays(void)
{
	unsigned class = class_of_request(1024);
	char *again;

	start();
	take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		give(blocks[i]);
	for (int round = 0; round < 10; round++) {
		EXPECT(ticks(SLAB_TICKS - 1) == 0);
		take(class, &again, 1);
		EXPECT(again == blocks[4]);
		give(again);
	}
	EXPECT(ticks(2 * SLAB_TICKS) == PAGE);
}

static void a_page_that_is_used_stays(void)
{
	unsigned class = class_of_request(1024);
	char *again;

	start();
	take(class, blocks, 8);
	for (size_t i = 4; i < 8; i++)
		give(blocks[i]);
	EXPECT(ticks(SLAB_TICKS) == 0);
	take(class, &again, 1);
	EXPECT(ticks(20) == 0 && a->segments.queue == NULL);
	check(again, 1024);
}

static void an_empty_slab_goes_after_one_wait(void)
{
	unsigned class = class_of_request(1024);

	start();
	take(class, blocks, 65);
	for (size_t i = 0; i < 64; i++)
		give(blocks[i]);
	for (unsigned i = 0; i < SLAB_TICKS - 1; i++)
		EXPECT(tick() == 0);
	EXPECT(tick() == UNIT);
	EXPECT(os_resident(blocks[0], UNIT) == 0);
	check(blocks[64], 1024);
}

/* Used and free again: it waits anew. */
static void a_slab_that_comes_and_goes_stays(void)
{
	unsigned class = class_of_request(1024);

	start();
	for (int round = 0; round < 10; round++) {
		take(class, blocks, 64);
		for (size_t i = 0; i < 64; i++)
			give(blocks[i]);
		EXPECT(ticks(SLAB_TICKS - 1) == 0);
	}
	EXPECT(ticks(2) == UNIT);
}

/*
 * Slabs of several units on units that ended, all of them still to be looked at: each
 * unit has one look a pass all the same.
 */
static void a_new_slab_on_old_units_has_two_looks(void)
{
	unsigned class = class_of_request(8192), count = blocks_of(class);

	start();
	take(class, blocks, count);
	for (size_t i = 0; i < count; i++)
		give(blocks[i]);
	EXPECT(ticks(SLAB_TICKS - 1) == 0);
	take(class, blocks, 1);
	for (unsigned i = 0; i < SLAB_TICKS; i++)
		EXPECT(tick() == 0);
	EXPECT(tick() == slab_class_units(8192) * UNIT - 8192);
	exactly_live_pages_stay(slab_at(blocks[0]));
}

/* ---- which ---- */

/* Any share of the blocks of any class is freed, and all pages go that may go. */
static void only_live(bool at_once)
{
	struct rng rng = { 17 };

	start();
	for (unsigned class = 0; class < SLAB_CLASSES; class++) {
		unsigned count = blocks_of(class), step = 1 + class % 7;
		size_t size = class_sizes[class], kept = 0;

		take(class, blocks, count);
		for (unsigned i = 0; i < count; i += step) {
			bool keep = rng_below(&rng, 1 + count / 4) == 0;

			for (unsigned k = i; k < i + step && k < count; k++) {
				if (keep || k == count / 2)
					blocks[kept++] = blocks[k];
				else
					give(blocks[k]);
			}
		}
		(void)(at_once ? release() : ticks(3 * SLAB_TICKS));
		exactly_live_pages_stay(slab_at(blocks[0]));
		for (size_t i = 0; i < kept; i++) {
			check(blocks[i], size);
			give(blocks[i]);
		}
		(void)(at_once ? release() : ticks(3 * SLAB_TICKS));
		EXPECT(a->segments.count == 0 && a->segments.touched == 0);
	}
}

static void all_free_pages_of_each_class_go_in_time(void)
{
	only_live(false);
}

static void all_free_pages_of_each_class_go_at_once(void)
{
	only_live(true);
}

static void free_units_side_by_side_are_one_range(void)
{
	unsigned class = class_of_request(1024);

	start();
	take(class, blocks, 30 * 64);
	for (size_t i = 64; i < 30 * 64; i++)
		give(blocks[i]);
	a->ticks++;
	EXPECT(claim_some(a->ticks - 1, true));
	EXPECT(claim.count == 1 && claim.ranges[0].start == blocks[64]);
	EXPECT(claim.ranges[0].size == 29 * UNIT);
	EXPECT(discard() == 29 * UNIT);
}

/* As many ranges as a segment can have, in several: they do not fit one claim. */
static void a_claim_is_bounded(void)
{
	unsigned class = class_of_request(1024), segments = 5, claims = 0;
	size_t count = segments * SEGMENT_UNITS * 64, gone = 0;

	start();
	take(class, blocks, (unsigned)count);
	for (size_t i = 0; i < count; i++)
		if (i % 8 < 4)
			give(blocks[i]);
	/* One pass, and nothing has a second look in it. */
	EXPECT(ticks(2 * SLAB_TICKS - 1) == 0);
	a->ticks++;
	for (; claim_some(a->ticks - SLAB_TICKS, false); claims++)
		gone += discard();
	EXPECT(gone == count / 8 * PAGE && claims >= segments * 256 / OS_DISCARD_RANGES);
	for (size_t i = 4; i < count; i += 8)
		check(blocks[i], 1024);
}

static void no_more_goes_than_is_asked(void)
{
	unsigned class = class_of_request(1024);
	size_t count = 8 * SEGMENT_UNITS * 64;

	start();
	take(class, blocks, (unsigned)count);
	for (size_t i = 0; i < count; i++)
		give(blocks[i]);
	a->ticks++;
	EXPECT(slab_claim_take(&claim, a, a->ticks - 1, true, SEGMENT + 1));
	EXPECT(discard() == 2 * SEGMENT);
	EXPECT(pass(a->ticks - 1, true) == 6 * SEGMENT && a->segments.count == 0);
}

/* ---- while they are away ---- */

static void claim_half_a_slab(void)
{
	unsigned class = class_of_request(1024);

	start();
	take(class, blocks, 64);
	for (size_t i = 0; i < 32; i++)
		give(blocks[i]);
	a->ticks++;
	EXPECT(claim_some(a->ticks - 1, true));
	EXPECT(claim.count == 1 && slab_at(blocks[0])->claimed == 32);
}

static void claimed_blocks_are_not_handed_out(void)
{
	unsigned class = class_of_request(1024);
	char *others[64];

	claim_half_a_slab();
	take(class, others, 64);
	for (size_t i = 0; i < 64; i++)
		EXPECT(slab_at(others[i]) != slab_at(blocks[0]));
	EXPECT(discard() == 32 * KIB);
	for (size_t i = 0; i < 64; i++)
		check(others[i], 1024);
	take(class, others, 32);
	EXPECT(others[0] == blocks[0]);
	audit();
}

static void its_other_blocks_come_and_go(void)
{
	unsigned class = class_of_request(1024);
	char *again;

	claim_half_a_slab();
	give(blocks[40]);
	take(class, &again, 1);
	EXPECT(again == blocks[40]);
	for (size_t i = 32; i < 64; i++)
		give(blocks[i]);
	audit();
	/* It ends with what comes back. */
	EXPECT(a->slabs.units == 1 && a->slabs.live_bytes == 0);
	(void)discard();
	EXPECT(a->slabs.units == 0);
	EXPECT(release() == 32 * KIB && a->segments.count == 0);
}

static void free_a_claimed_one(void)
{
	claim_half_a_slab();
	lock_acquire(&a->lock);
	free_block(a, blocks[5]);
	lock_release(&a->lock);
	/* It looked as if it was in use, until now. */
	(void)discard();
}

static void a_double_free_meanwhile_is_noticed(void)
{
	start();
	EXPECT(child_dies(free_a_claimed_one, "double free"));
}

static void claimed_units_are_not_handed_out(void)
{
	unsigned class = class_of_request(1024);
	char *others[32 * 64];

	start();
	take(class, blocks, 32 * 64);
	for (size_t i = 64; i < 32 * 64; i++)
		give(blocks[i]);
	a->ticks++;
	EXPECT(claim_some(a->ticks - 1, true) && claim.count == 1);
	take(class, others, 31 * 64);
	for (size_t i = 0; i < 31 * 64; i++)
		EXPECT(segment_of_unit(window_unit(others[i])) != &window.segments[0]);
	(void)discard();
	for (size_t i = 0; i < 31 * 64; i++)
		check(others[i], 1024);
	audit();
}

static bool lock_was_free;

static void see_the_lock(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	lock_was_free = lock_try(&a->lock);
	if (lock_was_free)
		lock_release(&a->lock);
}

static void the_lock_is_free_meanwhile(void)
{
	claim_half_a_slab();
	script_discarding = see_the_lock;
	EXPECT(discard() == 32 * KIB && lock_was_free);
}

/* ---- and back ---- */

static void what_did_not_go_is_asked_for_again(void)
{
	claim_half_a_slab();
	claim_return(&claim, false);
	audit();
	EXPECT(slab_at(blocks[0])->claimed == 0 && resident(blocks[0]) == UNIT);
	EXPECT(ticks(2 * SLAB_TICKS) == 32 * KIB);
	exactly_live_pages_stay(slab_at(blocks[0]));
	for (size_t i = 32; i < 64; i++)
		check(blocks[i], 1024);
}

static void units_that_did_not_go_are_asked_for_again(void)
{
	unsigned class = class_of_request(1024);

	start();
	take(class, blocks, 10 * 64);
	for (size_t i = 0; i < 10 * 64; i++)
		give(blocks[i]);
	a->ticks++;
	EXPECT(claim_some(a->ticks - 1, true) && claim.ranges[0].size == 10 * UNIT);
	claim_return(&claim, false);
	audit();
	EXPECT(a->segments.count == 1);
	EXPECT(ticks(2 * SLAB_TICKS) == 10 * UNIT && a->segments.count == 0);
}

/* Locked memory: it stays, and is not asked for again and again. */
static void a_refusal_ends(void)
{
	claim_half_a_slab();
	script_fail_from(OS_DISCARD, 1);
	EXPECT(discard() == 0);
	EXPECT(ticks(20) == 0 && script_calls(OS_DISCARD) == 1);
	EXPECT(a->segments.queue == NULL);
}

static void an_empty_segment_goes_back_to_the_window(void)
{
	unsigned class = class_of_request(8192);
	size_t count = 3 * SEGMENT / 8192;

	start();
	take(class, blocks, (unsigned)count);
	EXPECT(a->segments.count == 3);
	for (size_t i = 0; i < count; i++)
		if (i < 2 * count / 3)
			give(blocks[i]);
	EXPECT(ticks(SLAB_TICKS) == 2 * SEGMENT && a->segments.count == 1);
	for (size_t i = 2 * count / 3; i < count; i++)
		give(blocks[i]);
	EXPECT(ticks(SLAB_TICKS) == SEGMENT && a->segments.count == 0);
	EXPECT(a->slabs.freed == 0 && a->segments.touched == 0);
}

/* A huge page is resident as a whole from its first use on, though nobody used the rest. */
static void huge_pages_leave_nothing_behind(void)
{
	unsigned class = class_of_request(8192), count = 0;

	start();
	settings.huge = true;
	/* Of the first that may be one, a single block; the system may have none. */
	do
		take(class, blocks + count++, 1);
	while (!window.segments[a->segments.count - 1].huge && count < 2 * MOST);
	while (count > 0)
		give(blocks[--count]);
	(void)ticks(4 * SLAB_TICKS);
	EXPECT(a->segments.count == 0);
	EXPECT(os_resident(window_address(0), window.steps * 16) == 0);
}

/* ---- fork ---- */

static void a_child_puts_its_parents_claim_back(void)
{
	int status = -1;
	pid_t child;

	claim_half_a_slab();
	child = fork();
	EXPECT(child >= 0);
	if (child == 0) {
		claim_return(&claim, false);
		audit();
		EXPECT(ticks(2 * SLAB_TICKS) == 32 * KIB);
		exactly_live_pages_stay(slab_at(blocks[0]));
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(discard() == 32 * KIB);
	for (size_t i = 32; i < 64; i++)
		check(blocks[i], 1024);
}

/* ---- at random ---- */

static struct live {
	char *block;
	unsigned class;
} live[4000];
static size_t live_count;

static void live_at_random(struct rng *rng, bool grows)
{
	unsigned count = 1 + (unsigned)rng_below(rng, 64);

	if (live_count + 64 < sizeof(live) / sizeof(*live) && rng_below(rng, 10) < (grows ? 7 : 2)) {
		unsigned class = (unsigned)(rng_below(rng, 8) * 11);
		char *got[64];

		take(class, got, count);
		for (unsigned i = 0; i < count; i++)
			live[live_count++] = (struct live){ got[i], class };
		return;
	}
	for (; count > 0 && live_count > 0; count--) {
		struct live *l = &live[rng_below(rng, live_count)];

		give(l->block);
		*l = live[--live_count];
	}
}

/* Claims are out while the program goes on, and come back clean or not. */
static void nothing_live_is_lost_over_long_runs(void)
{
	struct rng rng = { 23 };

	start();
	for (unsigned round = 0; round < 20000; round++) {
		live_at_random(&rng, round / 500 % 2 == 0);
		if (round % 8 != 0)
			continue;
		a->ticks++;
		(void)slab_claim_take(&claim, a, a->ticks - SLAB_TICKS, rng_below(&rng, 4) == 0,
		                      rng_below(&rng, 2) == 0 ? 256 * KIB : SIZE_MAX);
		live_at_random(&rng, round / 500 % 2 == 0);
		if (round % 64 == 0)
			audit();
		if (rng_below(&rng, 4) == 0)
			claim_return(&claim, false);
		else
			(void)discard();
	}
	for (size_t i = 0; i < live_count; i++)
		check(live[i].block, class_sizes[live[i].class]);
	(void)ticks(4 * SLAB_TICKS);
	for (size_t i = 0; i < live_count; i++)
		exactly_live_pages_stay(slab_at(live[i].block));
	while (live_count > 0)
		give(live[--live_count].block);
	(void)ticks(2 * SLAB_TICKS);
	EXPECT(a->segments.count == 0 && a->segments.touched == 0 && a->slabs.units == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(a_page_goes_at_the_second_look),
		child_test(a_page_that_was_used_meanwhile_stays),
		child_test(a_page_that_is_used_stays),
		child_test(an_empty_slab_goes_after_one_wait),
		child_test(a_slab_that_comes_and_goes_stays),
		child_test(a_new_slab_on_old_units_has_two_looks),
		child_test(all_free_pages_of_each_class_go_in_time),
		child_test(all_free_pages_of_each_class_go_at_once),
		child_test(free_units_side_by_side_are_one_range),
		child_test(a_claim_is_bounded),
		child_test(no_more_goes_than_is_asked),
		child_test(claimed_blocks_are_not_handed_out),
		child_test(its_other_blocks_come_and_go),
		child_test(a_double_free_meanwhile_is_noticed),
		child_test(claimed_units_are_not_handed_out),
		child_test(the_lock_is_free_meanwhile),
		child_test(what_did_not_go_is_asked_for_again),
		child_test(units_that_did_not_go_are_asked_for_again),
		child_test(a_refusal_ends),
		child_test(an_empty_segment_goes_back_to_the_window),
		child_test(huge_pages_leave_nothing_behind),
		child_test(a_child_puts_its_parents_claim_back),
		child_test(nothing_live_is_lost_over_long_runs),
	};

	classes_init();
	return cmocka_run_group_tests_name("slab_claim", tests, NULL, NULL);
}
