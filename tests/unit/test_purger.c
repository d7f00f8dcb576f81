/*
 * heap/purger: when its thread is made, what it gives back, what stands in for it.
 * What a fork leaves of it is in test_purger_fork.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/extent.h"
#include "heap/giving.h"
#include "heap/purger.h"
#include "heap/slab_claim.h"
#include "support/purging.h"

static void no_thread_below_a_mebibyte(void)
{
	a = script_heap(POLICY_DEFAULT);
	for (int i = 0; i < 45; i++)
		use_and_free(MIB - 16 * KIB);
	EXPECT(purger_now() == PURGER_NONE && script_calls(OS_THREAD) == 0);
	EXPECT(script_calls(OS_DISCARD) == 0);
}

static void no_thread_in_classic(void)
{
	a = script_heap(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	use_and_free(64 * MIB);
	EXPECT(purger_now() == PURGER_NONE && script_calls(OS_THREAD) == 0);
}

static void above_it_the_thread_gives_all_back(void)
{
	unsigned sbrks;

	a = script_heap(POLICY_DEFAULT);
	use_and_free(16 * MIB);
	EXPECT(script_calls(OS_THREAD) == 1 && purger_now() == PURGER_AWAKE);
	sbrks = script_calls(OS_SBRK);
	EXPECT(all_gone());
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	/* It never moves the break, and it is told again. */
	EXPECT(script_calls(OS_SBRK) == sbrks);
	use_and_free(8 * MIB);
	EXPECT(purger_now() == PURGER_AWAKE);
	EXPECT(all_gone());
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	EXPECT(script_calls(OS_THREAD) == 1);
	EXPECT(purge_counts.bytes >= 23 * MIB && purge_counts.calls != 0);
	audit_arena(a);
}

/* As a tool does from outside, to a thread that sleeps. */
static void who_asks_gets_all(void)
{
	a = script_heap(POLICY_DEFAULT);
	use_and_free(16 * MIB);
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	use_and_free(512 * KIB);
	EXPECT(resident_of_heap() > 500 * KIB && purger_now() == PURGER_ASLEEP);
	__atomic_store_n(&purger_asked, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&purger_state, PURGER_AWAKE, __ATOMIC_SEQ_CST);
	os_futex_wake(&purger_state, 1);
	for (int ms = 0; __atomic_load_n(&purger_asked, __ATOMIC_SEQ_CST) != 0 && ms < 5000; ms += 10)
		process_sleep_ms(10);
	EXPECT(purger_asked == 0 && resident_of_heap() <= 16 * KIB);
}

static void what_realloc_cuts_off_wakes_it(void)
{
	void *block;

	a = script_heap(POLICY_DEFAULT);
	block = memset(cede_malloc(8 * MIB), 1, 8 * MIB);
	EXPECT(cede_realloc(block, KIB) == block);
	EXPECT(script_calls(OS_THREAD) == 1);
	EXPECT(all_gone());
}

/* What no free told of goes too: 1 MiB starts it, and then it takes all. */
static void many_small_frees_add_up(void)
{
	static char *blocks[12000];

	a = script_heap(POLICY_DEFAULT);
	for (size_t i = 0; i < 12000; i++)
		blocks[i] = memset(cede_malloc(100), 1, 100);
	for (size_t i = 0; i < 12000; i++)
		cede_free(blocks[i * 7919 % 12000]);
	EXPECT(script_calls(OS_THREAD) == 1);
	EXPECT(all_gone());
}

/* Used every 20 ms; returns the longest that it was not, in ms. */
static uint64_t use_a_pool(void)
{
	uint64_t longest = 0, last = os_now_ms(), now;

	for (int i = 0; i < 20; i++) {
		use_and_free(8 * MIB);
		process_sleep_ms(20);
		now = os_now_ms();
		longest = now - last > longest ? now - last : longest;
		last = now;
	}
	return longest;
}

static void a_pool_in_use_is_left_alone(void)
{
	size_t before;

	a = script_heap(POLICY_DEFAULT);
	/* Where the machine stopped the test for a while, it was no pool in use. */
	do
		before = script_discarded;
	while (use_a_pool() > DECAY_TICKS * DECAY_TICK_MS / 2);
	EXPECT(purger_now() == PURGER_AWAKE);
	EXPECT(script_discarded - before <= MIB);
	EXPECT(all_gone());
}

/* ---- when memory is short ---- */

