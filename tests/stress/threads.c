/*
 * Threads that come and go, hand blocks to each other, and fork in the middle of
 * it.  Layer: tests.  Under ThreadSanitizer the same with fewer rounds.
 */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

#include "support/cases.h"
#include "support/parcel.h"
#include "support/process.h"

#ifdef __SANITIZE_THREAD__
#define FEWER(n) ((n) / 10)
#else
#define FEWER(n) (n)
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	CHECK(pthread_create(thread, NULL, run, arg) == 0);
}

/* ---- a storm of short threads ---- */

static _Atomic(struct parcel *) counter[32];

static void *storm_thread(void *arg)
{
	struct rng rng = { (uintptr_t)arg };
	struct parcel *parcels[20];

	for (size_t i = 0; i < COUNT(parcels); i++)
		parcels[i] = parcel_make(&rng, rng_below(&rng, i == 0 ? 300 << 10 : 2000));
	/* What an earlier thread left is opened here, what is ours elsewhere. */
	for (size_t i = 0; i < COUNT(parcels); i++)
		parcel_open(atomic_exchange(&counter[rng_below(&rng, COUNT(counter))], parcels[i]));
	return NULL;
}

static void storm(void)
{
	enum { AT_A_TIME = 64 };
	pthread_t threads[AT_A_TIME];
	uintptr_t started = 0;

	for (; started < AT_A_TIME; started++)
		thread_start(&threads[started], storm_thread, (void *)started);
	for (; started < FEWER(10000); started++) {
		CHECK(pthread_join(threads[started % AT_A_TIME], NULL) == 0);
		thread_start(&threads[started % AT_A_TIME], storm_thread, (void *)started);
	}
	for (size_t i = 0; i < AT_A_TIME; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (size_t i = 0; i < COUNT(counter); i++)
		parcel_open(counter[i]);
	/* The threads are gone; their arenas serve the next ones. */
	CHECK_THAT(heap_mallinfo2().arena < 256u << 20, "%zu bytes of arenas",
	           heap_mallinfo2().arena);
}

/* ---- fork in the middle of it ---- */

static atomic_bool churn_stop;

static void *churn_thread(void *arg)
{
	struct rng rng = { (uintptr_t)arg };
	struct parcel *parcels[64] = { 0 };

	while (!churn_stop) {
		size_t i = rng_below(&rng, COUNT(parcels));

		parcel_open(parcels[i]);
		parcels[i] =
		    parcel_make(&rng, rng_below(&rng, 20) == 0 ? 200000 : rng_below(&rng, 3000));
	}
	for (size_t i = 0; i < COUNT(parcels); i++)
		parcel_open(parcels[i]);
	return NULL;
}

static void child_uses_heap(void)
{
	struct rng rng = { 1 };
	struct parcel *parcels[100];

	for (size_t i = 0; i < COUNT(parcels); i++)
		parcels[i] = parcel_make(&rng, i * 100);
	for (size_t i = 0; i < COUNT(parcels); i++)
		parcel_open(parcels[i]);
	heap_free(heap_malloc(1 << 20));
}

static void fork_and_wait(void (*run)(void))
{
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		alarm(20);
		run();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_THAT(status == 0, "the child ended with wait status %#x", (unsigned)status);
}

static void fork_under_load(void)
{
	pthread_t threads[4];

	for (size_t i = 0; i < COUNT(threads); i++)
		thread_start(&threads[i], churn_thread, (void *)(i + 1));
	for (int i = 0; i < FEWER(200); i++)
		fork_and_wait(child_uses_heap);
	churn_stop = true;
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *first_use_thread(void *arg)
{
	heap_free(heap_malloc(100));
	return arg;
}

static void first_use_race(void)
{
	pthread_t thread;

	thread_start(&thread, first_use_thread, NULL);
	fork_and_wait(child_uses_heap);
	CHECK(pthread_join(thread, NULL) == 0);
}

/* The heap sets itself up in one thread while another forks. */
static void fork_at_first_use(void)
{
	for (int i = 0; i < FEWER(200); i++)
		fork_and_wait(first_use_race);
}

static pthread_barrier_t parked;

static void *parked_thread(void *arg)
{
	void *block = heap_malloc(100);

	pthread_barrier_wait(&parked);
	pthread_barrier_wait(&parked);
	heap_free(block);
	return arg;
}

/* A thousand threads that have used the heap must not make fork slow. */
static void fork_beside_many(void)
{
	enum { THREADS = FEWER(1000), FORKS = 20 };
	pthread_t threads[THREADS];
	struct timespec start, end;
	pthread_attr_t small;

	CHECK(pthread_barrier_init(&parked, NULL, THREADS + 1) == 0);
	CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 256 << 10) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], &small, parked_thread, NULL) == 0);
	pthread_barrier_wait(&parked);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < FORKS; i++)
		fork_and_wait(child_uses_heap);
	clock_gettime(CLOCK_MONOTONIC, &end);
	pthread_barrier_wait(&parked);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);

	double ms = ((double)(end.tv_sec - start.tv_sec) * 1e3 +
	             (double)(end.tv_nsec - start.tv_nsec) / 1e6) /
	            FORKS;

	dprintf(1, "%.2f ms per fork beside %d threads\n", ms, THREADS);
	CHECK(ms < 250);
}

