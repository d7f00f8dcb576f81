/*
 * A program with its own mmap, madvise, open and the like, none of which works:
 * the heap does not call them.  Layer: tests.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "support/check.h"
#include "support/heap.h"
#include "support/process.h"

static int calls;

#define REFUSE(result) (calls++, errno = ENOMEM, result)

void *mmap(void *start, size_t size, int access, int flags, int fd, off_t at)
{
	(void)start, (void)size, (void)access, (void)flags, (void)fd, (void)at;
	return REFUSE(MAP_FAILED);
}

void *mremap(void *start, size_t old_size, size_t size, int flags, ...)
{
	(void)start, (void)old_size, (void)size, (void)flags;
	return REFUSE(MAP_FAILED);
}

int munmap(void *start, size_t size)
{
	(void)start, (void)size;
	return REFUSE(-1);
}

int mprotect(void *start, size_t size, int access)
{
	(void)start, (void)size, (void)access;
	return REFUSE(-1);
}

int madvise(void *start, size_t size, int advice)
{
	(void)start, (void)size, (void)advice;
	return REFUSE(-1);
}

int sched_yield(void)
{
	return REFUSE(-1);
}

int prctl(int option, ...)
{
	(void)option;
	return REFUSE(-1);
}

static void use_heap(void)
{
	char *small[1000], *large = malloc(40 << 20);

	CHECK(large != NULL);
	large = realloc(large, 80 << 20);
	CHECK(large != NULL);
	free(large);
	for (size_t i = 0; i < 1000; i++)
		small[i] = memset(malloc(8000), 1, 8000);
	large = malloc(100);
	for (size_t i = 0; i < 1000; i++)
		free(small[i]);
	malloc_trim(0);
	process_sleep_ms(600);
	free(large);
}

int main(void)
{
	use_heap();
	CHECK_THAT(calls == 0, "the heap called %d of the program's functions", calls);
	return 0;
}