static uint64_t passes_at_discard; /* atomic; 0: nothing went yet */

static void note_the_pass(const struct os_range *ranges, unsigned count)
{
	uint64_t none = 0, now = __atomic_load_n(&purge_counts.passes, __ATOMIC_RELAXED);

	(void)ranges;
	(void)count;
	(void)__atomic_compare_exchange_n(&passes_at_discard, &none, now, false, __ATOMIC_RELAXED,
	                                  __ATOMIC_RELAXED);
}

/* After the first tick, and not after five. */
static void shortage_does_not_wait(void)
{
	a = script_heap(POLICY_DEFAULT);
	script_discarding = note_the_pass;
	__atomic_store_n(&script_shortages, 1, __ATOMIC_RELAXED);
	use_and_free(16 * MIB);
	EXPECT(all_gone());
	EXPECT(passes_at_discard == 1);
	EXPECT(purge_counts.reliefs == 1);
	audit_arena(a);
}

/* However long it lasts. */
static void shortage_is_relieved_once_a_second(void)
{
	a = script_heap(POLICY_DEFAULT);
	__atomic_store_n(&script_shortages, UINT32_MAX, __ATOMIC_RELAXED);
	do {
		use_and_free(4 * MIB);
		process_sleep_ms(5);
	} while (__atomic_load_n(&purge_counts.reliefs, __ATOMIC_RELAXED) < 3);
	EXPECT(__atomic_load_n(&purge_counts.passes, __ATOMIC_RELAXED) > 40);
}

/* Asleep, it has nothing to give. */
static void shortage_of_others_wakes_nobody(void)
{
	a = script_heap(POLICY_DEFAULT);
	use_and_free(2 * MIB);
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	__atomic_store_n(&script_shortages, 1, __ATOMIC_RELAXED);
	use_and_free(MIB / 2);
	process_sleep_ms(200);
	EXPECT(purger_now() == PURGER_ASLEEP && purge_counts.reliefs == 0);
	EXPECT(__atomic_load_n(&script_shortages, __ATOMIC_RELAXED) == 1);
}

/* ---- without the thread ---- */

/* The frees of the program do the work, when it goes on freeing. */
static void frees_must_do_without_the_thread(void)
{
	void *kept[45];

	for (int i = 0; i < 45; i++)
		kept[i] = cede_malloc(1000);
	use_and_free(16 * MIB);
	use_and_free(2 * MIB);
	EXPECT(purger_now() == PURGER_ABSENT);
	for (int i = 0; i < 45; i++) {
		cede_free(kept[i]);
		process_sleep_ms(10);
	}
	EXPECT(resident_of_heap() <= MIB + 256 * KIB);
	audit_arena(a);
}

static void a_thread_that_cannot_be_made_is_absent(void)
{
	a = script_heap(POLICY_DEFAULT);
	/* Then a large free trims at once; here the passes are to be seen. */
	settings.trim_threshold = SIZE_MAX;
	script_fail_from(OS_THREAD, 1);
	frees_must_do_without_the_thread();
	EXPECT(script_calls(OS_THREAD) == 1);
}

/* Frees of the program while the clock goes on, to so many seconds. */
static void free_until(unsigned seconds)
{
	static uint64_t now;

	for (; now < seconds * 1000; now += 250) {
		script_clock(1000000 + now);
		process_sleep_ms(3); /* frees look at the clock each millisecond */
		use_and_free(2 * MIB);
	}
}

static void it_is_tried_again(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.trim_threshold = SIZE_MAX;
	script_fail(OS_THREAD, 1);
	free_until(1);
	EXPECT(script_calls(OS_THREAD) == 1 && purger_now() == PURGER_ABSENT && !cache_on);
	free_until(2);
	EXPECT(script_calls(OS_THREAD) == 2 && purger_now() == PURGER_AWAKE && cache_on);
	EXPECT(all_gone());
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
}

/* After 1 second, 2 more, 4 and so on, to 64. */
static void it_is_tried_ever_more_seldom(void)
{
	static const unsigned at[] = { 1, 3, 7, 15, 31, 63, 127, 191, 255 };

	a = script_heap(POLICY_DEFAULT);
	settings.trim_threshold = SIZE_MAX;
	script_fail_from(OS_THREAD, 1);
	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		free_until(at[i]);
		EXPECT(script_calls(OS_THREAD) == i + 1);
	}
	EXPECT(purger_now() == PURGER_ABSENT);
}

