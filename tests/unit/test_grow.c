/*
 * heap/grow: the main arena's end, and everything that may happen to the break.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <malloc.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/extent.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arena *a;

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

/* No way to any memory: what every public function then answers. */
static void nothing_to_be_had(size_t bytes)
{
	void *out = &out;

	script_fail_from(OS_SBRK, 1);
	script_fail_from(OS_MAP, 1);
	errno = 0;
	EXPECT(cede_malloc(bytes) == NULL && errno == ENOMEM);
	errno = 0;
	EXPECT(cede_calloc(bytes, 1) == NULL && errno == ENOMEM);
	errno = 0;
	EXPECT(cede_memalign(4096, bytes) == NULL && errno == ENOMEM);
	errno = 0;
	EXPECT(cede_posix_memalign(&out, 4096, bytes) == ENOMEM && out == &out && errno == 0);
	audit_arena(a);
}

static void the_first_growth_fails(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		a = script_heap((enum policy)policy);
		nothing_to_be_had(100);
		EXPECT(a->system_bytes == 0 && chunk_size(a->top) == 0);
		script_reset();
		EXPECT(intact(block_of(100), 100));
		audit_arena(a);
	}
}

static void a_later_growth_fails(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		void *blocks[64];
		size_t system_bytes, n;

		a = script_heap((enum policy)policy);
		for (n = 0; n < 64; n++)
			blocks[n] = block_of(1000 + n * 100);
		system_bytes = a->system_bytes;
		nothing_to_be_had(MIB);
		errno = 0;
		EXPECT(cede_realloc(blocks[3], MIB) == NULL && errno == ENOMEM);
		EXPECT(a->system_bytes == system_bytes);
		for (n = 0; n < 64; n++)
			EXPECT(intact(blocks[n], 1000 + n * 100));
		/* What is there already is still handed out. */
		EXPECT(cede_malloc(1000) != NULL);
		script_reset();
		EXPECT(intact(block_of(MIB), MIB));
		for (n = 0; n < 64; n++)
			cede_free(blocks[n]);
		audit_arena(a);
	}
}

/* As ptmalloc: a break that cannot move is replaced by mapped memory. */
static void a_stuck_break_gives_way_to_mappings(void)
{
	char *in_break, *in_map, *more;

	a = script_heap(POLICY_CLASSIC);
	in_break = block_of(100 * KIB);
	script_fail_from(OS_SBRK, 1);
	in_map = block_of(400 * KIB);
	EXPECT(script_calls(OS_MAP) == 1 && !a->contiguous);
	EXPECT(!chunk_is_mapped(block_to_chunk(in_map)));
	audit_arena(a);
	/* The region has room left; then there is another one. */
	more = block_of(400 * KIB);
	EXPECT(script_calls(OS_MAP) == 1);
	(void)block_of(400 * KIB);
	EXPECT(script_calls(OS_MAP) == 2);
	audit_arena(a);
	/* The break moves again. */
	script_reset();
	(void)block_of(2 * MIB);
	EXPECT(script_calls(OS_MAP) == 0 && script_calls(OS_SBRK) != 0);
	EXPECT(intact(in_break, 100 * KIB) && intact(in_map, 400 * KIB) && intact(more, 400 * KIB));
	cede_free(in_map);
	cede_free(more);
	cede_free(in_break);
	audit_arena(a);
}

/* Each mapped region may lie below the one before. */
static void regions_come_in_any_order(void)
{
	a = script_heap(POLICY_DEFAULT);
	script_fail_from(OS_SBRK, 1);
	for (int i = 0; i < 4; i++) {
		cede_free(block_of(700 * KIB));
		(void)block_of(MIB);
		audit_arena(a);
	}
}

/* ---- somebody else's break ---- */

static void the_gap_is_never_handed_out(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		char *gaps[20], *blocks[20][10];

		a = script_heap((enum policy)policy);
		for (size_t i = 0; i < 20; i++) {
			gaps[i] = script_foreign_sbrk(3000 + (intptr_t)i * 8);
			pattern_fill(gaps[i] + 7 - (uintptr_t)(gaps[i] + 7) % 8, 2900, i);
			for (size_t n = 0; n < 10; n++)
				blocks[i][n] = block_of(40000 + n);
			EXPECT(a->contiguous);
			audit_arena(a);
		}
		for (size_t n = 0; n < 10; n++) {
			for (size_t i = 0; i < 20; i++) {
				EXPECT(intact(blocks[i][n], 40000 + n));
				cede_free(blocks[i][n]);
			}
			audit_arena(a);
			cede_free(block_of(100000));
		}
		for (size_t i = 0; i < 20; i++)
			EXPECT(pattern_match(gaps[i] + 7 - (uintptr_t)(gaps[i] + 7) % 8, 2900, i) == 2900);
	}
}

