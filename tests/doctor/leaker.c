/*
 * A process for the doctor to look at that has lost blocks, or seems to have: it
 * allocates by a scenario on libc's malloc and tells what it has lost.
 *
 *   leaker SCENARIO [number ...]
 *
 * It writes one line to stdout, "ready name=value ...", and waits for a letter:
 * bytes are of whole blocks, with their headers.
 */
#include <cede/cede.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096ul

static _Atomic size_t lost_blocks, lost_bytes, indirect_blocks, indirect_bytes;

static void tell(void)
{
	char line[256];
	int length = snprintf(line, sizeof(line), "ready blocks=%zu bytes=%zu indirect_blocks=%zu "
	                      "indirect_bytes=%zu\n", lost_blocks, lost_bytes, indirect_blocks,
	                      indirect_bytes);

	if (write(1, line, (size_t)length) != length)
		_exit(1);
}

static void wait_for_letter(void)
{
	char letter;

	if (read(0, &letter, 1) != 1)
		_exit(0);
}

/* What its callers left below the stack pointer is overwritten. */
static __attribute__((noinline)) void stack_scrub(void)
{
	volatile char over[32768];

	for (size_t i = 0; i < sizeof(over); i++)
		over[i] = 0;
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static __attribute__((noinline)) void *take(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	memset(block, 'a', malloc_usable_size(block));
	return block;
}

/* cede's, when it runs on that. */
__attribute__((weak)) int cede_stats(struct cede_stats *stats, size_t size);

/* Whether blocks to 8 KiB have no headers. */
static bool has_slabs(void)
{
	struct cede_stats stats;

	return cede_stats && cede_stats(&stats, sizeof(stats)) == 0 &&
	       stats.policy == CEDE_POLICY_DEFAULT;
}

static size_t block_bytes(void *block)
{
	size_t usable = malloc_usable_size(block);
	static int slabs = -1;

	if (slabs < 0)
		slabs = has_slabs();
	if (slabs && usable <= 8192)
		return usable;
	/* A mapping of its own goes on to a page's end. */
	if (((size_t *)block)[-1] & 2)
		return (((size_t)block + usable + PAGE - 1) & ~(PAGE - 1)) - (size_t)block + 16;
	return usable + 8;
}

static void lost_count(void *block)
{
	lost_blocks++;
	lost_bytes += block_bytes(block);
}

static void indirect_count(void *block)
{
	indirect_blocks++;
	indirect_bytes += block_bytes(block);
}

/* --- planted among blocks in use --- */

static void *kept[100000];

static size_t random_size(uint64_t *random)
{
	size_t most = random_next(random) % 16 == 0 ? 200000 : random_next(random) % 4 ? 600 : 20000;

	return random_next(random) % most + 1;
}

/* One in two blocks is lost, some of both are freed again. */
static __attribute__((noinline)) void plant(long count, uint64_t seed, void **slots)
{
	uint64_t random = seed * 2654435761u + 1;

	for (long i = 0; i < count; i++) {
		void *lost = take(random_size(&random));

		slots[i] = take(random_size(&random));
		lost_count(lost);
		free(take(random_size(&random)));
		if (i % 7 == 0) {
			free(slots[i]);
			slots[i] = NULL;
		}
	}
}

static void planted(const long *numbers)
{
	plant(numbers[0], (uint64_t)numbers[1], kept);
}

static pthread_barrier_t parked;

static void *planting_main(void *argument)
{
	plant(200, (uintptr_t)argument, kept + 1000 * (uintptr_t)argument);
	stack_scrub();
	pthread_barrier_wait(&parked);
	for (;;)
		pause();
	return NULL;
}

static void planted_by_threads(const long *numbers)
{
	pthread_barrier_init(&parked, NULL, (unsigned)numbers[0] + 1);
	for (long i = 1; i <= numbers[0]; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, planting_main, (void *)i) != 0)
			abort();
	}
	pthread_barrier_wait(&parked);
}

/* --- lost with what leads to them --- */

struct node {
	struct node *next;
	struct node *other;
};

static __attribute__((noinline)) struct node *chain(long count, struct node *last)
{
	struct node *first = last;

	for (long i = 0; i < count; i++) {
		struct node *node = take(sizeof(*node));

		*node = (struct node){ first, NULL };
		first = node;
	}
	return first;
}

static __attribute__((noinline)) void chain_count(struct node *first, struct node *last)
{
	lost_count(first);
	for (struct node *node = first->next; node && node != last; node = node->next)
		indirect_count(node);
}

