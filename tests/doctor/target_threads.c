/*
 * Scenarios of the doctor's target: threads, chance, and no rest.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "doctor/target.h"

#define SLOTS 20000

/* --- threads and chance --- */

struct worker {
	uint64_t random;
	long operations;
	void *slots[SLOTS];
	size_t slot_count;
	pthread_barrier_t *parked;
};

static size_t random_size(uint64_t *random)
{
	switch (random_next(random) % 16) {
	case 0:
		return random_next(random) % 300000;
	case 1: case 2: case 3:
		return random_next(random) % 20000;
	default:
		return random_next(random) % 600;
	}
}

static void *random_block(uint64_t *random)
{
	size_t size = random_size(random);

	switch (random_next(random) % 20) {
	case 0: {
		void *block = aligned_alloc(16ul << random_next(random) % 12, size);

		if (block)
			memset(block, 'a', size);
		return block;
	}
	case 1:
		return calloc(1, size);
	case 2:
		return malloc(size);     /* untouched */
	default:
		return take(size);
	}
}

static void worker_operate(struct worker *worker)
{
	for (long i = 0; i < worker->operations; i++) {
		size_t slot = random_next(&worker->random) % worker->slot_count;

		if (worker->slots[slot] && random_next(&worker->random) % 8 == 0) {
			worker->slots[slot] = realloc(worker->slots[slot],
			                              random_size(&worker->random) + 1);
		} else if (worker->slots[slot]) {
			free(worker->slots[slot]);
			worker->slots[slot] = NULL;
		} else {
			worker->slots[slot] = random_block(&worker->random);
		}
	}
	/* Some end with nearly all they had, others with little. */
	for (size_t i = 0, keep = random_next(&worker->random) % 4; i < worker->slot_count; i++)
		if (keep != 3 && random_next(&worker->random) % 100 >= keep * 30) {
			free(worker->slots[i]);
			worker->slots[i] = NULL;
		}
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;

	worker_operate(worker);
	pthread_barrier_wait(worker->parked);
	for (;;)
		pause();
	return NULL;
}

static struct worker *workers[THREADS_MOST];

void **threads_slots(long thread)
{
	return workers[thread]->slots;
}

void threads_start(long count, long operations, size_t slots, uint64_t seed)
{
	static pthread_barrier_t parked;
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	pthread_barrier_init(&parked, NULL, (unsigned)count + 1);
	for (long i = 0; i < count; i++) {
		pthread_t thread;

		workers[i] = mmap(NULL, sizeof(struct worker), PROT_READ | PROT_WRITE,
		                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*workers[i] = (struct worker){ .random = seed * 1000003 + (uint64_t)i * 7919 + 1,
		                               .operations = operations, .slot_count = slots,
		                               .parked = &parked };
		if (pthread_create(&thread, &attributes, worker_main, workers[i]) != 0)
			abort();
	}
	pthread_barrier_wait(&parked);
}

void threads(const long *numbers)
{
	threads_start(numbers[0], numbers[1], SLOTS / 4, 1);
	step("parked");
	/* Blocks of other arenas go to this thread's cache, or home. */
	for (long i = 0; i < numbers[0]; i++)
		for (size_t slot = 0; slot < workers[i]->slot_count; slot += 2) {
			free(workers[i]->slots[slot]);
			workers[i]->slots[slot] = NULL;
		}
	step("freed");
}

void chance(const long *numbers)
{
	static struct worker worker;
	uint64_t random = (uint64_t)numbers[0] * 2654435761u + 99;

	worker = (struct worker){ .random = random, .operations =
	                          (long)(random_next(&random) % 60000) };
	if (random_next(&random) % 4 == 0)
		mallopt(M_MXFAST, (int)(random_next(&random) % 161));
	if (random_next(&random) % 4 == 0)
		mallopt(M_MMAP_THRESHOLD, (int)(random_next(&random) % 200000));
	if (random_next(&random) % 4 == 0)
		mallopt(M_TRIM_THRESHOLD, (int)(random_next(&random) % 2000000));
	if (random_next(&random) % 6 == 0)
		mallopt(M_TOP_PAD, (int)(random_next(&random) % 1000000));
	worker.slot_count = random_next(&random) % SLOTS + 1;
	if (random_next(&random) % 3 == 0)
		threads_start((long)(random_next(&random) % 4 + 1), worker.operations / 2,
		              worker.slot_count / 4 + 1, (uint64_t)numbers[0] + 17);
	worker_operate(&worker);
	step("first");
	worker.operations = (long)(random_next(&random) % 10000);
	worker_operate(&worker);
	step("second");
}

/* --- threads that have freed, and wait --- */

#define CACHED_BLOCKS 100

static void *cached_main(void *parked)
{
	void *blocks[CACHED_BLOCKS];

	for (int i = 0; i < CACHED_BLOCKS; i++)
		blocks[i] = take(1000);
	for (int i = 0; i < CACHED_BLOCKS; i++)
		free(blocks[i]);
	pthread_barrier_wait(parked);
	for (;;)
		pause();
	return NULL;
}

/* Tells nothing of its heap, for that would empty the caches. */
void cached(const long *numbers)
{
	static pthread_barrier_t parked;
	pthread_t thread;
	char command;

	pthread_barrier_init(&parked, NULL, (unsigned)numbers[0] + 1);
	for (long i = 0; i < numbers[0]; i++)
		if (pthread_create(&thread, NULL, cached_main, &parked) != 0)
			abort();
	pthread_barrier_wait(&parked);
	tell("cached\n");
	while (read(0, &command, 1) == 1)
		if (command == 't')
			tell("trimmed %d\n", malloc_trim(0));
}

/* --- never still --- */

static volatile uint64_t turns[THREADS_MOST];
static volatile int signals;

static void signal_count(int number)
{
	(void)number;
	__atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
}

static void *churn_main(void *argument)
{
	uint64_t index = (uintptr_t)argument, random = index * 7919 + 1;
	void *slots[256] = { NULL };

	for (;;) {
		size_t slot = random_next(&random) % 256;

		free(slots[slot]);
		slots[slot] = malloc(random_size(&random));
		turns[index]++;
	}
	return NULL;
}

static uint64_t fewest_turns(long threads)
{
	uint64_t least = UINT64_MAX;

	for (long i = 0; i < threads; i++)
		least = turns[i] < least ? turns[i] : least;
	return least;
}

void churn(const long *numbers)
{
	struct sigaction action = { .sa_handler = signal_count, .sa_flags = SA_RESTART };
	pthread_t thread;
	char command;

	sigaction(SIGRTMIN, &action, NULL);
	for (long i = 0; i < numbers[0]; i++)
		if (pthread_create(&thread, NULL, churn_main, (void *)i) != 0)
			abort();
	/* Until all have filled their slots. */
	while (fewest_turns(numbers[0]) < 2000)
		usleep(1000);
	tell("churning\n");
	/* Each letter is answered with the turns of the thread that has made the fewest, and
	 * the signals that came. */
	while (read(0, &command, 1) == 1)
		tell("turns %lu %d\n", fewest_turns(numbers[0]), signals);
	_exit(0);
}
