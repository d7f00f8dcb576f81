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

/* --- all that a system call keeps of a thread --- */

#define VECTORS 32
#define RED_WORDS 16

struct checked {
	char vectors_before[VECTORS * 64], vectors_after[VECTORS * 64];
	uint64_t number, arguments[6];            /* 4096 */
	uint64_t kept[5], arguments_after[6];     /* 4152, 4192 */
	uint64_t red[RED_WORDS];                  /* 4240 */
	uint64_t is_wide;                         /* 4368 */
};

_Static_assert(offsetof(struct checked, number) == 4096, "as below");
_Static_assert(offsetof(struct checked, kept) == 4152, "as below");
_Static_assert(offsetof(struct checked, red) == 4240, "as below");
_Static_assert(offsetof(struct checked, is_wide) == 4368, "as below");

long checked_call(struct checked *checked);

/* Registers have a value each, so have vectors and what lies below the stack pointer. */
__asm__(".text\n"
	"checked_call:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"mov %rdi, %r15\n"
	"cmpq $0, 4368(%r15)\n je 1f\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 i(%r15), %zmm\\v\n .set i, i + 64\n.endr\n"
	"jmp 2f\n1:\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu i(%r15), %xmm\\v\n .set i, i + 64\n.endr\n"
	"2:\n"
	"mov $0x1111, %rbx; mov $0x2222, %rbp; mov $0x3333, %r12; mov $0x4444, %r13\n"
	"mov $0x5555, %r14\n"
	".set i, 1\n.rept 16\n movq $i * 3, -8 * i(%rsp)\n .set i, i + 1\n.endr\n"
	"mov 4096(%r15), %rax; mov 4104(%r15), %rdi; mov 4112(%r15), %rsi\n"
	"mov 4120(%r15), %rdx; mov 4128(%r15), %r10; mov 4136(%r15), %r8; mov 4144(%r15), %r9\n"
	"syscall\n"
	"mov %rbx, 4152(%r15); mov %rbp, 4160(%r15); mov %r12, 4168(%r15); mov %r13, 4176(%r15)\n"
	"mov %r14, 4184(%r15)\n"
	"mov %rdi, 4192(%r15); mov %rsi, 4200(%r15); mov %rdx, 4208(%r15); mov %r10, 4216(%r15)\n"
	"mov %r8, 4224(%r15); mov %r9, 4232(%r15)\n"
	".set i, 1\n.rept 16\n mov -8 * i(%rsp), %rbx\n mov %rbx, 4232 + 8 * i(%r15)\n"
	" .set i, i + 1\n.endr\n"
	"cmpq $0, 4368(%r15)\n je 1f\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 %zmm\\v, 2048 + i(%r15)\n .set i, i + 64\n.endr\n"
	"vzeroupper\n jmp 2f\n1:\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu %xmm\\v, 2048 + i(%r15)\n .set i, i + 64\n.endr\n"
	"2:\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"ret\n");

/* Returns the call's result; `bad` says how many things changed that must not. */
static long call_checked(long number, const uint64_t *arguments, int *bad)
{
	static struct checked checked;
	stack_t stack = { .ss_sp = NULL };
	sigset_t blocked, blocked_after;
	long result;

	checked.is_wide = (uint64_t)__builtin_cpu_supports("avx512f");
	for (size_t i = 0; i < sizeof(checked.vectors_before); i++)
		checked.vectors_before[i] = checked.vectors_after[i] =
			(char)(checked.is_wide || i % 64 < 16 ? i * 7 + i / 64 : 0);
	checked.number = (uint64_t)number;
	memcpy(checked.arguments, arguments, sizeof(checked.arguments));
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	errno = 77;
	result = checked_call(&checked);
	*bad = errno != 77;
	*bad += memcmp(checked.vectors_before, checked.vectors_after,
	               sizeof(checked.vectors_before)) != 0;
	for (int i = 0; i < 5; i++)
		*bad += checked.kept[i] != 0x1111u * (unsigned)(i + 1);
	*bad += memcmp(checked.arguments, checked.arguments_after, sizeof(checked.arguments)) != 0;
	for (unsigned i = 0; i < RED_WORDS; i++)
		*bad += checked.red[i] != 3 * (i + 1);
	pthread_sigmask(SIG_BLOCK, NULL, &blocked_after);
	*bad += memcmp(&blocked, &blocked_after, 8) != 0;
	sigaltstack(NULL, &stack);
	*bad += stack.ss_size != 32768 || stack.ss_flags != 0;
	return result;
}

static volatile int handled;

static void signal_handle(int number)
{
	(void)number;
	handled++;
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
	struct sigaction action = { .sa_handler = signal_handle };
	uint64_t nothing = 0;
	int word = 0, poller = epoll_create1(0);
	stack_t stack = { .ss_sp = take(32768), .ss_size = 32768 };
	sigset_t blocked;
	char byte;

	sigaltstack(&stack, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
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
		result = call_checked(kinds[numbers[0]].number, kinds[numbers[0]].arguments, &bad);
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