/* ---- the end of a thread ---- */

/* Every key a program may make is free for it, and their destructors, which run
 * late, use the heap. */
static pthread_key_t last_key;
static atomic_int destructor_rounds;

static void key_destructor(void *value)
{
	heap_free(value);
	value = heap_malloc(200);
	memset(value, 1, 200);
	/* Again, up to the last round that there is. */
	if (++destructor_rounds < PTHREAD_DESTRUCTOR_ITERATIONS)
		CHECK(pthread_setspecific(last_key, value) == 0);
	else
		heap_free(value);
}

static void *key_thread(void *arg)
{
	CHECK(pthread_setspecific(last_key, heap_malloc(100)) == 0);
	return arg;
}

static void thread_keys(void)
{
	pthread_key_t taken;
	pthread_t thread;
	size_t keys = 0;

	heap_free(heap_malloc(100));
	thread_start(&thread, first_use_thread, NULL);
	CHECK(pthread_join(thread, NULL) == 0);
	while (pthread_key_create(&taken, key_destructor) == 0) {
		last_key = taken;
		keys++;
	}
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which take one */
	CHECK_THAT(keys == PTHREAD_KEYS_MAX, "%zu keys", keys);
#endif
	thread_start(&thread, key_thread, NULL);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destructor_rounds == PTHREAD_DESTRUCTOR_ITERATIONS);
}

/* What a C++ compiler calls for a thread_local object with a destructor. */
int __cxa_thread_atexit_impl(void (*run)(void *), void *object, void *module);
extern void *__dso_handle;

static void late_free(void *block)
{
	heap_free(block);
	block = heap_realloc(heap_malloc(10), 5000);
	CHECK(block != NULL);
	heap_free(block);
}

/* A thread whose only use of the heap is late. */
static void *late_thread(void *arg)
{
	CHECK(__cxa_thread_atexit_impl(late_free, arg, &__dso_handle) == 0);
	return NULL;
}

static void *late_again_thread(void *arg)
{
	CHECK(__cxa_thread_atexit_impl(late_free, heap_malloc(100), &__dso_handle) == 0);
	return late_thread(arg);
}

static void late_destructors(void)
{
	size_t live = 0;

	for (int i = 0; i < FEWER(500); i++) {
		pthread_t thread;

		thread_start(&thread, i % 2 == 0 ? late_thread : late_again_thread,
		             heap_malloc(3000));
		CHECK(pthread_join(thread, NULL) == 0);
		if (i == 10)
			live = heap_mallinfo2().uordblks;
	}
	CHECK_THAT(heap_mallinfo2().uordblks <= live + 4096, "%zu bytes live, %zu after 10 threads",
	           heap_mallinfo2().uordblks, live);
}

/* ---- frees by a thread that never allocates ---- */

static void *free_thread(void *arg)
{
	struct parcel **parcels = arg;

	for (size_t i = 0; parcels[i] != NULL; i++)
		parcel_open(parcels[i]);
	return NULL;
}

static void freed_elsewhere(void)
{
	static struct parcel *parcels[20001];
	struct rng rng = { 3 };
	size_t arena = 0;

	for (int round = 0; round < FEWER(50); round++) {
		pthread_t thread;

		for (size_t i = 0; i + 1 < COUNT(parcels); i++)
			parcels[i] = parcel_make(&rng, i % 500);
		thread_start(&thread, free_thread, parcels);
		CHECK(pthread_join(thread, NULL) == 0);
		if (round == 1)
			arena = heap_mallinfo2().arena;
	}
	CHECK_THAT(heap_mallinfo2().arena <= arena + (1 << 20), "%zu bytes of arenas, %zu at first",
	           heap_mallinfo2().arena, arena);
}

/* One thread takes, another frees, through a ring; both at full speed. */
static _Atomic(struct parcel *) ring[256];

static void *ring_reader(void *arg)
{
	unsigned long count = (uintptr_t)arg;

	for (unsigned long i = 0; i < count; i++) {
		struct parcel *parcel;

		while ((parcel = atomic_exchange(&ring[i % COUNT(ring)], NULL)) == NULL)
			sched_yield();
		parcel_open(parcel);
	}
	return NULL;
}

static void producer_consumer(void)
{
	unsigned long count = FEWER(300000);
	struct rng rng = { 4 };
	pthread_t reader;

	thread_start(&reader, ring_reader, (void *)count);
	for (unsigned long i = 0; i < count; i++) {
		struct parcel *parcel = parcel_make(&rng, rng_below(&rng, 400));

		while (atomic_load(&ring[i % COUNT(ring)]) != NULL)
			sched_yield();
		atomic_store(&ring[i % COUNT(ring)], parcel);
	}
	CHECK(pthread_join(reader, NULL) == 0);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "storm", storm, 120 },
		{ "fork_under_load", fork_under_load, 120 },
		{ "fork_at_first_use", fork_at_first_use, 60 },
		{ "fork_beside_many", fork_beside_many, 60 },
		{ "thread_keys", thread_keys, 20 },
		{ "late_destructors", late_destructors, 60 },
		{ "freed_elsewhere", freed_elsewhere, 120 },
		{ "producer_consumer", producer_consumer, 120 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
