/*
 * heap/cache: how much a thread's cache takes at once, and may hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <cmocka.h>

#include "support/cached.h"

/* What the module promises, stated again. */
#define MOST_SLOTS       2048
#define MOST_OF_A_THREAD (4 * MIB)
#define MOST_OF_ALL      (32 * MIB)
#define TABLES           (36 * KIB) /* of a thread, among these */
#define MOST_AT_ONCE     256 /* and 64 KiB */
#define LARGE_AT_ONCE    64

#define FIRST_SLOTS(bytes) (4096 / (bytes) < 16 ? 4096 / (bytes) : 16)

#define LARGEST CLASS_LARGEST /* request that is cached */

/* From one block on; an array whose first slots are few takes a while. */
static void refills_double(size_t bytes, size_t most)
{
	unsigned class = class_of_request(bytes);
	size_t before = 0, last = 0;

	for (size_t refills = 0; refills < 14;) {
		bool empty = held(class) == 0;

		(void)get(bytes);
		if (!empty)
			continue;
		before = last;
		last = held(class) + 1;
		EXPECT(last <= size_min(2 * before, most) || refills == 0);
		EXPECT(last == size_min(2 * before, most) || last <= FIRST_SLOTS(bytes));
		refills++;
	}
	EXPECT(last == most && t->capacity[class] == 2 * most);
	audit_arena(a);
}

static void refills_double_to_half_of_what_fits(void)
{
	start();
	refills_double(100, MOST_AT_ONCE);
	refills_double(500, 64 * KIB / 512);
	refills_double(3000, LARGE_AT_ONCE);
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

/* Of up to 128 blocks the arrays of classes side by side share pages; longer ones do not. */
static void arrays_share_pages(void)
{
	size_t before, after, count = 128 / 2;

	start();
	for (size_t size = 16; size <= 256; size += 16)
		cede_free(get(size));
	before = os_resident(t->slots, cache_slots_bytes);
	for (size_t size = 16; size <= 256; size += 16) {
		for (size_t i = 0; i < count; i++)
			many[i] = get(size);
		for (size_t i = 0; i < count; i++)
			cede_free(many[i]);
		EXPECT(held(class_of_request(size)) > 16);
	}
	after = os_resident(t->slots, cache_slots_bytes);
	/* 16 classes of 1 KiB each. */
	EXPECT(after - before <= 16 * KIB + 2 * os_page_size);
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

/* More of a class than may be cached; returns the capacity it came to. */
static size_t get_and_free_many(size_t bytes, size_t most)
{
	unsigned class = class_of_request(bytes);
	size_t count = size_min(6000, 32 * MIB / bytes);

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

/* Nor does a bin whose operation a signal handler interrupted give anything up to it. */
static void a_bin_at_work_does_not(void)
{
	unsigned old;
	size_t capacity;

	start();
	old = class_of_request(LARGEST);
	(void)cede_malloc_trim(0);
	capacity = get_and_free_many(LARGEST, MOST_OF_A_THREAD);
	thread_bin(t, old)->busy = 1;
	(void)get_and_free_many(1000, MOST_OF_A_THREAD);
	EXPECT(t->capacity[old] == capacity && held(old) > capacity / 2);
	EXPECT(thread_bin(t, old)->busy == 1);
	thread_bin(t, old)->busy = 0;
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

/* A class's first array is a 64th of what the thread may cache, where that is less. */
static void the_first_array_is_smaller_for_many(void)
{
	unsigned class;

	start();
	class = class_of_request(250);
	t->most = 64 * KIB;
	cede_free(get(250));
	EXPECT(t->capacity[class] == KIB / 256);
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
	size_t share = MOST_OF_ALL / (THREADS + 1) - TABLES;

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		child_test(refills_double_to_half_of_what_fits),
		child_test(the_first_array_is_small),
		child_test(the_first_array_is_smaller_for_many),
		child_test(arrays_share_pages),
		child_test(each_class_has_its_bound),
		child_test(all_classes_share_the_threads_bound),
		child_test(an_idle_class_makes_room),
		child_test(a_bin_at_work_does_not),
		child_test(a_class_in_use_does_not),
		child_test(all_threads_share_the_total),
		child_test(a_full_bin_keeps_half),
		child_test(last_in_is_first_out),
		child_test(memory_may_be_refused_in_a_refill),
	};

	with_slabs = argc > 1 && strcmp(argv[1], "slabs") == 0;
	return cmocka_run_group_tests_name("cache_bounds", tests, NULL, NULL);
}
