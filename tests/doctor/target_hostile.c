/*
 * Scenarios of the doctor's target: processes that are hard to look at.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor/target.h"

/* Nobody of the same user may read it. */
void hidden(const long *numbers)
{
	(void)numbers;
	prctl(PR_SET_DUMPABLE, 0);
	step("hidden");
}

/* So many pages that look like a mapped block in the middle of others' memory. */
static void looks_make(long count)
{
	enum { APART = 64, LOOKS = 48 };
	size_t *words = mmap(NULL, (size_t)(count + 1) * APART * PAGE, PROT_READ | PROT_WRITE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (long i = 0; i < count; i++)
		words[((size_t)i * APART + 1) * PAGE / sizeof(*words) + 1] = LOOKS * PAGE | 2;
}

/*
 * Memory of others above, between and below mapped blocks: so many pages that begin as such
 * a block does, and so many more looks on each side.
 */
void impostor(const long *numbers)
{
	size_t *words;

	looks_make(numbers[1]);
	for (int i = 0; i < 5; i++)
		take(500000 + 10000 * (size_t)i);
	words = mmap(NULL, (size_t)numbers[0] * PAGE, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	words[1] = (size_t)numbers[0] * PAGE | 2;
	for (int i = 0; i < 5; i++)
		take(700000);
	looks_make(numbers[1]);
	step("taken");
}

/* Mapped blocks of each alignment, cut by realloc: where they were aligned, an old header
 * is left in front of them. */
void aligned(const long *numbers)
{
	void *blocks[12];

	(void)numbers;
	mallopt(M_MMAP_THRESHOLD, 4000);
	for (int i = 0; i < 12; i++) {
		blocks[i] = aligned_alloc(32ul << i, 3 * PAGE);
		take(100000);
	}
	for (int i = 0; i < 12; i++)
		if (!(blocks[i] = realloc(blocks[i], PAGE + 500)))
			abort();
	step("cut");
}

/* Mappings of one file, each of so many pages. */
void mappings(const long *numbers)
{
	size_t bytes = (size_t)numbers[1] * PAGE;
	int file = (int)syscall(SYS_memfd_create, "mapped", 0);

	free(take(1000));
	if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
		abort();
	/* By turns writable, so that the kernel does not make one of them. */
	for (long i = 0; i < numbers[0]; i++)
		if (mmap(NULL, bytes, PROT_READ | (i % 2 ? PROT_EXEC : PROT_WRITE),
		         MAP_PRIVATE | MAP_POPULATE, file, 0) == MAP_FAILED)
			abort();
	step("mapped");
}

static void *crowd_main(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

/* As many threads as are allowed, up to a number. */
void crowd(const long *numbers)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 << 10);
	for (long i = 0; i < numbers[0]; i++)
		if (pthread_create(&thread, &attributes, crowd_main, NULL) != 0)
			break;
	step("crowded");
}

/* Becomes a new program all the time. */
void execs(const long *numbers)
{
	char *arguments[] = { "target", "execs", "1", NULL };

	if (!numbers[0])
		tell("executing\n");
	free(take(100000));
	execv("/proc/self/exe", arguments);
	abort();
}

static void *forks_main(void *unused)
{
	for (;;) {
		pid_t child = fork();

		(void)unused;
		if (child == 0)
			_exit(0);
		free(take(1000));
		waitpid(child, NULL, 0);
	}
	return NULL;
}

/* Two threads that make processes. */
void forks(const long *numbers)
{
	pthread_t thread;

	(void)numbers;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread, NULL, forks_main, NULL) != 0)
			abort();
	tell("forking\n");
	for (;;)
		pause();
}

static int shared_main(void *places)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0;; i++) {
		char *place = (char *)places + (i % 256) * 16 * PAGE;

		munmap(place, 8 * PAGE);
		mmap(place, 8 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
	}
	return 0;
}

/* Another process that has the same memory, and is not stopped with it, maps and unmaps. */
void shared(const long *numbers)
{
	static char stack[65536] __attribute__((aligned(16)));
	char *places = mmap(NULL, 256 * 16 * PAGE, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)numbers;
	free(take(1000));
	if (clone(shared_main, stack + sizeof(stack), CLONE_VM | SIGCHLD, places) < 0)
		abort();
	step("shared");
}