/* Lists, a ring, two lists with one end, and a list that lies in descending order. */
static __attribute__((noinline)) void groups(const long *numbers)
{
	struct node *first = chain(numbers[0], NULL), *ring = chain(numbers[0], NULL), *last, *next;

	chain_count(first, NULL);
	for (last = ring; last->next; last = last->next)
		;
	last->next = ring;
	chain_count(ring, ring);

	last = chain(numbers[0], NULL);
	first = chain(5, last);
	chain_count(first, NULL);
	chain_count(chain(7, last), last);

	first = NULL;
	next = NULL;
	for (long i = 0; i < numbers[0]; i++) {
		struct node *node = take(sizeof(*node));

		*node = (struct node){ NULL, NULL };
		if (!first)
			first = node;
		else
			next->next = node;
		next = node;
	}
	chain_count(first, NULL);
	/* What is in use leads to what is in use, and the lost ones lead there as well. */
	kept[0] = chain(100, NULL);
	first->other = kept[0];
}

/* --- led to from one place alone --- */

#define EACH 20

static void *in_data[EACH] = { in_data };
static __thread void *in_thread[EACH];
static volatile uint64_t *anonymous, *read_only, *from_break, *shared;

static __attribute__((noinline)) void fill(volatile uint64_t *places, size_t offset)
{
	for (size_t i = 0; i < EACH; i++)
		places[i] = (uint64_t)take(64 + 16 * i) + offset;
}

static void *placing_main(void *unused)
{
	volatile uint64_t on_stack[EACH];

	(void)unused;
	fill(on_stack, 0);
	fill((volatile uint64_t *)in_thread, 0);
	stack_scrub();
	pthread_barrier_wait(&parked);
	for (;;)
		pause();
	return (void *)on_stack[0];
}

static volatile uint64_t *pages_take(int flags)
{
	void *pages = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (pages == MAP_FAILED)
		abort();
	return pages;
}

static __attribute__((noinline)) void places_fill(void)
{
	size_t *ends = take(EACH * sizeof(*ends));

	fill((volatile uint64_t *)in_data, 0);
	fill((volatile uint64_t *)in_thread, 0);
	fill((volatile uint64_t *)kept, 0);
	fill(anonymous = pages_take(MAP_PRIVATE), 0);
	fill(shared = pages_take(MAP_SHARED), 0);
	fill(read_only = pages_take(MAP_PRIVATE), 0);
	mprotect((void *)read_only, PAGE, PROT_READ);
	/* The heap goes on behind it. */
	fill(from_break = sbrk(PAGE), 0);
	for (size_t i = 0; i < 3; i++)
		kept[400 + i] = take(100000);
	/* Into the middle, and to the last byte, which lies in the next chunk. */
	fill((volatile uint64_t *)kept + 100, 40);
	for (size_t i = 0; i < EACH; i++)
		kept[200 + i] = (char *)take(24 + 16 * i) + 24 + 16 * i - 1;
	/* From the last word of a block, which lies in the next chunk. */
	kept[300] = ends;
	for (size_t i = 0; i < EACH; i++) {
		size_t *block = take(24);

		ends[i] = (size_t)block;
		block[2] = (size_t)take(100);
	}
	/* A mapping of its own, and from its last word. */
	kept[301] = take(400000);
	((void **)kept[301])[malloc_usable_size(kept[301]) / 8 - 1] = take(77);
	/* Aligned: a header lies before. */
	kept[302] = memalign(65536, 300000);
	*(void **)kept[302] = take(78);
}

static volatile int spinning;

/* In registers alone, a general one and half of a vector, of a thread in no call. */
static void *registers_main(void *unused)
{
	uint64_t vector = ~(uint64_t)take(2016), general = (uint64_t)take(2000);

	(void)unused;
	stack_scrub();
	__asm__ volatile("notq %0\n\t"
	                 "movq %0, %%xmm7\n\t"
	                 "pslldq $8, %%xmm7\n\t"
	                 "xorl %k0, %k0\n\t"
	                 "movl $1, %2\n"
	                 "1:\tpause\n\t"
	                 "jmp 1b"
	                 : "+r"(vector), "+r"(general), "=m"(spinning) : : "xmm7");
	return NULL;
}

static void places(const long *numbers)
{
	pthread_t thread;

	(void)numbers;
	places_fill();
	pthread_barrier_init(&parked, NULL, 2);
	if (pthread_create(&thread, NULL, placing_main, NULL) != 0 ||
	    pthread_create(&thread, NULL, registers_main, NULL) != 0)
		abort();
	pthread_barrier_wait(&parked);
	while (!spinning)
		usleep(100);
}

/* --- led to by what does not count --- */

/* Deeper than what is called later will be. */
static __attribute__((noinline)) void below_stack(void)
{
	volatile uint64_t deep[EACH + 1024], *dead = deep;

	deep[EACH] = 0;
	fill(dead, 0);
	for (size_t i = 0; i < EACH; i++)
		lost_count((void *)dead[i]);
}