/* Two headers close an old top; between them and the new region lies the gap. */
static void fence_posts_close_an_old_top(void)
{
	struct chunk *old_top, *post;
	char *old_end;
	size_t old_size;

	a = script_heap(POLICY_DEFAULT);
	(void)block_of(1000);
	old_top = a->top;
	old_size = chunk_size(old_top);
	old_end = script_break();
	EXPECT(script_foreign_sbrk(100) == old_end);
	(void)block_of(old_size);
	EXPECT((char *)a->top > old_end + 100);
	EXPECT(bin_head(a, UNSORTED)->fd == old_top || tree_parent(old_top) != NULL);
	EXPECT(chunk_size(old_top) == old_size - 2 * CHUNK_HEADER);
	post = chunk_next(old_top);
	EXPECT(chunk_size(post) == CHUNK_HEADER && !chunk_prev_inuse(post));
	EXPECT(chunk_inuse_at(post, CHUNK_HEADER));
	EXPECT((char *)post + 2 * CHUNK_HEADER == old_end);
	audit_arena(a);
}

/* A top of the least size leaves no free chunk, only a dead one. */
static void the_smallest_top_is_closed_too(void)
{
	for (size_t left = MIN_CHUNK; left <= 4 * MIN_CHUNK; left += CHUNK_ALIGN) {
		char *first, *second;
		size_t bytes;

		a = script_heap(POLICY_DEFAULT);
		first = block_of(1000);
		bytes = chunk_size(a->top) - left - SIZE_SZ;
		second = block_of(bytes);
		EXPECT(chunk_size(a->top) == left);
		EXPECT(script_foreign_sbrk(64) != NULL);
		(void)block_of(300 * KIB);
		audit_arena(a);
		EXPECT(intact(second, bytes));
		cede_free(second);
		audit_arena(a);
		cede_free(first);
		audit_arena(a);
		(void)block_of(bytes);
		audit_arena(a);
	}
}

/* The system's first answer need not be aligned to anything. */
static void an_unaligned_break_is_topped_up(void)
{
	for (intptr_t off = 1; off < 64; off += 7) {
		a = script_heap(POLICY_CLASSIC);
		EXPECT(script_foreign_sbrk(off) != NULL);
		EXPECT((uintptr_t)block_of(100) % 16 == 0);
		EXPECT((uintptr_t)script_break() % os_page_size == 0);
		audit_arena(a);
		/* Topping up fails: then the region ends where the memory does. */
		a = script_heap(POLICY_CLASSIC);
		EXPECT(script_foreign_sbrk(off) != NULL);
		script_fail(OS_SBRK, 2);
		EXPECT((uintptr_t)block_of(100) % 16 == 0);
		EXPECT((char *)a->top + chunk_size(a->top) <= script_break());
		audit_arena(a);
		EXPECT(intact(block_of(400 * KIB), 400 * KIB));
		audit_arena(a);
	}
}

static void grow_below_the_end(void)
{
	a = script_heap(POLICY_CLASSIC);
	(void)block_of(1000);
	script_break_at((char *)a->top - 512);
	(void)cede_malloc(MIB);
}

static void a_break_below_the_heap_is_the_end(void)
{
	EXPECT(child_dies(grow_below_the_end, "the break was moved back below the heap's end"));
}

/* A pad that would wrap is left out. */
static void the_largest_pads_do_not_wrap(void)
{
	for (size_t less = 1; less <= 3 * 4096; less += 500) {
		a = script_heap(POLICY_CLASSIC);
		settings.top_pad = SIZE_MAX - less;
		EXPECT(intact(block_of(3000), 3000));
		audit_arena(a);
	}
}

/* ---- giving the end back ---- */

/* By default a large heap asks seldom; a pad that was set is kept to. */
static void growth_is_in_proportion(void)
{
	for (int set = 0; set < 2; set++) {
		a = script_heap(POLICY_DEFAULT);
		if (set)
			EXPECT(cede_mallopt(M_TOP_PAD, 4096) == 1);
		EXPECT(cede_malloc(64 * MIB) != NULL && cede_malloc(64 * MIB) != NULL);
		script_reset();
		for (int i = 0; i < 100; i++)
			EXPECT(cede_malloc(40 * KIB) != NULL);
		EXPECT(set ? script_calls(OS_SBRK) > 50 : script_calls(OS_SBRK) <= 1);
	}
	a = script_heap(POLICY_CLASSIC);
	EXPECT(cede_malloc(64 * MIB) != NULL);
	EXPECT(a->system_bytes <= 64 * MIB + DEFAULT_TOP_PAD + 2 * os_page_size);
}

