/*
 * A process for the doctor to look at: it allocates by a scenario on libc's malloc,
 * and tells at each step what its own mallinfo2 says.
 *
 *   target SCENARIO [number ...]
 *
 * At each step it writes one line to stdout, "STEP name=value ...", the fields of
 * mallinfo2, and waits for commands on stdin, a letter each:
 *
 *   g   go on to the next step; after the last one, exit with status 0
 *   t   malloc_trim(0); answered by "trimmed RESULT"
 *   i   the line again
 *
 * It allocates nothing but what its scenario says.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "doctor/target.h"

#define NUMBERS 6          /* that a scenario may have */

void tell(const char *format, ...)
{
	char line[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(1, line, (size_t)length) != length)
		_exit(1);
}

void info_tell(const char *step)
{
#if __GLIBC_PREREQ(2, 33)
	struct mallinfo2 m = mallinfo2();
#else
	struct mallinfo m = mallinfo();
#endif

	tell("%s arena=%zu ordblks=%zu smblks=%zu hblks=%zu hblkhd=%zu fsmblks=%zu uordblks=%zu "
	     "fordblks=%zu keepcost=%zu\n", step, (size_t)m.arena, (size_t)m.ordblks,
	     (size_t)m.smblks, (size_t)m.hblks, (size_t)m.hblkhd, (size_t)m.fsmblks,
	     (size_t)m.uordblks, (size_t)m.fordblks, (size_t)m.keepcost);
}

void step(const char *name)
{
	char command;

	info_tell(name);
	for (;;) {
		if (read(0, &command, 1) != 1)
			_exit(0);
		if (command == 'g')
			return;
		if (command == 't')
			tell("trimmed %d\n", malloc_trim(0));
		if (command == 'i')
			info_tell(name);
	}
}

/* The compiler would leave out a block that nobody reads. */
static void *volatile sink;

