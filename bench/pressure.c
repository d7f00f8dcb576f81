/*
 * pressure: how soon and how fast memory goes back when it is short.  Layer: a program of
 * its own that links libc alone; the runner preloads cede.
 *
 *   pressure region|blocks MIB    frees MIB in one block, or in blocks of 64 KiB that lie side
 *       by side, and then is the service manager that says that memory is short, by the FIFO
 *       of MEMORY_PRESSURE_WATCH.  Before, it gives as much back itself, by one madvise.
 *       Prints milliseconds from the event to the first memory gone, and seconds of processor
 *       time: of the thread that gave all of it back, and of the one madvise
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "block.h"
#include "support/process.h"

#define MIB   ((size_t)1 << 20)
#define BLOCK ((size_t)64 << 10)
#define FIRST (4 * MIB) /* less may be the thread's own doing */

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t resident(void)
{
	char text[128];

	process_read("/proc/self/statm", text, sizeof(text));
	return strtoul(strchr(text, ' '), NULL, 10) * 4096;
}

/* Waits until no more than so much is. */
static void wait_for_resident(size_t most)
{
	while (resident() > most)
		process_sleep_ms(1);
}

static double kernel_seconds(size_t bytes)
{
	void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double began;

	CHECK(start != MAP_FAILED);
	memset(start, 1, bytes);
	began = seconds_of(CLOCK_THREAD_CPUTIME_ID);
	CHECK(madvise(start, bytes, MADV_DONTNEED) == 0);
	began = seconds_of(CLOCK_THREAD_CPUTIME_ID) - began;
	CHECK(munmap(start, bytes) == 0);
	return began;
}

/* The end of the FIFO that the allocator's thread reads, once it is there. */
static int manager_begin(void)
{
	const char *path = getenv("MEMORY_PRESSURE_WATCH");
	int fd;

	CHECK(path != NULL);
	while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0) {
		free(memset(malloc(16 * MIB), 1, 16 * MIB));
		process_sleep_ms(10);
	}
	return fd;
}

/* What the one other thread of the process ran. */
static double purger_seconds(void)
{
	pid_t threads[2];
	char path[64], text[128];

	CHECK(process_threads(threads, 2) == 2);
	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat",
	         threads[threads[0] == getpid()]);
	process_read(path, text, sizeof(text));
	return strtod(text, NULL) / 1e9;
}

static void take_and_free(size_t bytes, size_t size)
{
	size_t count = bytes / size;
	void **held = calloc(count, sizeof(*held));

	CHECK(held != NULL);
	for (size_t i = 0; i < count; i++) {
		held[i] = malloc(size);
		CHECK(held[i] != NULL);
		memset(held[i], 1, size);
	}
	for (size_t i = 0; i < count; i++)
		free(held[i]);
	free(held);
}

static void measure(size_t bytes, size_t size)
{
	double kernel = kernel_seconds(bytes), before, began, first;
	int manager = manager_begin();
	size_t full;

	take_and_free(bytes, size);
	before = purger_seconds();
	full = resident();
	CHECK(full > bytes);
	began = seconds_of(CLOCK_MONOTONIC);
	CHECK(write(manager, "now", 3) == 3);
	wait_for_resident(full - FIRST);
	first = seconds_of(CLOCK_MONOTONIC);
	wait_for_resident(full - bytes + FIRST);
	/* It sleeps again, so that what it ran is known. */
	process_sleep_ms(20);
	dprintf(1, "%.3f %.6f %.6f\n", (first - began) * 1000, purger_seconds() - before, kernel);
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";
	size_t bytes = argument(argc, argv, 2) * MIB;
	bool region = !strcmp(pattern, "region");

	CHECK_THAT(region || !strcmp(pattern, "blocks"), "no such pattern: %s", pattern);
	measure(bytes, region ? bytes : BLOCK);
	return 0;
}
