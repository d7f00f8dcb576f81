#include "os/os.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/syscall.h"

/* Linux 6.14: process_madvise on the caller itself, without a descriptor. */
#ifndef PIDFD_SELF_THREAD_GROUP
#define PIDFD_SELF_THREAD_GROUP -20000
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

/* Ranges of one call: little enough for the smallest stack that may be below. */
#define VECTOR 128

/* Whether one call can discard many ranges; cleared at the first refusal. */
static bool vectored = true;

static size_t advise_vector(const struct os_range *ranges, unsigned count, int advice,
                            uint64_t *calls)
{
	struct iovec vector[VECTOR];
	long result;

	for (unsigned i = 0; i < count; i++)
		vector[i] = (struct iovec){ ranges[i].start, ranges[i].size };
	++*calls;
	result = sys(SYS_process_madvise, PIDFD_SELF_THREAD_GROUP, vector, count, advice, 0);
	if (sys_failed(result)) {
		/* ENOMEM or EINVAL may be about one range: the others still count. */
		if (result == -EBADF || result == -ENOSYS || result == -EPERM)
			__atomic_store_n(&vectored, false, __ATOMIC_RELAXED);
		return 0;
	}
	return (size_t)result;
}

/* One by one: what the vector left (it stops at the first it cannot do). */
static size_t advise_each(const struct os_range *ranges, unsigned count, int advice,
                          uint64_t *calls)
{
	size_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		++*calls;
		if (!sys_failed(sys(SYS_madvise, ranges[i].start, ranges[i].size, advice)))
			done += ranges[i].size;
	}
	return done;
}

static size_t advise(const struct os_range *ranges, unsigned count, int advice, uint64_t *calls)
{
	size_t done = 0;

	for (unsigned i = 0; i < count; i += VECTOR) {
		unsigned part = count - i < VECTOR ? count - i : VECTOR;
		size_t want = 0, got = 0;

		for (unsigned k = i; k < i + part; k++)
			want += ranges[k].size;
		if (part > 1 && __atomic_load_n(&vectored, __ATOMIC_RELAXED))
			got = advise_vector(ranges + i, part, advice, calls);
		done += got == want ? got : advise_each(ranges + i, part, advice, calls);
	}
	return done;
}

size_t os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls)
{
	return advise(ranges, count, MADV_DONTNEED, calls);
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
