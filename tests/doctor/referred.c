/*
 * A process with blocks that one place alone leads to, each place another and each block of
 * another size.  It writes "ready thread=ID" and waits for a letter.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct { void *unused[2], *block; } referred_variable;
static _Thread_local void *volatile own;
static volatile int thread_id;

static __attribute__((noinline)) void *take(size_t size)
{
	void *block = malloc(size);

	if (!block)
		abort();
	memset(block, 1, size);
	return block;
}

static __attribute__((noinline)) void stack_scrub(void)
{
	volatile char over[32768];

	for (size_t i = 0; i < sizeof(over); i++)
		over[i] = 0;
}

/* In a register alone: what the kernel keeps over a call. */
static void *register_main(void *unused)
{
	register void *block __asm__("r15") = take(400);

	__asm__ volatile ("1: mov %0, %%eax; syscall; jmp 1b" : :
	                  "i"(SYS_pause), "r"(block) : "rax", "rcx", "r11", "memory");
	return unused;
}

static void *thread_main(void *unused)
{
	void *volatile kept[2] = { take(700), unused };

	stack_scrub();
	thread_id = gettid();
	while (kept[0])
		pause();
	return NULL;
}

int main(void)
{
	void *volatile kept[2] = { take(600), NULL };
	void **mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
	                     MAP_NORESERVE, -1, 0);
	char line[64], letter;
	pthread_t thread;
	int length;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mapped == MAP_FAILED)
		abort();
	referred_variable.block = take(500);
	own = take(800);
	mapped[300] = take(900);
	*(void **)referred_variable.block = (char *)take(1000) + 8;
	if (pthread_create(&thread, NULL, thread_main, NULL) != 0 ||
	    pthread_create(&thread, NULL, register_main, NULL) != 0)
		abort();
	while (!thread_id)
		usleep(1000);
	usleep(10000);
	stack_scrub();
	length = snprintf(line, sizeof(line), "ready thread=%d mapped=%lu\n", thread_id,
	                  (unsigned long)&mapped[300]);
	if (write(1, line, (size_t)length) != length || read(0, &letter, 1) != 1)
		_exit(0);
	return kept[0] == NULL;
}
