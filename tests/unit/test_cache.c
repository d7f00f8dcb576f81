/*
 * heap/cache: what a thread's own operations do.  What others do to it is in
 * test_drain.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What the module promises, stated again. */
#define MOST_SLOTS       2048
#define MOST_OF_A_THREAD (1 * MIB)
#define MOST_OF_ALL      (32 * MIB)
#define MOST_AT_ONCE     64

#define LARGEST CLASS_LARGEST /* request that is cached */

static bool with_slabs; /* small blocks are of slabs, not chunks: by an argument */
static struct arena *a;
static struct thread *t;

static void start(void)
{
	a = script_heap_of_slabs(true);
	if (!with_slabs)
		script_fail_from(OS_MAP_AT, 1);
	t = thread_self;
	EXPECT(t->caching);
}

static size_t held(unsigned class)
{
	const struct cache_bin *bin = thread_bin(t, class);

	return (size_t)(bin->top - bin->array);
}

static size_t held_at_all(void)
{
	size_t sum = 0;

	for (unsigned c = 0; c < CLASSES; c++)
		sum += held(c);
	return sum;
}

static void *get(size_t bytes)
{
	void *block = cede_malloc(bytes);

	EXPECT(block != NULL && cede_malloc_usable_size(block) >= bytes);
	return memset(block, 0x5a, bytes);
}

static size_t live_bytes(void)
{
	struct cede_stats stats;

	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	return stats.live_bytes;
}

static void audit_all(void)
{
	for (struct arena *each = &main_arena; each != NULL; each = arena_following(each)) {
		lock_acquire(&each->lock);
		audit_arena(each);
		lock_release(&each->lock);
	}
}

/* ---- refill, growth, bounds ---- */

static void refills_double_to_half_of_what_fits(void)
{
	static const size_t expected[] = { 1, 2, 4, 8, 16, 32, 64, 64, 64 };
	size_t refills = 0;
	unsigned class;

	start();
	class = class_of_request(100);
	while (refills < sizeof(expected) / sizeof(expected[0])) {
		bool empty = held(class) == 0;

		(void)get(100);
		if (empty)
			EXPECT(held(class) + 1 == expected[refills++]);
	}
	EXPECT(t->capacity[class] == 2 * MOST_AT_ONCE);
	audit_arena(a);
}

/* The first array holds 4 KiB, sixteen blocks at most, and one at least. */
static void the_first_array_is_small(void)
{
	static const size_t requests[] = { 24, 250, 500, 1000, 2000, 4000, LARGEST };
	static const unsigned slots[] = { 16, 16, 8, 4, 2, 1, 1 };

	start();
	for (size_t i = 0; i < 7; i++) {
		unsigned class = class_of_request(requests[i]);

		cede_free(get(requests[i]));
		EXPECT(t->capacity[class] == slots[i] && held(class) == 1);
	}
}

static void fits_the_bounds(unsigned class)
{
	size_t most = MOST_OF_A_THREAD / class_sizes[class], reserved = 0;

	EXPECT(held(class) <= t->capacity[class]);
	EXPECT(t->capacity[class] <= (most < MOST_SLOTS ? most : MOST_SLOTS));
	for (unsigned c = 0; c < CLASSES; c++)
		reserved += (size_t)t->capacity[c] * class_sizes[c];
	EXPECT(t->reserved == reserved);
}

static void *many[6000];

/* More of a class than may be cached; returns the capacity it came to. */
static size_t get_and_free_many(size_t bytes, size_t most)
{
	unsigned class = class_of_request(bytes);
	size_t count = size_min(6000, 8 * MIB / bytes);

	for (size_t i = 0; i < count; i++)
		many[i] = get(bytes);
	for (size_t i = 0; i < count; i++) {
		size_t before = t->capacity[class];

		cede_free(many[i]);
		fits_the_bounds(class);
		EXPECT(t->reserved <= most);
		EXPECT(t->capacity[class] <= 2 * before || before == 0);
	}
	return t->capacity[class];
}

