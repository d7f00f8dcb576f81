#include "os/os.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/syscall.h"

/* Linux 6.14: the caller itself, without a descriptor.  The thread's own number: that of
 * its group became another one in 6.17. */
#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD -10000
#endif

/* A sanitizer that follows memory must see it come and go: its own mmap, then. */
#ifdef __SANITIZE_THREAD__
#define sys_map(...)   ((long)mmap(__VA_ARGS__))
#define sys_unmap(...) ((long)munmap(__VA_ARGS__))
#else
#define sys_map(...)   sys(SYS_mmap, __VA_ARGS__)
#define sys_unmap(...) sys(SYS_munmap, __VA_ARGS__)
#endif

void *os_sbrk(intptr_t increment)
{
	int saved = errno;
	void *old = sbrk(increment);

	errno = saved;
	return old == (void *)-1 ? NULL : old;
}

static int protection(enum os_access access)
{
	return access == OS_READ_WRITE ? PROT_READ | PROT_WRITE : PROT_NONE;
}

void *os_map(void *hint, size_t size, enum os_access access)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (access == OS_NONE ? MAP_NORESERVE : 0);
	long result = sys_map(hint, size, protection(access), flags, -1, 0);

	return sys_failed(result) ? NULL : (void *)result;
}

bool os_map_at(void *start, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	long result = sys_map(start, size, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (sys_failed(result))
		return false;
	if ((void *)result == start)
		return true;
	/* A system that does not know the flag takes the address as a hint. */
	(void)sys_unmap((void *)result, size);
	return false;
}

bool os_unmap(void *start, size_t size)
{
	return !sys_failed(sys_unmap(start, size));
}

void *os_remap(void *start, size_t old_size, size_t new_size)
{
	long result = sys(SYS_mremap, start, old_size, new_size, MREMAP_MAYMOVE);

	return sys_failed(result) ? NULL : (void *)result;
}

bool os_protect(void *start, size_t size, enum os_access access)
{
	return !sys_failed(sys(SYS_mprotect, start, size, protection(access)));
}

bool os_advise_huge(void *start, size_t size, bool wanted)
{
	int advice = wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;

	return !sys_failed(sys(SYS_madvise, start, size, advice));
}

/* Whether one call can discard many ranges; cleared at the first refusal. */
static bool vectored = true;

/* A row of ranges is a vector of the system's. */
_Static_assert(sizeof(struct os_range) == sizeof(struct iovec) &&
               offsetof(struct os_range, start) == offsetof(struct iovec, iov_base) &&
               offsetof(struct os_range, size) == offsetof(struct iovec, iov_len), "struct iovec");

/* Returns the bytes of the ranges before the first that it cannot do. */
static size_t advise_vector(const struct os_range *ranges, unsigned count, int advice,
                            uint64_t *calls)
{
	long result;

	++*calls;
	result = sys(SYS_process_madvise, PIDFD_SELF_THREAD, ranges, count, advice, 0);
	if (!sys_failed(result))
		return (size_t)result;
	/* ENOMEM or EINVAL may be about one range: the others still count. */
	if (result == -EBADF || result == -ENOSYS || result == -EPERM)
		__atomic_store_n(&vectored, false, __ATOMIC_RELAXED);
	return 0;
}

static size_t advise(const struct os_range *ranges, unsigned count, int advice, uint64_t *calls)
{
	size_t done = 0;

	while (count > 0) {
		size_t went = 0;

		if (count > 1 && __atomic_load_n(&vectored, __ATOMIC_RELAXED))
			went = advise_vector(ranges, count, advice, calls);
		done += went;
		for (; count > 0 && went >= ranges->size; ranges++, count--)
			went -= ranges->size;
		if (count == 0)
			break;
		++*calls;
		if (!sys_failed(sys(SYS_madvise, ranges->start, ranges->size, advice)))
			done += ranges->size;
		ranges++;
		count--;
	}
	return done;
}

size_t os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls)
{
	return advise(ranges, count, MADV_DONTNEED, calls);
}

bool os_memory_is_locked(void)
{
	/* A page in no use, that goes if any does. */
	static char page[4096] __attribute__((aligned(4096)));

	return sys_failed(sys(SYS_madvise, page, sizeof(page), MADV_DONTNEED));
}

/* What MADV_FREE does to pages is undone by the discard; but it splits huge ones first. */
void os_split_huge(const struct os_range *ranges, unsigned count, uint64_t *calls)
{
	(void)advise(ranges, count, MADV_FREE, calls);
}

bool os_is_mapped(void *page)
{
	unsigned char resident;

	return sys(SYS_mincore, page, os_page_size, &resident) != -ENOMEM;
}

size_t os_resident(void *start, size_t size)
{
	unsigned char pages[1024];
	size_t resident = 0, step = sizeof(pages) * os_page_size;

	for (size_t at = 0; at < size; at += step) {
		size_t part = size_min(step, size - at);

		if (sys_failed(sys(SYS_mincore, (char *)start + at, part, pages)))
			return size; /* not to be known: assume the worst */
		for (size_t i = 0; i < part / os_page_size; i++)
			resident += pages[i] & 1 ? os_page_size : 0;
	}
	return resident;
}