void *take(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	memset(block, 'a', size);
	sink = block;
	return block;
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* --- the articles' programs --- */

static void blocks(const long *numbers)
{
	size_t size = (size_t)numbers[0], count = (size_t)numbers[1] / size;
	char **all = take(count * sizeof(*all));

	step("start");
	for (size_t i = 0; i < count; i++)
		all[i] = take(size);
	step("allocated");
	for (size_t i = 0; i < count; i++)
		free(all[i]);
	step("freed");
	free(all);
	step("cleared");
}

struct node {
	struct node *next, *previous;
	char *block;
};

static void list(const long *numbers)
{
	struct node *first = NULL;

	step("start");
	for (long i = 0; i < numbers[0]; i++) {
		char *block = take(65536);
		struct node *node = take(sizeof(*node));

		*node = (struct node){ first, NULL, block };
		first = node;
	}
	step("allocated");
	for (struct node *node = first; node; node = node->next)
		free(node->block);
	step("freed");
	for (struct node *node = first, *next; node; node = next) {
		next = node->next;
		free(node);
	}
	step("cleared");
}

static void pin(const long *numbers)
{
	char **all = take((size_t)numbers[0] * sizeof(*all));

	step("start");
	for (long i = 0; i < numbers[0]; i++)
		all[i] = take(4096);
	take(1);
	step("allocated");
	for (long i = 0; i < numbers[0]; i++)
		free(all[i]);
	step("freed");
}

/* One in so many small blocks stays. */
static void sparse(const long *numbers)
{
	size_t count = (size_t)numbers[0];
	char **all = take(count * sizeof(*all));

	for (size_t i = 0; i < count; i++)
		all[i] = take(100);
	step("allocated");
	for (size_t i = 0; i < count; i++)
		if (i % (size_t)numbers[1])
			free(all[i]);
	step("freed");
}

/* So many blocks, then more, all of them kept. */
static void growing(const long *numbers)
{
	long count = 0;

	step("start");
	for (int i = 0; i < NUMBERS && numbers[i]; i++) {
		for (; count < numbers[i]; count++)
			take(1000);
		step("grown");
	}
}

/* --- the break in others' hands --- */

static void foreign(const long *numbers)
{
	uint64_t random = (uint64_t)numbers[0];

	for (int round = 0; round < 4; round++) {
		intptr_t bytes = (intptr_t)(random_next(&random) % 20000 + 1);
		char *taken;

		for (int i = 0; i < 300; i++) {
			char *block = take(random_next(&random) % 5000);

			if (i % 3)
				free(block);
		}
		taken = sbrk(bytes);
		memset(taken, (int)random, (size_t)bytes);
		/* Such as a chunk might begin with. */
		for (intptr_t at = 0; numbers[1] && at + 8 <= bytes; at += 8)
			memcpy(taken + at, &numbers[1], 8);
	}
	step("taken");
	for (int i = 0; i < 100; i++)
		free(take(3000 * (size_t)(i + 1)));
	take(100000);
	step("grown");
}

static void blocked(const long *numbers)
{
	char *last[200];

	if (numbers[0])
		free(take(100));
	if (mmap((char *)(((uintptr_t)sbrk(0) + PAGE - 1) & ~(PAGE - 1)), PAGE, PROT_READ,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		abort();
	for (int i = 0; i < 200; i++) {
		last[i] = take(100000);
		if (numbers[1])
			mmap(NULL, PAGE * (size_t)(i % 3), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	step("blocked");
	for (int i = 0; i < 200; i += 2)
		free(last[i]);
	step("freed");
}

/* Two mappings; one is freed, then the other, for one where it was. */
static void large(const long *numbers)
{
	char *first = take(64 << 20), *second = take(64 << 20);

	(void)numbers;
	step("allocated");
	free(first);
	step("freed");
	free(second);
	take(40 << 20);
	step("again");
}

/* So many MiB that no malloc knows of. */
static void elsewhere(const long *numbers)
{
	size_t bytes = (size_t)numbers[0] << 20;
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		abort();
	memset(pages, 'a', bytes);
	free(take(100));
	step("mapped");
}

/* --- threads that end, and those that wait --- */

static void *orphan_main(void *unused)
{
	void *blocks[2000];

	(void)unused;
	for (int i = 0; i < 2000; i++)
		blocks[i] = take((size_t)i);
	for (int i = 0; i < 2000; i += 3)
		free(blocks[i]);
	/* Until the first thread is gone. */
	usleep(20000);
	step("alone");
	_exit(0);
}

/* The first thread ends, the process goes on. */
static void orphan(const long *numbers)
{
	pthread_t thread;

	(void)numbers;
	free(take(5000));
	if (pthread_create(&thread, NULL, orphan_main, NULL) != 0)
		abort();
	pthread_exit(NULL);
}

/* Waits for a child in a way that nothing interrupts, until a letter comes. */
static void waiting(const long *numbers)
{
	char letter;

	(void)numbers;
	if (vfork() == 0) {
		info_tell("waits");
		_exit(read(0, &letter, 1) != 1);
	}
	step("went");
}

/* --- a heap of a given shape --- */

enum { KEEP_ALL, KEEP_LAST, KEEP_ONE_IN, KEEP_LATER, KEEP_NONE };

struct shape {
	size_t total, least, most;   /* bytes; of a block */
	long keep, number;
	uint64_t random;
	pthread_barrier_t *parked;
};

static bool shape_keeps(struct shape *shape, size_t block, size_t count)
{
	switch (shape->keep) {
	case KEEP_LAST:
		return block + 1 == count;
	case KEEP_ONE_IN:
		return random_next(&shape->random) % (uint64_t)shape->number == 0;
	case KEEP_LATER:
		return block >= count * (size_t)shape->number / 100;
	default:
		return shape->keep == KEEP_ALL;
	}
}

static void shape_make(struct shape *shape)
{
	size_t count = 0, room = shape->total / shape->least + 1;
	/* Not of the heap that is to have a shape. */
	void **blocks = mmap(NULL, room * sizeof(*blocks), PROT_READ | PROT_WRITE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t used = 0; used < shape->total && count < room; count++) {
		size_t size = shape->least +
		              random_next(&shape->random) % (shape->most - shape->least + 1);

		blocks[count] = take(size);
		used += size;
	}
	for (size_t i = 0; i < count; i++)
		if (!shape_keeps(shape, i, count))
			free(blocks[i]);
	munmap(blocks, room * sizeof(*blocks));
}

static void *shape_main(void *argument)
{
	struct shape *shape = argument;

	shape_make(shape);
	pthread_barrier_wait(shape->parked);
	for (;;)
		pause();
	return NULL;
}

/* MiB, least and most bytes of a block, what to keep and its number, threads. */
static void shape(const long *numbers)
{
	static struct shape shapes[THREADS_MOST];
	static pthread_barrier_t parked;
	long count = numbers[5] ? numbers[5] : 1;

	pthread_barrier_init(&parked, NULL, (unsigned)count);
	for (long i = 0; i < count; i++) {
		pthread_t thread;

		shapes[i] = (struct shape){
			.total = ((size_t)numbers[0] << 20) / (size_t)count,
			.least = (size_t)numbers[1], .most = (size_t)numbers[2], .keep = numbers[3],
			.number = numbers[4], .random = (uint64_t)i * 7919 + 17, .parked = &parked };
		if (i && pthread_create(&thread, NULL, shape_main, &shapes[i]) != 0)
			abort();
	}
	shape_make(&shapes[0]);
	pthread_barrier_wait(&parked);
	step("shaped");
}

/* --- start --- */

static const struct {
	const char *name;
	void (*perform)(const long *numbers);
} scenarios[] = {
	{ "blocks", blocks }, { "list", list }, { "pin", pin }, { "sparse", sparse },
	{ "growing", growing },
	{ "foreign", foreign }, { "blocked", blocked }, { "threads", threads },
	{ "chance", chance }, { "orphan", orphan }, { "waiting", waiting }, { "shape", shape },
	{ "churn", churn }, { "broken", broken }, { "hidden", hidden }, { "mappings", mappings },
	{ "impostor", impostor }, { "aligned", aligned }, { "crowd", crowd }, { "execs", execs }, { "forks", forks },
	{ "shared", shared }, { "cached", cached }, { "large", large }, { "elsewhere", elsewhere },
	{ "remains", remains }, { "waits", waits }, { "handler", handler },
	{ "stale", stale }, { "coroutine", coroutine }, { "small", small },
	{ "confined", confined }, { "guarding", guarding },
};

int main(int argc, char **argv)
{
	long numbers[NUMBERS] = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 2; i < argc && i < NUMBERS + 2; i++)
		numbers[i - 2] = atol(argv[i]);
	for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (!strcmp(argv[1], scenarios[i].name)) {
			scenarios[i].perform(numbers);
			return 0;
		}
	return 2;
}