static void each_class_has_its_bound(void)
{
	start();
	EXPECT(get_and_free_many(24, MOST_OF_A_THREAD) == MOST_SLOTS);
	(void)cede_malloc_trim(0);
	EXPECT(get_and_free_many(500, MOST_OF_A_THREAD) == MOST_SLOTS);
	(void)cede_malloc_trim(0);
	EXPECT(get_and_free_many(LARGEST, MOST_OF_A_THREAD) == MOST_OF_A_THREAD / CLASS_LARGEST);
	audit_arena(a);
}

/* Classes that come too late have a small array or none, and work all the same. */
static void all_classes_share_the_threads_bound(void)
{
	start();
	for (size_t bytes = 24; bytes <= LARGEST; bytes += 4096)
		(void)get_and_free_many(bytes, MOST_OF_A_THREAD);
	EXPECT(t->reserved > MOST_OF_A_THREAD / 2);
	audit_arena(a);
}

/* A class that has all there is gives it up to one in use, once it is idle itself. */
static void an_idle_class_makes_room(void)
{
	unsigned old, new;

	start();
	old = class_of_request(LARGEST);
	new = class_of_request(1000);
	(void)cede_malloc_trim(0);
	EXPECT(get_and_free_many(LARGEST, MOST_OF_A_THREAD) == MOST_OF_A_THREAD / CLASS_LARGEST);
	EXPECT(get_and_free_many(1000, MOST_OF_A_THREAD) > 200);
	EXPECT(t->capacity[new] > 200 && t->capacity[old] == 0 && held(old) == 0);
	cede_free(get(LARGEST));
	audit_arena(a);
}

/* One in use keeps what it has: no two turns leave it with as many and the same newest. */
static void a_class_in_use_does_not(void)
{
	enum { FULL = MOST_OF_A_THREAD / CLASS_LARGEST };
	void *large[FULL];
	unsigned class;

	start();
	class = class_of_request(LARGEST);
	(void)cede_malloc_trim(0);
	EXPECT(get_and_free_many(LARGEST, MOST_OF_A_THREAD) == FULL);
	for (size_t i = 0; i < FULL; i++)
		large[i] = get(LARGEST);
	for (size_t turn = 0; turn < FULL * FULL; turn++) {
		size_t count = turn / FULL + 1;

		for (size_t i = 0; i < count; i++)
			cede_free(large[(turn + i) % FULL]);
		for (size_t i = 0; i < 600; i++)
			many[i] = get(1000);
		for (size_t i = 0; i < 600; i++)
			cede_free(many[i]);
		for (size_t i = count; i-- > 0;)
			large[(turn + i) % FULL] = get(LARGEST);
	}
	EXPECT(t->patience > 100 && t->capacity[class] == FULL);
}

static pthread_barrier_t inside, leave;

static void *stay(void *unused)
{
	cede_free(cede_malloc(100));
	pthread_barrier_wait(&inside);
	pthread_barrier_wait(&leave);
	return unused;
}

static void all_threads_share_the_total(void)
{
	enum { THREADS = 60 };
	pthread_t threads[THREADS];
	size_t share = MOST_OF_ALL / (THREADS + 1);

	start();
	settings.arena_max = 4;
	pthread_barrier_init(&inside, NULL, THREADS + 1);
	pthread_barrier_init(&leave, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, stay, NULL) == 0);
	pthread_barrier_wait(&inside);
	EXPECT(registry_count() > THREADS);
	for (size_t bytes = 24; bytes <= LARGEST; bytes += 8192)
		(void)get_and_free_many(bytes, share);
	pthread_barrier_wait(&leave);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
}

