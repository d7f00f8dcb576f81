/*
 * heap/slab_claim: what the program may do while pages are away, and what comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "heap/heap.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"
#include "support/slabs.h"

#define KIB   ((size_t)1 << 10)
#define PAGE  ((size_t)4096)
#define MOST  4096 /* blocks of a slab */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char *blocks[16 * MOST];

/* ---- while they are away ---- */

static void claim_half_a_slab(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 64);
	for (size_t i = 0; i < 32; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true));
	EXPECT(slabs_claimed.count == 1 && slab_at(blocks[0])->claimed == 32);
}

static void claimed_blocks_are_not_handed_out(void)
{
	unsigned class = class_of_request(1024);
	char *others[64];

	claim_half_a_slab();
	slabs_take(class, others, 64);
	for (size_t i = 0; i < 64; i++)
		EXPECT(slab_at(others[i]) != slab_at(blocks[0]));
	EXPECT(slabs_discard() == 32 * KIB);
	for (size_t i = 0; i < 64; i++)
		slabs_check(others[i], 1024);
	slabs_take(class, others, 32);
	EXPECT(others[0] == blocks[0]);
	slabs_audit();
}

static bool lock_was_free = true;

static void look_at_the_lock(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	lock_was_free &= __atomic_load_n(&slabs_arena->lock.word, __ATOMIC_RELAXED) == 0;
}

/* This thread's own time: what others take from it is not the lock's. */
static double microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Of blocks of 112 bytes one in a hundred lives: as many ranges as there can be.  Printed
 * for people, as in unit.claim. */
static void the_lock_is_held_for_bookkeeping_only(void)
{
	static char *many[40 * SEGMENT / 112];
	unsigned class = class_of_request(112), claims = 0, ranges = 0;
	double take = 0, put_back = 0, start, spent;
	uint64_t calls = 0;
	bool more = true;

	slabs_start();
	lock_acquire(&slabs_arena->lock);
	for (size_t i = 0; i < COUNT(many);)
		i += slab_take(slabs_arena, class, (void **)&many[i], (unsigned)size_min(COUNT(many) - i, 64));
	for (size_t i = 0; i < COUNT(many); i++)
		if (i * 7919 % 100 != 0)
			free_block(slabs_arena, many[i]);
	lock_release(&slabs_arena->lock);
	script_discarding = look_at_the_lock;
	slabs_arena->ticks++;
	while (more) {
		start = microseconds();
		more = slab_claim_take(&slabs_claimed, slabs_arena, slabs_arena->ticks - 1, true, SIZE_MAX);
		spent = microseconds() - start;
		take = spent > take ? spent : take;
		claims++;
		ranges += slabs_claimed.count;
		(void)os_discard(slabs_claimed.ranges, slabs_claimed.count, &calls);
		start = microseconds();
		claim_return(&slabs_claimed, true);
		spent = microseconds() - start;
		put_back = spent > put_back ? spent : put_back;
	}
	EXPECT(lock_was_free);
	print_message("%u claims of %u ranges, %u calls; longest hold: %.0f us to take, %.0f us to put back\n",
	              claims, ranges, (unsigned)calls, take, put_back);
}

static void its_other_blocks_come_and_go(void)
{
	unsigned class = class_of_request(1024);
	char *again;

	claim_half_a_slab();
	slabs_give(blocks[40]);
	slabs_take(class, &again, 1);
	EXPECT(again == blocks[40]);
	for (size_t i = 32; i < 64; i++)
		slabs_give(blocks[i]);
	slabs_audit();
	/* It ends with what comes back. */
	EXPECT(slabs_arena->slabs.units == 1 && slabs_arena->slabs.live_bytes == 0);
	(void)slabs_discard();
	EXPECT(slabs_arena->slabs.units == 0);
	EXPECT(slabs_release() == 32 * KIB && slabs_arena->segments.count == 0);
}

static void free_a_claimed_one(void)
{
	claim_half_a_slab();
	lock_acquire(&slabs_arena->lock);
	free_block(slabs_arena, blocks[5]);
	lock_release(&slabs_arena->lock);
	/* It looked as if it was in use, until now. */
	(void)slabs_discard();
}

static void a_double_free_meanwhile_is_noticed(void)
{
	slabs_start();
	EXPECT(child_dies(free_a_claimed_one, "double free"));
}

