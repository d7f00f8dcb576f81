/*
 * System calls without libc: no errno, no cancellation point, nothing to
 * interpose.  Layer: os, private to it.  Each returns the kernel's value: -errno
 * on failure.
 */
#ifndef CEDE_OS_SYSCALL_H
#define CEDE_OS_SYSCALL_H

#include <stdbool.h>
#include <sys/syscall.h>

#if !defined(__x86_64__) || !defined(__linux__)
#error "cede runs on x86-64 Linux"
#endif

static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}

#define syscall_of(number, a, b, c, d, e, f, ...) \
	syscall6((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(...) syscall_of(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

static inline bool sys_failed(long result)
{
	return (unsigned long)result >= (unsigned long)-4095L;
}

#endif