/* A full bin that may not grow lets half go; what it keeps is the older half. */
static void a_full_bin_keeps_half(void)
{
	size_t full = MOST_OF_A_THREAD / CLASS_LARGEST;
	unsigned class;
	void **base;

	start();
	class = class_of_request(LARGEST);
	(void)get_and_free_many(LARGEST, MOST_OF_A_THREAD);
	base = t->slots + (thread_bin(t, class)->top - t->slots) - held(class);
	while (held(class) > 0)
		(void)get(LARGEST);
	for (size_t i = 0; i <= full; i++)
		many[i] = get(LARGEST);
	while (held(class) > 0)
		(void)get(LARGEST);
	for (size_t i = 0; i < full; i++)
		cede_free(many[i]);
	EXPECT(held(class) == full);
	cede_free(many[full]);
	EXPECT(held(class) == full / 2 + 1);
	for (size_t i = 0; i < full / 2; i++)
		EXPECT(base[i] == many[i]);
	EXPECT(base[full / 2] == many[full]);
	audit_arena(a);
}

static void last_in_is_first_out(void)
{
	void *blocks[12];

	start();
	for (size_t i = 0; i < 12; i++)
		blocks[i] = get(500);
	for (size_t i = 0; i < 12; i++)
		cede_free(blocks[i]);
	for (size_t i = 12; i > 0; i--)
		EXPECT(cede_malloc(500) == blocks[i - 1]);
}

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

static void memory_may_be_refused_in_a_refill(void)
{
	size_t count = 0;

	start();
	for (size_t i = 0; i < 100; i++)
		(void)get(3000);
	script_fail_from(OS_SBRK, 1);
	script_fail_from(OS_MAP, 1);
	script_fail_from(OS_MAP_AT, 1);
	script_fail_from(OS_PROTECT, 1);
	errno = 0;
	while (count < 6000 && (many[count] = cede_malloc(3000)) != NULL)
		memset(many[count++], 1, 3000);
	EXPECT(errno == ENOMEM && count > 0 && count < 6000);
	EXPECT(held(class_of_request(3000)) == 0);
	while (count > 0)
		cede_free(many[--count]);
	EXPECT(cede_malloc(3000) == many[0]);
	script_reset();
	(void)get_and_free_many(3000, MOST_OF_A_THREAD);
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
	EXPECT(t->slots == NULL && t->busy == 0 && t->reserved == 0 && live_bytes() == 0);
	audit_arena(a);
	script_reset();
	cede_free(get(100));
	EXPECT(held_at_all() == 1);
}

/* ---- when the cache has no part in it ---- */

/* A signal handler finds `busy` set: its thread is in an operation. */
static void a_handler_goes_to_the_arena(void)
{
	struct cache_bin before[CLASSES + 1];
	void *cached = NULL, *block;

	start();
	cede_free(cached = get(100));
	memcpy(before, t->bins, sizeof(before));
	t->busy = 1;
	block = get(100);
	EXPECT(block != cached);
	block = cede_realloc(block, 5000);
	cede_free(cede_calloc(10, 10));
	cede_free(block);
	EXPECT(t->busy == 1 && memcmp(before, t->bins, sizeof(before)) == 0);
	(void)cede_malloc_trim(0);
	EXPECT(t->busy == 1 && memcmp(before, t->bins, sizeof(before)) == 0);
	t->busy = 0;
	EXPECT(cede_malloc(100) == cached);
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
		child_test(refills_double_to_half_of_what_fits),
		child_test(the_first_array_is_small),
		child_test(each_class_has_its_bound),
		child_test(all_classes_share_the_threads_bound),
		child_test(an_idle_class_makes_room),
		child_test(a_class_in_use_does_not),
		child_test(all_threads_share_the_total),
		child_test(a_full_bin_keeps_half),
		child_test(last_in_is_first_out),
		child_test(double_frees_are_noticed),
		child_test(a_block_may_hold_the_key),
		child_test(blocks_go_back_to_their_own_arena),
		child_test(mapped_blocks_are_not_cached),
		child_test(memory_may_be_refused_in_a_refill),
		child_test(works_uncached_without_slots),
		child_test(a_handler_goes_to_the_arena),
		child_test(what_is_cached_counts_as_free),
		child_test(trimming_empties_ones_own),
		child_test(nothing_is_cached_when_freed_bytes_matter),
		child_test(nothing_is_cached_without_a_purger),
		child_test(nothing_is_cached_in_classic),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