static void a_thread_switched_off_is_not_tried(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.trim_threshold = SIZE_MAX;
	settings.background = false;
	frees_must_do_without_the_thread();
	free_until(3);
	EXPECT(script_calls(OS_THREAD) == 0);
}

/* A free that does its part; what it gave back, in one call of the system. */
static size_t slow_free(void)
{
	size_t before = script_discarded;
	unsigned calls = script_calls(OS_DISCARD);

	process_sleep_ms(3); /* frees look at the clock each millisecond */
	cede_free(cede_malloc(1000));
	EXPECT(script_calls(OS_DISCARD) <= calls + 1);
	return script_discarded - before;
}

/* So many ticks of the clock, and frees of the program until all that is due went. */
static void pass_ticks(unsigned ticks)
{
	static uint64_t now = 1000000;

	while (ticks-- > 0) {
		script_clock(now += DECAY_TICK_MS);
		while (slow_free() != 0)
			;
	}
}

/* However much is due: two mebibytes, a segment of slabs. */
static void slices_go(void (*use)(void))
{
	size_t sum = 0, slices = 0, gone;

	settings.trim_threshold = SIZE_MAX;
	settings.background = false;
	script_clock(1000000);
	use();
	script_reset();
	for (unsigned tick = 0; tick < DECAY_TICKS + 2; tick++) {
		script_clock(2000000 + tick * DECAY_TICK_MS);
		while ((gone = slow_free()) != 0) {
			EXPECT(gone <= 2 * MIB);
			sum += gone;
			slices++;
		}
	}
	EXPECT(sum >= 24 * MIB && slices <= sum / MIB);
	EXPECT(extent_dirty_bytes(a) + a->segments.touched * os_page_size <= 512 * KIB);
	audit_arena(a);
}

static void use_one_chunk(void)
{
	use_and_free(32 * MIB);
}

/* Pages among live ones, and whole slabs. */
static void use_many_blocks(void)
{
	static char *blocks[32000];

	for (size_t i = 0; i < 32000; i++)
		blocks[i] = memset(cede_malloc(1000), 1, 1000);
	for (size_t i = 0; i < 32000; i++)
		if (i % 500 != 0 || i > 16000)
			cede_free(blocks[i]);
}

static void a_free_gives_no_more_than_a_slice(void)
{
	a = script_heap(POLICY_DEFAULT);
	slices_go(use_one_chunk);
}

static void a_free_gives_no_more_than_a_slice_of_slabs(void)
{
	a = script_heap_of_slabs(false);
	slices_go(use_many_blocks);
}

/* ---- regret ---- */

static void what_was_wanted_again_waits_longer(void)
{
	char *block;

	a = script_heap(POLICY_DEFAULT);
	settings.trim_threshold = SIZE_MAX;
	settings.background = false;
	block = cede_malloc(64 * MIB);
	for (int round = 0; round < 2; round++) {
		/* The free itself may do a pass. */
		cede_free(memset(block, 1, 64 * MIB));
		pass_ticks(DECAY_TICKS + 1);
		EXPECT((resident_of_heap() < MIB) == (round == 0));
		block = cede_malloc(64 * MIB);
	}
	/* It is still owed, and yet all goes in the end. */
	cede_free(memset(block, 1, 64 * MIB));
	pass_ticks(DECAY_MOST - 1);
	EXPECT(resident_of_heap() >= 64 * MIB);
	pass_ticks(2);
	EXPECT(resident_of_heap() < MIB);
	/* Wanted late, and nothing is owed after some seconds. */
	pass_ticks(80);
	block = cede_malloc(64 * MIB);
	cede_free(memset(block, 1, 64 * MIB));
	pass_ticks(DECAY_TICKS + 1);
	EXPECT(resident_of_heap() < MIB);
}

/* Neither the purger nor a pass of a free goes on for ever about locked memory. */
static void locked_memory_lets_it_sleep(void)
{
	a = script_heap(POLICY_DEFAULT);
	script_fail_from(OS_DISCARD, 1);
	use_and_free(16 * MIB);
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP);
	EXPECT(script_calls(OS_DISCARD) <= 10 && purge_counts.bytes == 0);
	EXPECT(extent_dirty_bytes(a) == 0);
	audit_arena(a);
}

/* ---- mlockall ---- */