static void trim_leaves_a_moved_break_alone(void)
{
	size_t top_size;

	a = script_heap(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	cede_free(block_of(MIB));
	top_size = chunk_size(a->top);
	EXPECT(script_foreign_sbrk(16) != NULL);
	EXPECT(grow_trim_main(a, 0) == 0);
	EXPECT(chunk_size(a->top) == top_size);
	audit_arena(a);
}

static void trim_fails_without_a_change(void)
{
	size_t top_size, system_bytes;

	a = script_heap(POLICY_CLASSIC);
	settings.trim_threshold = SIZE_MAX;
	cede_free(block_of(MIB));
	top_size = chunk_size(a->top);
	system_bytes = a->system_bytes;
	for (unsigned nth = 1; nth <= 2; nth++) {
		script_reset();
		script_fail(OS_SBRK, nth);
		EXPECT(grow_trim_main(a, 0) == 0);
		EXPECT(chunk_size(a->top) == top_size && a->system_bytes == system_bytes);
		audit_arena(a);
	}
	script_reset();
	EXPECT(grow_trim_main(a, 64 * KIB) >= MIB - 64 * KIB);
	EXPECT(chunk_size(a->top) >= 64 * KIB && chunk_size(a->top) < 72 * KIB);
	EXPECT((char *)a->top + chunk_size(a->top) == script_break());
	EXPECT(grow_trim_main(a, 64 * KIB) == 0);
	EXPECT(grow_trim_main(a, SIZE_MAX) == 0);
	audit_arena(a);
	/* It grows again where it was cut. */
	EXPECT(intact(block_of(MIB), MIB));
	audit_arena(a);
}

/* ---- anything may fail at any time ---- */

#define BLOCKS 96

static struct {
	char *block;
	size_t bytes;
} held[BLOCKS];

static void hold(size_t i, char *block, size_t bytes)
{
	held[i].block = block;
	held[i].bytes = block != NULL ? bytes : 0;
	if (block != NULL)
		pattern_fill(block, bytes, i);
}

static void check_held(size_t i, size_t bytes)
{
	EXPECT(pattern_match(held[i].block, bytes, i) == bytes);
}

static void random_call(struct rng *rng)
{
	size_t i = rng_below(rng, BLOCKS), bytes = 1 + rng_below(rng, 2000);
	char *moved;

	if (rng_below(rng, 3) == 0)
		bytes *= rng_below(rng, 200) + 1;
	if (held[i].block == NULL) {
		switch (rng_below(rng, 3)) {
		case 0:
			hold(i, cede_memalign((size_t)16 << rng_below(rng, 10), bytes), bytes);
			break;
		case 1:
			moved = cede_calloc(1, bytes);
			for (size_t at = 0; moved != NULL && at < bytes; at++)
				EXPECT(moved[at] == 0);
			hold(i, moved, bytes);
			break;
		default:
			hold(i, cede_malloc(bytes), bytes);
		}
	} else if (rng_below(rng, 3) == 0) {
		check_held(i, held[i].bytes);
		moved = cede_realloc(held[i].block, bytes);
		if (moved == NULL)
			return;
		held[i].block = moved;
		check_held(i, size_min(bytes, held[i].bytes));
		hold(i, moved, bytes);
	} else if (rng_below(rng, 20) == 0) {
		(void)cede_malloc_trim(0);
	} else {
		check_held(i, held[i].bytes);
		cede_free(held[i].block);
		held[i].block = NULL;
	}
}

static void audit_all(void)
{
	for (a = &main_arena; a != NULL; a = arena_following(a))
		audit_arena(a);
}

static void anything_may_fail(void)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rng rng = { seed };

		(void)script_heap(seed % 2 ? POLICY_DEFAULT : POLICY_CLASSIC);
		memset(held, 0, sizeof(held));
		settings.mmap_threshold = DEFAULT_MMAP_THRESHOLD;
		settings.background = false;
		for (int step = 0; step < 1000; step++) {
			if (rng_below(&rng, 6) == 0)
				script_fail((enum os_call)rng_below(&rng, OS_THREAD),
				            1 + (unsigned)rng_below(&rng, 2));
			if (rng_below(&rng, 50) == 0)
				EXPECT(script_foreign_sbrk((intptr_t)rng_below(&rng, 9000)) != NULL);
			random_call(&rng);
			if (step % 16 == 0)
				audit_all();
		}
		script_reset();
		for (size_t i = 0; i < BLOCKS; i++) {
			if (held[i].block != NULL)
				check_held(i, held[i].bytes);
			cede_free(held[i].block);
			EXPECT(cede_malloc(5000) != NULL);
		}
		audit_all();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(the_first_growth_fails),
		child_test(a_later_growth_fails),
		child_test(a_stuck_break_gives_way_to_mappings),
		child_test(regions_come_in_any_order),
		child_test(the_gap_is_never_handed_out),
		child_test(fence_posts_close_an_old_top),
		child_test(the_smallest_top_is_closed_too),
		child_test(an_unaligned_break_is_topped_up),
		child_test(a_break_below_the_heap_is_the_end),
		child_test(the_largest_pads_do_not_wrap),
		child_test(growth_is_in_proportion),
		child_test(trim_leaves_a_moved_break_alone),
		child_test(trim_fails_without_a_change),
		child_test(anything_may_fail),
	};

	return cmocka_run_group_tests_name("grow", tests, NULL, NULL);
}
