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
#include <unistd.h>

#define PAGE 4096ul
#define THREADS_MOST 64
#define SLOTS 20000

static void tell(const char *format, ...)
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

static void info_tell(const char *step)
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

static void step(const char *name)
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

static void *take(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	memset(block, 'a', size);
	sink = block;
	return block;
}

static uint64_t random_next(uint64_t *state)
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
	for (int i = 0; i < 2; i++) {
		for (; count < numbers[i]; count++)
			take(1000);
		step(i ? "grown" : "begun");
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

static void threads_start(long count, long operations, size_t slots, uint64_t seed)
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

static void threads(const long *numbers)
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

static void chance(const long *numbers)
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

static void churn(const long *numbers)
{
	struct sigaction action = { .sa_handler = signal_count, .sa_flags = SA_RESTART };
	pthread_t thread;
	char command;

	sigaction(SIGRTMIN, &action, NULL);
	for (long i = 0; i < numbers[0]; i++)
		if (pthread_create(&thread, NULL, churn_main, (void *)i) != 0)
			abort();
	tell("churning\n");
	/* Each letter is answered with the turns of the thread that has made the fewest, and
	 * the signals that came. */
	while (read(0, &command, 1) == 1) {
		uint64_t least = UINT64_MAX;

		for (long i = 0; i < numbers[0]; i++)
			least = turns[i] < least ? turns[i] : least;
		tell("turns %lu %d\n", least, signals);
	}
	_exit(0);
}

/* --- corrupted --- */

static void garble(void *begin, size_t size, long count, uint64_t *random)
{
	while (count--)
		((char *)begin)[random_next(random) % size] = (char)random_next(random);
}

/* Words that look like a heap's: sizes, flags, addresses in the heap. */
static void forge(void *begin, size_t size, long count, void *heap, uint64_t *random)
{
	while (count--) {
		uint64_t word = random_next(random) % 3 ? random_next(random) % 0x2000 :
		                (uint64_t)heap + random_next(random) % 0x100000;

		((uint64_t *)begin)[random_next(random) % (size / 8)] =
			random_next(random) % 2 ? word & ~15ul : word | 1;
	}
}

static void *page_of(const void *address)
{
	return (void *)((uintptr_t)address & ~(PAGE - 1));
}

static void broken(const long *numbers)
{
	size_t *all[1000];
	uint64_t random = (uint64_t)numbers[1] * 2654435761u + 1;
	char *arena;

	if (numbers[0] >= 14)
		threads_start(3, 3000, 1000, 5);
	for (int i = 0; i < 1000; i++)
		all[i] = take(i % 2 ? 2000 : 100);
	for (int i = 1; i < 1000; i += 4)
		free(all[i]);
	for (int i = 500; i < 520; i += 2)
		free(all[i]);
	info_tell("whole");
	/* The last one freed leads back to the head of the arena's first list. */
	arena = (char *)all[997][1];
	switch (numbers[0]) {
	case 0:                      /* a size that leads out of the heap */
		all[300][-1] = 0x7ffffffff1;
		break;
	case 1:                      /* a size of zero */
		all[300][-1] = 1;
		break;
	case 2:                      /* a free block's list that bites its tail */
		all[401][0] = (size_t)(all[401] - 2);
		break;
	case 3:                      /* a list to nowhere */
		all[401][0] = 0x4141414141414141;
		break;
	case 4:                      /* a cache's list that leads into a live block */
		all[512][0] = (size_t)all[512] >> 12 ^ ((size_t)all[2] + 32);
		break;
	case 5:                      /* two neighbours that tell different sizes */
		all[402][-2] = 64;
		break;
	case 6:                      /* a list that does not lead back */
		all[401][1] += 16;
		break;
	case 7:                      /* a fast bin's list that bites its tail */
		all[518][0] = (size_t)all[518] >> 12 ^ (size_t)(all[518] - 2);
		break;
	case 8:                      /* a free block in no list: its neighbours pass it by */
		((size_t *)all[405][0])[3] = all[405][1];
		((size_t *)all[405][1])[2] = all[405][0];
		break;
	case 9:                      /* a free block in the list for another size */
		((size_t *)all[405][0])[3] = all[405][1];
		((size_t *)all[405][1])[2] = all[405][0];
		all[405][0] = all[405][1] = (size_t)(arena + 4 * 16);
		((size_t *)all[405][0])[2] = ((size_t *)all[405][0])[3] = (size_t)(all[405] - 2);
		break;
	case 10:                     /* a block in a cache's list for another size */
		all[512][0] = (size_t)all[512] >> 12 ^ (size_t)all[3];
		all[3][0] = (size_t)all[3] >> 12;
		break;
	case 17:                     /* a cache's list that bites its tail */
		all[512][0] = (size_t)all[512] >> 12 ^ (size_t)all[512];
		break;
	case 16:                     /* nothing, but that a thread seems to be inside */
		*(int *)(arena - 96) = 1;
		break;
	case 11:                     /* anything, in the heap */
		garble(all[0], 1000000, numbers[2], &random);
		break;
	case 12:                     /* in the arena and the parameters around it */
		garble(page_of(arena), 2 * PAGE, numbers[2], &random);
		break;
	case 13:                     /* the same, with words that could be right */
		forge(page_of(arena), 2 * PAGE, numbers[2], all[0], &random);
		break;
	case 14:                     /* in the heaps of other arenas */
		for (int i = 0; i < 3; i++)
			for (size_t slot = 0; slot < 1000; slot++)
				/* Not a mapping of its own. */
				if (workers[i]->slots[slot] &&
				    ((size_t *)workers[i]->slots[slot])[-1] & 4)
					forge((void *)((uintptr_t)workers[i]->slots[slot] &
					      ~((64ul << 20) - 1)), 2 * PAGE, 1, all[0], &random);
		break;
	default:                     /* in all the heap */
		forge(page_of(all[0]), 1000000, numbers[2], all[0], &random);
	}
	/* No more than this may work. */
	if (write(1, "broken\n", 7) != 7)
		_exit(1);
	for (;;)
		pause();
}

/* --- start --- */

static const struct {
	const char *name;
	void (*perform)(const long *numbers);
} scenarios[] = {
	{ "blocks", blocks }, { "list", list }, { "pin", pin }, { "sparse", sparse },
	{ "growing", growing },
	{ "foreign", foreign }, { "blocked", blocked }, { "threads", threads },
	{ "chance", chance }, { "orphan", orphan }, { "shape", shape }, { "churn", churn },
	{ "broken", broken },
};

int main(int argc, char **argv)
{
	long numbers[6] = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 2; i < argc && i < 8; i++)
		numbers[i - 2] = atol(argv[i]);
	for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (!strcmp(argv[1], scenarios[i].name)) {
			scenarios[i].perform(numbers);
			return 0;
		}
	return 2;
}
