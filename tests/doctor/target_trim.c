/*
 * Scenarios of the doctor's target: what a thread is doing when somebody makes it call
 * malloc_trim, and what it finds afterwards.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "doctor/checked.h"
#include "doctor/target.h"

#define GARBAGE 1500
#define GUARDED 400

/* --- garbage, and blocks that must not change --- */

static char *guarded[GUARDED];

static void guarded_fill(void)
{
	for (int i = 0; i < GUARDED; i++) {
		guarded[i] = take((size_t)(i + 1) * 20);
		memset(guarded[i], i, (size_t)(i + 1) * 20);
	}
}

static int guarded_bad(void)
{
	int bad = 0;

	for (int i = 0; i < GUARDED; i++)
		for (int j = 0; j < (i + 1) * 20; j++)
			bad += guarded[i][j] != (char)i;
	return bad;
}

/* Pages between blocks in use, which a trim gives back in as many calls. */
static void garbage_make(void)
{
	static void *pins[GARBAGE];
	void *blocks[GARBAGE];

	for (int i = 0; i < GARBAGE; i++) {
		free(pins[i]);
		blocks[i] = take(10000);
		pins[i] = take(1500);
	}
	for (int i = 0; i < GARBAGE; i++)
		free(blocks[i]);
}

/* Too little for cede to begin with it by itself, once it has nothing else to do. */
void remains(const long *numbers)
{
	void *blocks[60];

	(void)numbers;
	guarded_fill();
	step("start");
	garbage_make();
	step("much");
	for (int i = 0; i < 60; i++)
		blocks[i] = take(10000);
	for (int i = 0; i < 60; i++)
		free(blocks[i]);
	tell("changed %d\n", guarded_bad());
	step("little");
}

/* --- waits --- */

static volatile int handled;

/* Anywhere but in the wait, it has no business. */
static void signal_handle(int number, siginfo_t *info, void *context)
{
	uint64_t at = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	uint64_t begin = (uint64_t)(uintptr_t)checked_call;

	(void)number;
	(void)info;
	handled += at > begin && at < begin + 2000 ? 1 : 100;
}

/*
 * A wait of a kind, over and over: those for a time end with it (milliseconds), the others
 * when something is to be read.  Each is told when it begins and when it came back.
 */
void waits(const long *numbers)
{
	struct timespec time = { numbers[1] / 1000, numbers[1] % 1000 * 1000000 }, left;
	struct pollfd input = { 0, POLLIN, 0 };
	struct epoll_event event = { .events = EPOLLIN };
	struct sigaction action = { .sa_sigaction = signal_handle, .sa_flags = SA_SIGINFO };
	uint64_t nothing = 0;
	int word = 0, poller = epoll_create1(0);
	char byte;

	checked_begin();
	sigaction(SIGUSR1, &action, NULL);
	epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
	guarded_fill();
	if (numbers[2])
		mlockall(MCL_CURRENT | MCL_FUTURE);
	for (;;) {
		const struct { long number; uint64_t arguments[6]; } kinds[] = {
			{ SYS_read, { 0, (uint64_t)&byte, 1 } },
			{ SYS_poll, { (uint64_t)&input, 1, 100000 } },
			{ SYS_ppoll, { (uint64_t)&input, 1, 0, (uint64_t)&nothing, 8 } },
			{ SYS_epoll_wait, { (uint64_t)poller, (uint64_t)&event, 1, 100000 } },
			{ SYS_rt_sigsuspend, { (uint64_t)&nothing, 8 } },
			{ SYS_nanosleep, { (uint64_t)&time, (uint64_t)&left } },
			{ SYS_futex, { (uint64_t)&word, FUTEX_WAIT_PRIVATE, 0, (uint64_t)&time } },
		};
		long result;
		int bad;

		garbage_make();
		tell("waits\n");
		result = checked_make(kinds[numbers[0]].number, kinds[numbers[0]].arguments, &bad);
		if (numbers[0] && read(0, &byte, 1) != 1)
			_exit(0);
		tell("came result=%ld bad=%d changed=%d handled=%d\n", result, bad, guarded_bad(),
		     handled);
	}
}

/* --- places where no call may be made --- */

static volatile bool inside;

/* Interrupted where malloc has begun, but changed nothing yet, it waits. */
static void handler_wait(int number, siginfo_t *info, void *context)
{
	uint64_t at = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	uint64_t begin = (uint64_t)(uintptr_t)malloc;

	(void)number;
	(void)info;
	if (inside || at < begin || at > begin + 32)
		return;
	inside = true;
	step("inside");
}

