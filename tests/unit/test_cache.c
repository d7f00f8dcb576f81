/*
 * heap/cache: what a thread's own operations do.  How much it holds is in
 * test_cache_bounds.c, what others do to it in test_drain.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

#include <cmocka.h>

#include "support/cached.h"

/* ---- freed twice ---- */

static void free_the_newest_again(void)
{
	void *block = get(100);

	cede_free(block);
	cede_free(block);
}

static void free_a_deeper_one_again(void)
{
	void *blocks[10];

	for (size_t i = 0; i < 10; i++)
		blocks[i] = get(100);
	for (size_t i = 0; i < 10; i++)
		cede_free(blocks[i]);
	cede_free(blocks[3]);
}

static void free_what_a_refill_brought(void)
{
	unsigned class = class_of_request(100);

	while (held(class) == 0)
		(void)get(100);
	cede_free(thread_bin(t, class)->top[-1]);
	/* A slab's block bears no mark yet: the heap has it twice. */
	(void)cede_malloc_trim(0);
}

static void resize_a_freed_one(void)
{
	void *block = get(100);

	cede_free(block);
	(void)!cede_realloc(block, 200);
}

static void double_frees_are_noticed(void)
{
	start();
	EXPECT(child_dies(free_the_newest_again, "double free"));
	EXPECT(child_dies(free_a_deeper_one_again, "double free"));
	EXPECT(child_dies(free_what_a_refill_brought, "double free"));
	EXPECT(child_dies(resize_a_freed_one, "double free"));
}

/* Contents that only look so, are nobody's double free. */
static void a_block_may_hold_the_key(void)
{
	size_t *block, *other;

	start();
	block = get(100);
	other = get(100);
	block[1] = CACHE_MARK;
	other[1] = CACHE_MARK;
	block = cede_realloc(block, 3000);
	EXPECT(block[1] == CACHE_MARK);
	cede_free(block);
	cede_free(other);
	EXPECT(cede_malloc(100) == other && other[1] != CACHE_MARK);
	audit_arena(a);
}

/* ---- other arenas, mappings, no memory ---- */