/* Deeper than what is overwritten at the end. */
static __attribute__((noinline)) void far_below_stack(void)
{
	volatile char deep[65536];

	deep[0] = 0;
	below_stack();
	deep[1] = deep[0];
}

static void *dead_main(void *unused)
{
	(void)unused;
	below_stack();
	pthread_barrier_wait(&parked);
	for (;;)
		pause();
	return NULL;
}

/* From freed blocks: in bins, in a cache, and those whose neighbour a bin leads to. */
static __attribute__((noinline)) void from_freed(void)
{
	void **fences[EACH], **large[EACH], **small[EACH];

	for (size_t i = 0; i < EACH; i++) {
		large[i] = take(3000);
		fences[i] = take(40);
		small[i] = take(120);
		large[i][10] = take(50);
		small[i][10] = take(50);
		lost_count(large[i][10]);
		lost_count(small[i][10]);
	}
	for (size_t i = 0; i < EACH; i++) {
		void *before = take(3000);
		void *after = take(3000);

		kept[i] = take(40);
		/* The bin's address of `after` is that of the last word of `before`. */
		free(after);
		lost_count(before);
	}
	for (size_t i = 0; i < EACH; i++) {
		free(large[i]);
		free(small[i]);
		kept[EACH + i] = fences[i];
	}
	memset(fences, 0, sizeof(fences));
	memset(large, 0, sizeof(large));
	memset(small, 0, sizeof(small));
}

static void dead(const long *numbers)
{
	pthread_t thread;

	(void)numbers;
	from_freed();
	far_below_stack();
	pthread_barrier_init(&parked, NULL, 2);
	if (pthread_create(&thread, NULL, dead_main, NULL) != 0)
		abort();
	pthread_barrier_wait(&parked);
}

/* --- a cache whose table lies in a chunk that was larger --- */

static void *freeing_main(void *unused)
{
	void *blocks[EACH];

	(void)unused;
	for (size_t i = 0; i < EACH; i++)
		blocks[i] = take(100);
	for (size_t i = 0; i < EACH; i++)
		if (i < 5)
			free(blocks[i]);
		else
			kept[i] = blocks[i];
	memset(blocks, 0, sizeof(blocks));
	stack_scrub();
	pthread_barrier_wait(&parked);
	for (;;)
		pause();
	return NULL;
}

/* The only free chunk that a thread finds has so many bytes. */
static void larger_table(const long *numbers)
{
	void *blocks[16];
	pthread_t thread;

	for (size_t i = 0; i < 16; i++) {
		blocks[i] = take((size_t)numbers[0]);
		kept[EACH + i] = take(24);
	}
	for (size_t i = 0; i < 16; i++)
		free(blocks[i]);
	memset(blocks, 0, sizeof(blocks));
	pthread_barrier_init(&parked, NULL, 2);
	if (pthread_create(&thread, NULL, freeing_main, NULL) != 0)
		abort();
	pthread_barrier_wait(&parked);
}

/* --- many --- */

static void many(const long *numbers)
{
	struct node *first = NULL;
	uint64_t random = 1;

	/* One list through all, in the order of addresses or in none. */
	if (!numbers[1]) {
		kept[0] = chain(numbers[0], NULL);
		return;
	}
	struct node **all = mmap(NULL, (size_t)numbers[0] * sizeof(*all), PROT_READ | PROT_WRITE,
	                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (long i = 0; i < numbers[0]; i++)
		all[i] = take(sizeof(struct node));
	for (long i = numbers[0] - 1; i > 0; i--) {
		size_t other = random_next(&random) % (size_t)i;
		struct node *node = all[i];

		all[i] = all[other];
		all[other] = node;
	}
	for (long i = 0; i < numbers[0]; i++) {
		*all[i] = (struct node){ first, NULL };
		first = all[i];
	}
	munmap(all, (size_t)numbers[0] * sizeof(*all));
	kept[0] = first;
}

static const struct {
	const char *name;
	void (*perform)(const long *numbers);
} scenarios[] = {
	{ "planted", planted }, { "threads", planted_by_threads }, { "groups", groups },
	{ "places", places }, { "dead", dead }, { "table", larger_table },
	{ "many", many },
};

int main(int argc, char **argv)
{
	long numbers[4] = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 2; i < argc && i < 6; i++)
		numbers[i - 2] = atol(argv[i]);
	for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (!strcmp(argv[1], scenarios[i].name)) {
			scenarios[i].perform(numbers);
			stack_scrub();
			tell();
			wait_for_letter();
			return 0;
		}
	return 2;
}
