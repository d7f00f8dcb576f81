/*
 * A process for `cede stats` to look at: brings its heap into a state, writes what its own
 * cede_stats says as one line of JSON, and waits for the end of its input.
 *
 *   stats_target STATE
 *
 * Built to be preloaded, and linked with the library for good.  Layer: tests.
 */
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cede/cede.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"
#include "support/process.h"

#define THREADS 4
#define BLOCKS  6000 /* of a thread */
#define MIB     ((size_t)1 << 20)

static struct cede_stats stats(void)
{
	int (*get)(struct cede_stats *, size_t);
	struct cede_stats now;

#ifdef LINKED
	get = cede_stats;
#else
	*(void **)&get = dlsym(RTLD_DEFAULT, "cede_stats");
#endif
	CHECK(get != NULL && get(&now, sizeof(now)) == 0);
	return now;
}

/* Two looks apart, between which nobody did anything. */
static struct cede_stats stats_at_rest(void)
{
	struct cede_stats before = stats(), now;

	for (int i = 0; i < 100; i++) {
		process_sleep_ms(300);
		now = stats();
		if (!memcmp(&before, &now, sizeof(now)))
			return now;
		before = now;
	}
	CHECK(!"the heap comes to rest");
	return before;
}

/* The fields as they follow one another. */
static void tell(const struct cede_stats *s)
{
	const uint64_t *values = &s->arenas;
	char line[2048];
	int used = snprintf(line, sizeof(line), "[%u, %u", s->policy, s->purger);

	for (size_t i = 0; i < sizeof(*s) / sizeof(*values) - 1; i++)
		used += snprintf(line + used, sizeof(line) - (size_t)used, ", %lu", values[i]);
	used += snprintf(line + used, sizeof(line) - (size_t)used, "]\n");
	CHECK(write(STDOUT_FILENO, line, (size_t)used) == used);
}

static pthread_barrier_t done;

/* Blocks of all kinds, of which about a third stays; twice, so that some pages come back. */
static void *mix(void *arg)
{
	struct rng rng = { (uintptr_t)arg + 1 };
	char **blocks = heap_calloc(BLOCKS, sizeof(*blocks));

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < BLOCKS; i++) {
			size_t size = rng_below(&rng, i % 50 == 0 ? 200000 : i % 7 == 0 ? 9000 : 600);

			if (blocks[i] == NULL)
				blocks[i] = memset(heap_malloc(size + 1), 1, size + 1);
		}
		for (size_t i = 0; i < BLOCKS; i++) {
			if (rng_below(&rng, 3) != 0) {
				heap_free(blocks[i]);
				blocks[i] = NULL;
			}
		}
		process_sleep_ms(700);
	}
	pthread_barrier_wait(&done);
	if (arg != NULL)
		for (;;)
			pause();
	return NULL;
}

static void mixed(unsigned threads)
{
	pthread_t id;

	pthread_barrier_init(&done, NULL, threads);
	for (uintptr_t i = 1; i < threads; i++)
		CHECK(pthread_create(&id, NULL, mix, (void *)i) == 0);
	(void)mix(NULL);
	CHECK(heap_malloc(40 * MIB) != NULL);
}

static void single(void)
{
	mixed(1);
}

static void threads(void)
{
	mixed(THREADS);
}

/* Each eighth block of 1000 bytes stays: no page is wholly free. */
static void pins(void)
{
	enum { COUNT = 16000 };
	static char *blocks[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		blocks[i] = memset(heap_malloc(1000), 1, 1000);
	for (size_t i = 0; i < COUNT; i++)
		if (i % 4 != 0)
			heap_free(blocks[i]);
}

/* All of it free. */
static void freed(void)
{
	enum { COUNT = 800 };
	static char *blocks[COUNT];

	for (size_t i = 0; i < COUNT; i++)
		blocks[i] = memset(heap_malloc(20000), 1, 20000);
	CHECK(heap_malloc(20000) != NULL);
	for (size_t i = 0; i < COUNT; i++)
		heap_free(blocks[i]);
}

/* The same, while nothing may go. */
static void locked(void)
{
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	freed();
}

/* And while no thread can be made. */
static void refused(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(rules) / sizeof(*rules), rules };

	(void)(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
	freed();
}

/* So that a thread's cache has what is too little to go. */
static void caches(void)
{
	static char *blocks[64];

	for (size_t i = 0; i < 64; i++)
		blocks[i] = heap_malloc(1000);
	for (size_t i = 0; i < 64; i++)
		heap_free(blocks[i]);
}

/* A pool that empties and fills, for ever. */
static void *cycle(void *arg)
{
	for (;;) {
		enum { COUNT = 1000 };
		static char *blocks[COUNT];

		for (size_t i = 0; i < COUNT; i++)
			blocks[i] = memset(heap_malloc(20000), 1, 20000);
		for (size_t i = 0; i < COUNT; i++)
			heap_free(blocks[i]);
		process_sleep_ms(arg != NULL ? 700 : 20);
	}
	return NULL;
}

static void busy(void)
{
	pthread_t id;

	CHECK(pthread_create(&id, NULL, cycle, NULL) == 0);
}

/* Slower than the purger waits: what goes is wanted again. */
static void slow(void)
{
	pthread_t id;

	CHECK(pthread_create(&id, NULL, cycle, (void *)1) == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*begin)(void);
		bool rests;
	} states[] = {
		{ "single", single, true }, { "threads", threads, true }, { "pins", pins, true },
		{ "freed", freed, true }, { "caches", caches, false }, { "busy", busy, false },
		{ "slow", slow, false }, { "locked", locked, false }, { "refused", refused, false },
	};
	struct cede_stats now = { 0 };
	char byte;

	for (size_t i = 0; argc == 2 && i < sizeof(states) / sizeof(*states); i++) {
		if (strcmp(argv[1], states[i].name))
			continue;
		states[i].begin();
		if (states[i].rests)
			now = stats_at_rest();
		tell(&now);
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
		return 0;
	}
	return 2;
}