/* It is asked for now and then, and goes when it may. */
static void memory_that_was_locked_goes_later(void)
{
	static char *blocks[4000];

	a = script_heap(POLICY_DEFAULT);
	slabs_on = true;
	for (size_t i = 0; i < 4000; i++)
		blocks[i] = memset(cede_malloc(1000), 1, 1000);
	(void)mlockall(MCL_CURRENT);
	/* A sanitizer does not let it, nor may a limit. */
	if (!os_memory_is_locked())
		return;
	for (size_t i = 0; i < 4000; i++)
		cede_free(blocks[i]);
	use_and_free(16 * MIB);
	while (script_calls(OS_DISCARD) == 0)
		process_sleep_ms(10);
	process_sleep_ms(600);
	EXPECT(script_calls(OS_DISCARD) == 1 && purge_counts.bytes == 0);
	EXPECT(resident_of_heap() >= 16 * MIB && cede_release(0) == 0);
	lock_acquire(&a->lock);
	EXPECT(extent_dirty_bytes(a) >= 15 * MIB && a->segments.touched >= 900);
	audit_arena(a);
	lock_release(&a->lock);
	EXPECT(munlockall() == 0);
	EXPECT(wait_for(PURGER_ASLEEP) == PURGER_ASLEEP && a->segments.touched == 0);
	/* Locking brought pages in that were never used. */
	EXPECT(resident_of_heap() <= 256 * KIB);
}

/* By the program's own call, too. */
static void memory_that_was_locked_goes_at_once_on_request(void)
{
	a = script_heap(POLICY_DEFAULT);
	settings.background = false;
	settings.trim_threshold = SIZE_MAX;
	use_and_free(16 * MIB);
	(void)mlockall(MCL_CURRENT);
	if (!os_memory_is_locked())
		return;
	EXPECT(cede_release(0) == 0);
	EXPECT(munlockall() == 0);
	EXPECT(cede_release(0) >= 16 * MIB - 4096 && resident_of_heap() <= 256 * KIB);
}

static void a_release_is_bounded(void)
{
	static const size_t max[] = { 1, 4095, 4096, 10000, 300 * KIB, MIB, 9 * MIB };
	char *blocks[32];
	size_t gone, sum = 0;

	a = script_heap(POLICY_DEFAULT);
	settings.background = false;
	settings.trim_threshold = SIZE_MAX;
	for (int i = 0; i < 32; i++) {
		blocks[i] = memset(cede_malloc(800 * KIB), 1, 800 * KIB);
		(void)memset(cede_malloc(24), 1, 24);
	}
	/* Not by cede_free, which may run a pass. */
	for (int i = 0; i < 32; i++)
		free_chunk(a, block_to_chunk(blocks[i]));
	for (size_t i = 0; i < sizeof(max) / sizeof(max[0]); i++) {
		size_t before = resident_of_heap();

		gone = giving_release(max[i]);
		EXPECT(gone <= max[i] && gone >= (max[i] & -(size_t)4096));
		EXPECT(before - resident_of_heap() == gone);
		sum += gone;
	}
	EXPECT(cede_release(0) >= 32 * 792 * KIB - sum);
	EXPECT(extent_dirty_bytes(a) == 0 && giving_release(SIZE_MAX) == 0);
	giving_settle();
	audit_arena(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(no_thread_below_a_mebibyte),
		child_test(no_thread_in_classic),
		child_test(above_it_the_thread_gives_all_back),
		child_test(who_asks_gets_all),
		child_test(what_realloc_cuts_off_wakes_it),
		child_test(many_small_frees_add_up),
		child_test(a_pool_in_use_is_left_alone),
		child_test(shortage_does_not_wait),
		child_test(shortage_is_relieved_once_a_second),
		child_test(shortage_of_others_wakes_nobody),
		child_test(a_thread_that_cannot_be_made_is_absent),
		child_test(it_is_tried_again),
		child_test(it_is_tried_ever_more_seldom),
		child_test(a_thread_switched_off_is_not_tried),
		child_test(a_free_gives_no_more_than_a_slice),
		child_test(a_free_gives_no_more_than_a_slice_of_slabs),
		child_test(what_was_wanted_again_waits_longer),
		child_test(locked_memory_lets_it_sleep),
		child_test(memory_that_was_locked_goes_later),
		child_test(memory_that_was_locked_goes_at_once_on_request),
		child_test(a_release_is_bounded),
	};

	return cmocka_run_group_tests_name("purger", tests, NULL, NULL);
}