/* Number: whether the handler has a stack of its own. */
void handler(const long *numbers)
{
	struct sigaction action = { .sa_sigaction = handler_wait,
	                            .sa_flags = SA_SIGINFO | (numbers[0] ? SA_ONSTACK : 0) };
	struct itimerval often = { { 0, 500 }, { 0, 500 } };
	stack_t stack = { .ss_sp = take(262144), .ss_size = 262144 };

	sigaltstack(&stack, NULL);
	guarded_fill();
	garbage_make();
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (!inside)
		free(take(1));
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	garbage_make();
	tell("went changed=%d\n", guarded_bad());
	step("outside");
}

static void stale_step(void)
{
	step("stale");
}

/* An address of malloc is on the stack, as earlier calls leave it.  Number: whether code that
 * is in no file, and that nobody can find the way out of, stands between it and the wait. */
void stale(const long *numbers)
{
	/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
	volatile uint64_t left[4] = { 0, (uint64_t)(uintptr_t)malloc + 5 };
	void *written = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void (*call)(void (*)(void));

	garbage_make();
	memcpy(written, code, sizeof(code));
	memcpy(&call, &written, sizeof(call));
	if (numbers[0])
		call(stale_step);
	else
		stale_step();
	_exit((int)left[0]);
}

static void coroutine_run(void)
{
	step("coroutine");
}

void coroutine(const long *numbers)
{
	static ucontext_t here, there;
	char *stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)numbers;
	garbage_make();
	getcontext(&there);
	there.uc_stack = (stack_t){ .ss_sp = stack, .ss_size = 1 << 20 };
	there.uc_link = &here;
	makecontext(&there, coroutine_run, 0);
	swapcontext(&here, &there);
	step("home");
}

static void *small_main(void *unused)
{
	char used[6000];

	(void)unused;
	memset(used, 1, sizeof(used));
	/* Until the first thread is gone. */
	usleep(20000);
	step("small");
	_exit(used[9]);
}

/* The only thread left has a stack of so many bytes. */
void small(const long *numbers)
{
	pthread_attr_t attributes;
	pthread_t thread;

	garbage_make();
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)numbers[0]);
	if (pthread_create(&thread, &attributes, small_main, NULL) != 0)
		abort();
	pthread_exit(NULL);
}

/* Number: 1 strict; 2 a filter that forbids what malloc_trim calls. */
void confined(const long *numbers)
{
	struct sock_filter lines[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof(lines) / sizeof(*lines), lines };

	garbage_make();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, numbers[0] == 1 ? SECCOMP_MODE_STRICT : SECCOMP_MODE_FILTER,
	          &program) != 0)
		abort();
	step("confined");
}

/* --- never still, and never changed by others --- */

static volatile uint64_t turns[THREADS_MOST];
static volatile int changed;

static void *guarding_main(void *argument)
{
	uint64_t index = (uintptr_t)argument, random = index * 7919 + 1;
	struct { unsigned char *bytes; size_t size; } slots[256] = { { NULL, 0 } };

	for (;;) {
		size_t slot = random_next(&random) % 256, size = random_next(&random) % 20000 + 1;

		for (size_t i = 0; i < slots[slot].size; i += 61)
			changed += slots[slot].bytes[i] != (unsigned char)(slot + index);
		free(slots[slot].bytes);
		slots[slot].bytes = take(size);
		slots[slot].size = size;
		memset(slots[slot].bytes, (int)(slot + index), size);
		if (turns[index]++ % 1000 == 0)
			usleep(100);
	}
	return NULL;
}

/* So many threads that look after their blocks; the first waits for letters, unless there is
 * but one, which never waits. */
void guarding(const long *numbers)
{
	pthread_t thread;
	char command;

	if (!numbers[0]) {
		garbage_make();
		tell("guarding\n");
		for (;;)
			free(take(100));
	}
	for (long i = 0; i < numbers[0]; i++)
		if (pthread_create(&thread, NULL, guarding_main, (void *)i) != 0)
			abort();
	tell("guarding\n");
	while (read(0, &command, 1) == 1) {
		uint64_t least = UINT64_MAX;

		for (long i = 0; i < numbers[0]; i++)
			least = turns[i] < least ? turns[i] : least;
		tell("turns %lu %d\n", least, changed);
	}
	_exit(0);
}