static void run_thread(void *(*run)(void *))
{
	pthread_t thread;

	EXPECT(pthread_create(&thread, NULL, run, NULL) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
}

static void *get_one(void *unused)
{
	cede_free(cede_malloc(100));
	return unused;
}

static void *get_many(void *unused)
{
	for (size_t i = 0; i < 3000; i++)
		many[i] = get(i % 2000);
	return unused;
}

static void *trim(void *unused)
{
	(void)cede_malloc_trim(0);
	return unused;
}

static struct arena *arena_of(void *block)
{
	return window_has(block) ? slab_of(block, "free")->arena
	                         : owner_of(block_to_chunk(block), "free");
}

static void blocks_go_back_to_their_own_arena(void)
{
	struct arena *other;
	size_t live;

	start();
	settings.arena_max = 4;
	/* It leaves an arena, and one block in the cache of its record. */
	run_thread(get_one);
	live = live_bytes();
	run_thread(get_many);
	other = arena_of(many[0]);
	EXPECT(other != a);
	/* Beside each other in the bins: one of this thread's, one of the other's. */
	for (size_t i = 0; i < 3000; i++) {
		EXPECT(arena_of(many[i]) == other);
		cede_free(many[i]);
		cede_free(get(i % 2000 + 100));
	}
	EXPECT(held_at_all() > 50);
	(void)cede_malloc_trim(0);
	EXPECT(held_at_all() == 0);
	/* What the dead thread cached is its successor's; the purger, who tries in vain, may
	 * hold its lock just then. */
	for (int i = 0; i < 100 && live_bytes() > live; i++)
		run_thread(trim);
	EXPECT(live_bytes() <= live);
	audit_all();
}

/* ---- what shares lines with what others have ---- */

#define STRANGERS 64 /* as many as a thread sends home */

static size_t cached_here(size_t bytes)
{
	const struct cache_bin *bin = thread_bin(thread_self, class_of_request(bytes));

	return (size_t)(bin->top - thread_bin_array(thread_self, bin));
}

/* many: 64 bytes first, then 8, 40 and 24 in turn. */
static void *send_home(void *unused)
{
	size_t live;

	cede_free(many[0]);
	EXPECT(cached_here(64) == 1);
	/* Its own are cached, and with them whatever comes after. */
	cede_free(get(24));
	for (size_t i = 0; i < 40; i++)
		cede_free(many[3 + 3 * i]);
	EXPECT(cached_here(24) == 41);
	for (size_t i = 0; i < STRANGERS; i++) {
		live = a->slabs.live_bytes;
		cede_free(many[i % 2 + 1 + i / 2 * 3]);
		EXPECT(live - a->slabs.live_bytes == (i % 2 == 0 ? 16 : 48));
	}
	EXPECT(cached_here(8) == 0 && cached_here(40) == 0);
	cede_free(many[1 + STRANGERS / 2 * 3]);
	EXPECT(cached_here(8) == 1);
	/* A cache that was emptied begins anew. */
	(void)cede_malloc_trim(0);
	cede_free(many[2 + STRANGERS / 2 * 3]);
	EXPECT(cached_here(40) == 0);
	return unused;
}

static void small_blocks_of_others_go_home_at_first(void)
{
	if (!with_slabs)
		return;
	start();
	settings.arena_max = 4;
	many[0] = get(64);
	for (size_t i = 0; i < STRANGERS; i++) {
		many[1 + 3 * i] = get(8);
		many[2 + 3 * i] = get(40);
		many[3 + 3 * i] = get(24);
	}
	run_thread(send_home);
	audit_arena(a);
}

static void mapped_blocks_are_not_cached(void)
{
	start();
	settings.mmap_threshold = 2048;
	for (size_t i = 0; i < 50; i++)
		many[i] = get(20000);
	EXPECT(__atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED) >= 40);
	for (size_t i = 0; i < 50; i++) {
		bool is_mapped = chunk_is_mapped(block_to_chunk(many[i]));
		size_t before = held_at_all();

		cede_free(many[i]);
		EXPECT(!is_mapped || held_at_all() == before);
	}
	EXPECT(__atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED) == 0);
	audit_arena(a);
}

static void works_uncached_without_slots(void)
{
	start();
	EXPECT(t->slots == NULL);
	script_fail_from(OS_MAP, 1);
	for (size_t i = 0; i < 1000; i++)
		many[i] = get(i);
	for (size_t i = 0; i < 1000; i++)
		cede_free(many[i]);
	EXPECT(t->slots == NULL && t->reserved == 0 && live_bytes() == 0);
	EXPECT(thread_bin(t, class_of_request(100))->busy == 0);
	audit_arena(a);
	script_reset();
	cede_free(get(100));
	EXPECT(held_at_all() == 1);
}

/* ---- when the cache has no part in it ---- */

/* A signal handler finds `busy` set: its thread is in an operation on this bin. */
static void a_handler_goes_to_the_arena(void)
{
	struct cache_bin *bin, before;
	void *cached, *block;

	start();
	cede_free(cached = get(100));
	bin = thread_bin(t, class_of_request(100));
	bin->busy = 1;
	before = *bin;
	block = get(100);
	EXPECT(block != cached);
	cede_free(block);
	cede_free(cede_calloc(10, 10));
	cede_free(cede_realloc(get(100), 5000));
	EXPECT(memcmp(bin, &before, sizeof(before)) == 0);
	/* Of the others it uses the cache. */
	block = get(200);
	cede_free(block);
	EXPECT(cede_malloc(200) == block);
	(void)cede_malloc_trim(0);
	EXPECT(memcmp(bin, &before, sizeof(before)) == 0);
	bin->busy = 0;
	EXPECT(cede_malloc(100) == cached);
	audit_arena(a);
}

/* The operation that it interrupted may have read a top before the cache was emptied: it must
 * find the bin shut. */
