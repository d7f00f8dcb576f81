#include "return/rest.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "support/check.h"
#include "support/process.h"

#define PAGE         4096
#define MOST_KEPT    ((size_t)1 << 20)
#define MOST_THREADS 512
#define NOISE        ((size_t)64 << 10) /* a thread's stack may grow by a page or two */

struct kept_block {
	char *start;
	size_t size;
};

static struct kept_block *kept;
static size_t kept_count, start_bytes, full_bytes;
static enum { SECOND, MINUTE, TRIM, FIGURES } way;

void *rest_table(size_t bytes)
{
	void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	CHECK(table != MAP_FAILED);
	return table;
}

/* Anonymous and shared memory and swap, bytes. */
static size_t footprint(void)
{
	static const char *const fields[] = { "\nAnonymous:", "\nPss_Shmem:", "\nSwap:" };
	char text[4096];
	size_t kib = 0;

	process_read("/proc/self/smaps_rollup", text, sizeof(text));
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const char *line = strstr(text, fields[i]);

		CHECK_THAT(line != NULL, "smaps_rollup has no%s", fields[i]);
		kib += strtoul(line + strlen(fields[i]), NULL, 10);
	}
	return kib << 10;
}

static size_t footprint_gained(void)
{
	size_t now = footprint();

	return now > start_bytes ? now - start_bytes : 0;
}

void rest_start(const char *name)
{
	static const char *const names[] = { "second", "minute", "trim", "figures" };
	size_t i = 0;

	while (i < sizeof(names) / sizeof(names[0]) && strcmp(name, names[i]) != 0)
		i++;
	CHECK_THAT(i < sizeof(names) / sizeof(names[0]), "not a way to measure: %s", name);
	way = i;
	kept = rest_table(MOST_KEPT * sizeof(*kept));
	start_bytes = footprint();
}

void rest_full(void)
{
	size_t now = footprint_gained();

	if (full_bytes < now)
		full_bytes = now;
}

void rest_keep(void *block, size_t size)
{
	CHECK(kept_count < MOST_KEPT);
	kept[kept_count++] = (struct kept_block){ block, size };
}

void rest_drop(void)
{
	while (kept_count > 0)
		free(kept[--kept_count].start);
}

static int by_address(const void *a, const void *b)
{
	const struct kept_block *one = a, *other = b;

	return one->start < other->start ? -1 : one->start > other->start;
}

/* qsort may allocate: only after the measurement. */
static size_t floor_bytes(void)
{
	uintptr_t next = 0;
	size_t pages = 0;

	qsort(kept, kept_count, sizeof(*kept), by_address);
	for (size_t i = 0; i < kept_count; i++) {
		uintptr_t first = (uintptr_t)kept[i].start / PAGE;
		uintptr_t end = ((uintptr_t)kept[i].start + kept[i].size - 1) / PAGE + 1;

		if (first < next)
			first = next;
		if (first < end) {
			pages += end - first;
			next = end;
		}
	}
	return pages * PAGE;
}

/* How long the process's threads stood ready without a processor, ns. */
static uint64_t queued_ns(void)
{
	pid_t threads[MOST_THREADS];
	size_t count = process_threads(threads, MOST_THREADS);
	uint64_t sum = 0;

	CHECK(count <= MOST_THREADS);
	for (size_t i = 0; i < count; i++) {
		char path[64], text[128];

		snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", threads[i]);
		process_read(path, text, sizeof(text));
		sum += strtoull(strchr(text, ' '), NULL, 10);
	}
	return sum;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * A second in which whoever gives back had a processor when it wanted one: a machine with
 * more work than processors may let it wait, which says nothing of it.  Returns the
 * milliseconds that passed.
 */
static unsigned second_pass(void)
{
	uint64_t start = now_ns(), queued = queued_ns(), due = start + 1000000000, now;

	while ((now = now_ns()) < due) {
		process_sleep_ms((unsigned)((due - now) / 1000000 + 1));
		due = start + 1000000000 + queued_ns() - queued;
	}
	return (unsigned)((now - start) / 1000000);
}

void rest_check(const char *what, unsigned threads)
{
	unsigned ms = 0;
	int said = 1;

	if (way == TRIM)
		said = malloc_trim(0);
	else
		ms = second_pass();

	size_t left = footprint_gained(), least = floor_bytes();
	size_t limit = least + least / 20 + ((size_t)4 << 20) + threads * (size_t)(12 << 10);

	dprintf(1, "%s: most=%zu kept=%zu floor=%zu limit=%zu ms=%u\n", what, full_bytes, left, least,
	        limit, ms);
	if (way == FIGURES)
		return;
	CHECK_THAT(left <= limit, "%s: %zu KiB kept, %zu more than the limit", what, left >> 10,
	           (left - limit) >> 10);
	CHECK_THAT(said == 1, "%s: malloc_trim says that nothing went", what);
	if (way == MINUTE) {
		left = footprint_gained();
		process_sleep_ms(60000);
		size_t later = footprint_gained();

		CHECK_THAT(later <= left + NOISE, "%s: a minute later %zu KiB more", what,
		           (later - left) >> 10);
	}
}