static void claimed_units_are_not_handed_out(void)
{
	unsigned class = class_of_request(1024);
	char *others[32 * 64];

	slabs_start();
	slabs_take(class, blocks, 32 * 64);
	for (size_t i = 64; i < 32 * 64; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true) && slabs_claimed.count == 1);
	slabs_take(class, others, 31 * 64);
	for (size_t i = 0; i < 31 * 64; i++)
		EXPECT(segment_of_unit(window_unit(others[i])) != &window.segments[0]);
	(void)slabs_discard();
	for (size_t i = 0; i < 31 * 64; i++)
		slabs_check(others[i], 1024);
	slabs_audit();
}

static bool lock_was_free;

static void see_the_lock(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	lock_was_free = lock_try(&slabs_arena->lock);
	if (lock_was_free)
		lock_release(&slabs_arena->lock);
}

static void the_lock_is_free_meanwhile(void)
{
	claim_half_a_slab();
	script_discarding = see_the_lock;
	EXPECT(slabs_discard() == 32 * KIB && lock_was_free);
}

/* ---- and back ---- */

static void what_did_not_go_is_asked_for_again(void)
{
	claim_half_a_slab();
	claim_return(&slabs_claimed, false);
	slabs_audit();
	EXPECT(slab_at(blocks[0])->claimed == 0 && slabs_resident(blocks[0]) == UNIT);
	EXPECT(slabs_ticks(2 * SLAB_TICKS) == 32 * KIB);
	slabs_keep_live_pages(slab_at(blocks[0]));
	for (size_t i = 32; i < 64; i++)
		slabs_check(blocks[i], 1024);
}

static void units_that_did_not_go_are_asked_for_again(void)
{
	unsigned class = class_of_request(1024);

	slabs_start();
	slabs_take(class, blocks, 10 * 64);
	for (size_t i = 0; i < 10 * 64; i++)
		slabs_give(blocks[i]);
	slabs_arena->ticks++;
	EXPECT(slabs_claim(slabs_arena->ticks - 1, true) && slabs_claimed.ranges[0].size == 10 * UNIT);
	claim_return(&slabs_claimed, false);
	slabs_audit();
	EXPECT(slabs_arena->segments.count == 1);
	EXPECT(slabs_ticks(2 * SLAB_TICKS) == 10 * UNIT && slabs_arena->segments.count == 0);
}

/* Locked memory: it stays, and is not asked for again and again. */
static void a_refusal_ends(void)
{
	claim_half_a_slab();
	script_fail_from(OS_DISCARD, 1);
	EXPECT(slabs_discard() == 0);
	EXPECT(slabs_ticks(20) == 0 && script_calls(OS_DISCARD) == 1);
	EXPECT(slabs_arena->segments.queue == NULL);
}

static void an_empty_segment_goes_back_to_the_window(void)
{
	unsigned class = class_of_request(8192);
	size_t count = 3 * SEGMENT / 8192;

	slabs_start();
	slabs_take(class, blocks, (unsigned)count);
	EXPECT(slabs_arena->segments.count == 3);
	for (size_t i = 0; i < count; i++)
		if (i < 2 * count / 3)
			slabs_give(blocks[i]);
	EXPECT(slabs_ticks(SLAB_TICKS) == 2 * SEGMENT && slabs_arena->segments.count == 1);
	for (size_t i = 2 * count / 3; i < count; i++)
		slabs_give(blocks[i]);
	EXPECT(slabs_ticks(SLAB_TICKS) == SEGMENT && slabs_arena->segments.count == 0);
	EXPECT(slabs_arena->slabs.freed == 0 && slabs_arena->segments.touched == 0);
}

/* A huge page is resident as a whole from its first use on, though nobody used the rest. */
static void huge_pages_leave_nothing_behind(void)
{
	unsigned class = class_of_request(8192), count = 0;

	slabs_start();
	settings.huge = true;
	/* Of the first that may be one, a single block; the system may have none. */
	do
		slabs_take(class, blocks + count++, 1);
	while (!window.segments[slabs_arena->segments.count - 1].huge && count < 2 * MOST);
	while (count > 0)
		slabs_give(blocks[--count]);
	(void)slabs_ticks(4 * SLAB_TICKS);
	EXPECT(slabs_arena->segments.count == 0);
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
		claim_return(&slabs_claimed, false);
		slabs_audit();
		EXPECT(slabs_ticks(2 * SLAB_TICKS) == 32 * KIB);
		slabs_keep_live_pages(slab_at(blocks[0]));
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(slabs_discard() == 32 * KIB);
	for (size_t i = 32; i < 64; i++)
		slabs_check(blocks[i], 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(the_lock_is_held_for_bookkeeping_only),
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
	};

	classes_init();
	return cmocka_run_group_tests_name("slab_claimed", tests, NULL, NULL);
}
