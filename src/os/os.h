/*
 * The whole contract with the operating system: every system call of the
 * allocator is behind one of these names.  Layer: os.
 *
 * All but os_sbrk are raw system calls: they work before libc is initialised, in
 * a program that interposes mmap or madvise, and leave errno alone.  A failure
 * is a value, never a message.  Unit tests replace single functions by the
 * linker's --wrap to script failures.
 */
#ifndef CEDE_OS_OS_H
#define CEDE_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* ---- memory (os/memory.c); sizes and addresses in whole pages ---- */

/* Bytes in a page of the system: x86-64 has no other. */
static const size_t os_page_size = 4096;

/*
 * Moves the break by libc's sbrk, because libc keeps the break in a variable of
 * its own: a raw brk would leave it stale.  Returns the old break, or NULL.
 * Not thread-safe against the program's own calls: only a thread of the program
 * calls it, never the purger.
 */
void *os_sbrk(intptr_t increment) MUST_USE;

enum os_access { OS_NONE, OS_READ_WRITE };

/* Fresh zeroed private memory near `hint` (or anywhere), or NULL. */
void *os_map(void *hint, size_t size, enum os_access access) MUST_USE;
/* The same at `start` and nowhere else; false when anything is mapped there.  Linux 4.17. */
bool os_map_at(void *start, size_t size) MUST_USE;
bool os_unmap(void *start, size_t size) MUST_USE;
/* Grows or shrinks a mapping, moving it if it must; NULL: unchanged. */
void *os_remap(void *start, size_t old_size, size_t new_size) MUST_USE;
bool os_protect(void *start, size_t size, enum os_access access) MUST_USE;

struct os_range {
	void *start;
	size_t size;
};

/* Whether huge pages may be used there; false: the system has none.  Linux 2.6.38. */
bool os_advise_huge(void *start, size_t size, bool wanted);

#define OS_DISCARD_RANGES 512

/*
 * Gives the pages of the ranges back: their next touch reads zero.  At most
 * OS_DISCARD_RANGES ranges.  Returns the bytes given back, which are less when
 * the system refuses some (locked memory); *calls counts the system calls.
 */
size_t os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls);

/* Whether all of the process's memory is locked (mlockall), so that nothing goes. */
bool os_memory_is_locked(void);

/*
 * To be called before os_discard of ranges within huge pages: without it they would leave
 * the process, but stay with the huge page they are part of.  Linux 4.5.
 */
void os_split_huge(const struct os_range *ranges, unsigned count, uint64_t *calls);

/* Whether there is anything at all at that page. */
bool os_is_mapped(void *page);
/* The bytes of these pages that are in memory. */
size_t os_resident(void *start, size_t size);

/*
 * Unmaps; when the system has no room for one mapping more, which cutting one in
 * two would need, the pages at least go back.
 */
static inline void os_release(void *start, size_t size)
{
	struct os_range range = { start, size };
	uint64_t calls = 0;

	if (!os_unmap(start, size))
		(void)os_discard(&range, 1, &calls);
}

/* ---- waiting (os/lock.c has locks built on these) ---- */

void os_futex_wait(uint32_t *word, uint32_t expected, int64_t timeout_ms); /* <0: for ever */
void os_futex_wake(uint32_t *word, int count);
void os_yield(void);

/* ---- threads and time (os/thread.c) ---- */

uint32_t os_thread_id(void);
/*
 * A memory barrier in every running thread of the process (membarrier).  False
 * when the system has none.  Linux 4.14.
 */
bool os_barrier_everywhere(void) MUST_USE;
uint64_t os_now_ms(void);
/* Processor time of the calling thread. */
uint64_t os_thread_ns(void);

/*
 * Starts `run` on a thread that libc does not know of: all signals blocked,
 * named, its own stack and TLS block, both given back by nobody (it lives as
 * long as the process).  `run` must not return and must call no libc function.
 * No lock may be held.  False: it could not be made.
 */
bool os_thread_start(void (*run)(void), const char *name) MUST_USE;

/* ---- processors (os/cpus.c); one caller at a time, the arenas lock sees to it ---- */

/* CPUs that the calling thread may run on, at least 1. */
unsigned os_cpu_affinity(void);
/*
 * CPUs that this process can keep busy, at least 1: those that the threads which
 * asked so far may run on, all together, since each may be tied to another one; but
 * no more than the control group's quota, which is read when it is first needed.
 */
unsigned os_cpu_count(void);
/*
 * The quota alone, rounded up, the smallest of the process's control group and those
 * above it; UINT_MAX: none.  The files are /proc/self/cgroup and /proc/self/mountinfo;
 * what is missing or makes no sense sets no limit.
 */
unsigned os_cpu_quota(const char *groups_file, const char *mounts_file);

/* ---- shortage of memory (os/pressure.c) ---- */

/* Copies what a service manager wants to be watched; at start-up. */
void os_pressure_configure(char *const *environment);
/*
 * All below: one thread, which loses its share of the program's descriptors.  Once, at
 * its start.
 */
void os_pressure_begin(void);
/* Waits so long, or until memory is short, or was since the last call: true. */
bool os_pressure_wait(int64_t timeout_ms);

/* What is read when no service manager says what, or what stands for it. */
struct os_pressure_files {
	const char *groups, *mounts, *machine;
};
/* Part of os_pressure_begin: opens, in the table of descriptors that the caller has. */
void os_pressure_open(const struct os_pressure_files *files);

/* ---- the process (os/system.c) ---- */

/* A number that differs from process to process. */
size_t os_random(void);
/* Whether the kernel started the program with raised rights (AT_SECURE). */
bool os_is_secure(void);
/*
 * The environment as "NAME=value" strings, NULL-terminated: libc's when it is
 * set up, else the one the kernel keeps; never NULL.  Valid until
 * os_environment_done.
 */
char *const *os_environment(void);
void os_environment_done(void);
void os_write_error(const char *text, size_t length);
_Noreturn void os_abort(void);

#endif