static void a_handler_opens_no_shut_cache(void)
{
	struct cache_bin *bin;
	void *block;

	start();
	cede_free(get(100));
	(void)cede_malloc_trim(0);
	EXPECT(t->state == CACHE_DRAINED);
	bin = thread_bin(t, class_of_request(100));
	bin->busy = 1;
	block = get(200);
	cede_free(block);
	EXPECT(t->state == CACHE_DRAINED && bin->base == (void **)UINTPTR_MAX && bin->limit == NULL);
	EXPECT(held_at_all() == 0 && thread_bin(t, class_of_request(200))->busy == 0);
	bin->busy = 0;
	cede_free(get(200));
	EXPECT(t->state == CACHE_OPEN && held_at_all() == 1);
	audit_arena(a);
}

static void what_is_cached_counts_as_free(void)
{
	struct mallinfo2 info;
	size_t live;

	start();
	live = live_bytes();
	for (size_t i = 0; i < 1000; i++)
		many[i] = get(i);
	for (size_t i = 0; i < 1000; i++)
		cede_free(many[i]);
	EXPECT(held_at_all() > 50);
	EXPECT(live_bytes() == live);
	cede_free(get(100));
	cede_mallinfo2(&info);
	EXPECT(info.uordblks == live && info.fordblks == info.arena - live);
}

static void trimming_empties_ones_own(void)
{
	start();
	for (size_t i = 0; i < 3000; i++)
		many[i] = get(1000);
	for (size_t i = 0; i < 3000; i++)
		cede_free(many[i]);
	EXPECT(held_at_all() > 100 && cede_malloc_trim(0) == 1);
	EXPECT(held_at_all() == 0 && t->reserved == 0 && t->state == CACHE_DRAINED);
	EXPECT(__atomic_load_n(&cache_free_bytes, __ATOMIC_SEQ_CST) == 0);
	/* And it is taken up again. */
	cede_free(many[0] = get(1000));
	EXPECT(t->state == CACHE_OPEN && cede_malloc(1000) == many[0]);
	audit_arena(a);
}

static void nothing_is_cached_when_freed_bytes_matter(void)
{
	unsigned char *block;

	start();
	EXPECT(cede_mallopt(M_PERTURB, 0x55) == 1);
	EXPECT(!cache_on);
	block = cede_malloc(100);
	for (size_t i = 0; i < 100; i++)
		EXPECT(block[i] == (0x55 ^ 0xff));
	cede_free(block);
	/* The heap's links are in the first words, its feet beyond the last. */
	EXPECT(block[64] == 0x55 && held_at_all() == 0);
	EXPECT(cede_mallopt(M_PERTURB, 0) == 1 && cache_on);
}

static void nothing_is_cached_without_a_purger(void)
{
	start();
	cede_free(get(100));
	settings.background = false;
	cache_configure();
	EXPECT(!cache_on);
	EXPECT(held_at_all() == 1 && live_bytes() == 0);
	cede_free(get(100));
	EXPECT(held_at_all() == 0);
	start();
	script_fail_from(OS_THREAD, 1);
	cede_free(memset(cede_malloc(4 * MIB), 1, 4 * MIB));
	EXPECT(!cache_on && held_at_all() == 0);
}

static void nothing_is_cached_in_classic(void)
{
	a = script_heap(POLICY_CLASSIC);
	cache_configure();
	EXPECT(!cache_on);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		child_test(double_frees_are_noticed),
		child_test(a_block_may_hold_the_key),
		child_test(blocks_go_back_to_their_own_arena),
		child_test(small_blocks_of_others_go_home_at_first),
		child_test(mapped_blocks_are_not_cached),
		child_test(works_uncached_without_slots),
		child_test(a_handler_goes_to_the_arena),
		child_test(a_handler_opens_no_shut_cache),
		child_test(what_is_cached_counts_as_free),
		child_test(trimming_empties_ones_own),
		child_test(nothing_is_cached_when_freed_bytes_matter),
		child_test(nothing_is_cached_without_a_purger),
		child_test(nothing_is_cached_in_classic),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
