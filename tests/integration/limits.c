/*
 * What the system may refuse: address space, mappings, unlocked memory, system
 * calls, descriptors, processors.  The heap must go on, or say NULL.
 * Layer: tests.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"
#include "support/process.h"

#define MIB          ((size_t)1 << 20)
#define PAGE         4096u
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Allocates `count` blocks of up to `limit` bytes, checks and frees them. */
static void exercise(size_t count, size_t limit)
{
	void *blocks[1000];
	struct rng rng = { count };

	CHECK(count <= COUNT(blocks));
	for (size_t i = 0; i < count; i++) {
		size_t size = 1 + rng_below(&rng, limit);

		blocks[i] = i % 3 == 0 ? heap_calloc(1, size) : heap_malloc(size);
		CHECK_THAT(blocks[i] != NULL, "no memory for %zu bytes", size);
		pattern_fill(blocks[i], heap_usable_size(blocks[i]), i);
	}
	for (size_t i = 0; i < count; i++) {
		size_t usable = heap_usable_size(blocks[i]);

		CHECK(pattern_match(blocks[i], usable, i) == usable);
		heap_free(blocks[i]);
	}
}

static void *exercise_thread(void *arg)
{
	for (int i = 0; i < 20; i++)
		exercise(200, 10000);
	return arg;
}

static void exercise_in_threads(void)
{
	pthread_t threads[8];
	pthread_attr_t small;

	CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 256 << 10) == 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_create(&threads[i], &small, exercise_thread, NULL) == 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* Too little address space for an arena a thread: they share. */
static void address_space(void)
{
	struct rlimit limit = { 200 * MIB, 200 * MIB };
	int status;

	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	exercise_in_threads();
	errno = 0;
	CHECK(heap_malloc(300 * MIB) == NULL && errno == ENOMEM);
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		exercise(200, 10000);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Down to the last byte, then back up. */
static void out_of_memory(void)
{
	struct rlimit limit = { 150 * MIB, 150 * MIB };
	struct link {
		struct link *next;
		size_t size;
	} *first = NULL, *block;

	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	for (size_t size = 8 * MIB; size >= sizeof(struct link); size /= 2) {
		while ((block = heap_malloc(size)) != NULL) {
			*block = (struct link){ first, size };
			first = block;
		}
		CHECK(errno == ENOMEM);
	}
	CHECK(heap_realloc(first, 64 * MIB) == NULL && errno == ENOMEM);
	CHECK(heap_calloc(1, MIB) == NULL && errno == ENOMEM);
	while ((block = first) != NULL) {
		first = block->next;
		heap_free(block);
	}
	exercise(500, 20000);
}

/* Takes every mapping that the system allows. */
static void use_up_mappings(void)
{
	size_t pages = 140000, i = 0;
	char *region =
	    mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(region != MAP_FAILED);
	while (i < pages && mprotect(region + i * PAGE, PAGE, PROT_READ) == 0)
		i += 2;
	if (i >= pages)
		SKIP("this machine allows more mappings than the test makes");
}

/* No more mappings: even unmapping may fail.  What the heap has serves on. */
static void mapping_count(void)
{
	void *mapped[16], *held[1500], *pin;

	for (size_t i = 0; i < COUNT(mapped); i++)
		mapped[i] = heap_malloc(MIB);
	for (size_t i = 0; i < COUNT(held); i++)
		held[i] = memset(heap_malloc(20000), 1, 20000);
	pin = heap_malloc(20000);
	use_up_mappings();
	for (size_t i = 0; i < COUNT(held); i++)
		heap_free(held[i]);
	for (size_t i = 0; i < COUNT(mapped); i++)
		heap_free(mapped[i]);
	exercise(900, 30000);
	heap_free(heap_malloc(64 * MIB));
	process_sleep_ms(700);
	exercise(900, 30000);
	heap_trim(0);
	exercise(900, 30000);
	heap_free(pin);
}

static void locked_memory(void)
{
	char *block;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		SKIP("mlockall is not permitted");
	for (int round = 0; round < 3; round++) {
		for (size_t size = 1000; size < 32 * MIB; size *= 4) {
			void *pin;

			block = heap_malloc(size);
			memset(block, 0xff, size);
			pin = heap_malloc(100);
			heap_free(block);
			if (round > 0)
				heap_trim(0);
			if (round > 1)
				process_sleep_ms(300);
			block = heap_calloc(1, size);
			for (size_t i = 0; i < size; i++)
				CHECK(block[i] == 0);
			heap_free(block);
			heap_free(pin);
		}
	}
}

static void refuse_calls(const unsigned *numbers, size_t count)
{
	struct sock_filter code[64];
	struct sock_fprog program = { .filter = code };
	size_t at = 0;

	code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                                          offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < count; i++) {
		code[at++] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
		code[at++] =
		    (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)at;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		SKIP("no seccomp filters here");
}

static void churn_and_rest(void)
{
	static void *blocks[8000];

	for (size_t i = 0; i < COUNT(blocks); i++)
		blocks[i] = memset(heap_malloc(4000), 1, 4000);
	for (size_t i = 0; i < COUNT(blocks); i += 2)
		heap_free(blocks[i]);
	for (size_t i = 1; i < COUNT(blocks); i += 2)
		heap_free(blocks[i]);
	process_sleep_ms(700);
	exercise(900, 30000);
	heap_trim(0);
}

/* A sandbox without threads, files or the newer memory calls. */
static void system_calls_refused(void)
{
	static const unsigned refused[] = { SYS_clone,      SYS_clone3,     SYS_fork,
		                            SYS_vfork,      SYS_open,       SYS_openat,
		                            SYS_openat2,    SYS_membarrier, SYS_process_madvise,
		                            SYS_pidfd_open, SYS_prctl,      SYS_sched_getaffinity,
		                            SYS_getrandom };

	refuse_calls(refused, COUNT(refused));
	churn_and_rest();
}

/* Nor may memory be given back. */
static void giving_back_refused(void)
{
	static const unsigned refused[] = { SYS_madvise, SYS_process_madvise, SYS_munmap };

	refuse_calls(refused, COUNT(refused));
	churn_and_rest();
	heap_free(heap_malloc(4 * MIB));
	exercise(100, 1000000);
}

static void descriptors_closed(void)
{
	/* No CHECK can be heard from here on: the exit status speaks. */
	CHECK(close_range(0, ~0u, 0) == 0);
	churn_and_rest();
	CHECK(close_range(0, ~0u, 0) == 0);
	churn_and_rest();
}

static void affinity_changes(void)
{
	cpu_set_t all, one;

	CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
		exercise(200, 10000);
		exercise_in_threads();
	}
	CHECK(sched_setaffinity(0, sizeof(all), &all) == 0);
	exercise_in_threads();
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "address_space", address_space, 60 },
		{ "out_of_memory", out_of_memory, 60 },
		{ "mapping_count", mapping_count, 60 },
		{ "locked_memory", locked_memory, 60 },
		{ "system_calls_refused", system_calls_refused, 60 },
		{ "giving_back_refused", giving_back_refused, 60 },
		{ "descriptors_closed", descriptors_closed, 60 },
		{ "affinity_changes", affinity_changes, 60 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
