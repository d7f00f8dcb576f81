#include "os/os.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/bits.h"
#include "os/lock.h"
#include "os/syscall.h"

void os_futex_wait(uint32_t *word, uint32_t expected, int64_t timeout_ms)
{
	struct timespec timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000000 };

	sys(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ms < 0 ? NULL : &timeout);
}

void os_futex_wake(uint32_t *word, int count)
{
	sys(SYS_futex, word, FUTEX_WAKE_PRIVATE, count);
}

bool os_barrier_everywhere(void)
{
	long result = sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);

	/* EPERM: the process has not said yet that it will use it. */
	if (result == -EPERM && sys(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0) == 0)
		result = sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
	return result == 0;
}

void os_yield(void)
{
	sys(SYS_sched_yield);
}

uint32_t os_thread_id(void)
{
	return (uint32_t)sys(SYS_gettid);
}

uint64_t os_now_ms(void)
{
	struct timespec now = { 0, 0 };

	sys(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t os_thread_ns(void)
{
	struct timespec spent = { 0, 0 };

	sys(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &spent);
	return (uint64_t)spent.tv_sec * 1000000000 + (uint64_t)spent.tv_nsec;
}

/*
 * The memory of the thread, low to high:
 *
 *   guard page | stack | TLS block | thread control block
 *                      ^ stack top                      ^ end
 *                                  ^ thread pointer
 *
 * The TLS block must reach as far below the thread pointer as anything this
 * thread may touch: our own variables, and libc's errno for good measure.  The
 * control block is what code compiled anywhere may read through %fs: the pointer
 * to itself and the stack protector's canary.
 */
#define THREAD_STACK   ((size_t)64 << 10)
#define THREAD_CONTROL ((size_t)4 << 10)
#define TLS_MARGIN     ((size_t)4 << 10)
#define TLS_MAX        ((size_t)16 << 20)
#define CONTROL_COPIED 0x40 /* through the canary and the pointer guard */

struct thread_start {
	void (*run)(void);
	const char *name;
};

static char *thread_pointer(void)
{
	char *pointer;

	__asm__("mov %%fs:0, %0" : "=r"(pointer));
	return pointer;
}

static size_t tls_size(const char *tp)
{
	size_t ours = (size_t)(tp - (const char *)&lock_self);
	size_t errnos = (size_t)(tp - (const char *)&errno);

	return align_up(size_max(ours, errnos) + TLS_MARGIN, os_page_size);
}

__attribute__((used)) static void thread_main(const struct thread_start *start)
{
	sys(SYS_prctl, PR_SET_NAME, start->name);
	lock_thread_begin();
	start->run();
	__builtin_trap();
}

/*
 * clone(flags, stack) whose child calls thread_main(start) on the new stack.
 * In assembly because the child has no frame to return to.
 */
static long thread_clone(unsigned long flags, void *stack, void *tls, struct thread_start *start)
{
	long result;
	register long r10 __asm__("r10") = 0;
	register void *r8 __asm__("r8") = tls;
	register struct thread_start *r12 __asm__("r12") = start;

	__asm__ volatile("syscall\n\t"
	                 "test %%rax, %%rax\n\t"
	                 "jnz 1f\n\t"
	                 "xor %%ebp, %%ebp\n\t"
	                 "mov %%r12, %%rdi\n\t"
	                 "call thread_main\n\t"
	                 "ud2\n"
	                 "1:"
	                 : "=a"(result)
	                 : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8), "r"(r12)
	                 : "rcx", "r11", "memory");
	return result;
}

bool os_thread_start(void (*run)(void), const char *name)
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
	                      CLONE_SYSVSEM | CLONE_SETTLS;
	uint64_t all = ~0ull, before = 0;
	char *tp = thread_pointer();
	size_t tls = tls_size(tp);
	size_t guard = os_page_size, stack = align_up(THREAD_STACK, os_page_size);
	size_t size = guard + stack + tls + align_up(THREAD_CONTROL, os_page_size);
	struct thread_start *start;
	char *base, *new_tp;
	long result;

	if (tls > TLS_MAX)
		return false;
	base = os_map(NULL, size, OS_READ_WRITE);
	if (base == NULL)
		return false;
	if (!os_protect(base, guard, OS_NONE))
		goto fail;
	new_tp = base + guard + stack + tls;
	__builtin_memcpy(new_tp, tp, CONTROL_COPIED);
	((void **)new_tp)[0] = new_tp; /* %fs:0x00, the block itself */
	((void **)new_tp)[1] = NULL;   /* %fs:0x08, no dynamic TLS vector */
	((void **)new_tp)[2] = new_tp; /* %fs:0x10, the thread itself */
	start = (struct thread_start *)(base + guard + stack) - 1;
	*start = (struct thread_start){ run, name };

	sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(before));
	result = thread_clone(flags, (void *)align_down((uintptr_t)start, 16), new_tp, start);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
	if (!sys_failed(result))
		return true;
fail:
	(void)!os_unmap(base, size);
	return false;
}
