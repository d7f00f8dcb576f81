/*
 * readers/memory: what it tells of a process whose pages are known.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "readers/memory.h"

#define PAGES 8

/* A child that holds the parent's mappings of this moment, and sleeps. */
static pid_t child_start(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static char *pages_map(int protection)
{
	char *pages = mmap(NULL, PAGES * MEMORY_PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS,
	                   -1, 0);

	assert_true(pages != MAP_FAILED);
	/* No huge page gives its neighbours to a page. */
	madvise(pages, PAGES * MEMORY_PAGE, MADV_NOHUGEPAGE);
	return pages;
}

static void test_bytes(void **state)
{
	char *pages = pages_map(PROT_READ | PROT_WRITE), copy[64];
	struct memory memory;
	pid_t pid;

	(void)state;
	strcpy(pages + MEMORY_PAGE - 8, "across two pages");
	mprotect(pages + 2 * MEMORY_PAGE, MEMORY_PAGE, PROT_NONE);
	pid = child_start();
	memset(pages, 0, 2 * MEMORY_PAGE);
	assert_int_equal(memory_open(&memory, pid), 0);
	assert_true(memory_read(&memory, (uintptr_t)pages + MEMORY_PAGE - 8, copy, 17));
	assert_string_equal(copy, "across two pages");

	assert_int_equal(memory_read_some(&memory, (uintptr_t)pages + 2 * MEMORY_PAGE - 16, copy, 64),
	                 16);
	assert_false(memory_read(&memory, (uintptr_t)pages + 2 * MEMORY_PAGE - 16, copy, 64));
	assert_false(memory_read(&memory, 0, copy, 8));
	assert_false(memory_read(&memory, UINT64_MAX - 3, copy, 8));
	assert_false(memory_read(&memory, 1ul << 47, copy, 8));
	memory_close(&memory);
	child_end(pid);
	munmap(pages, PAGES * MEMORY_PAGE);
}

static bool kernel_tells_zeros(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	sscanf(name.release, "%d.%d", &major, &minor);
	return major > 6 || (major == 6 && minor >= 7);
}

static void test_pages(void **state)
{
	char *pages = pages_map(PROT_READ | PROT_WRITE);
	uint8_t seen[PAGES] = { 0 }, again[PAGES] = { 0 };
	struct memory memory;

	(void)state;
	memset(pages + 1 * MEMORY_PAGE, 'a', 2 * MEMORY_PAGE);
	memset(pages + 5 * MEMORY_PAGE, 'a', MEMORY_PAGE);
	madvise(pages + 2 * MEMORY_PAGE, MEMORY_PAGE, MADV_DONTNEED);
	assert_int_equal(*(volatile char *)(pages + 6 * MEMORY_PAGE), 0);

	assert_int_equal(memory_open(&memory, getpid()), 0);
	assert_true(memory_pages(&memory, (uintptr_t)pages, (uintptr_t)pages + PAGES * MEMORY_PAGE,
	                         seen));
	for (int i = 0; i < PAGES; i++) {
		if (i == 1 || i == 5)
			assert_int_equal(seen[i], MEMORY_RESIDENT);
		else if (i == 6)
			assert_int_equal(seen[i], kernel_tells_zeros() ? MEMORY_ZERO : MEMORY_RESIDENT);
		else
			assert_int_equal(seen[i], MEMORY_ABSENT);
	}
	/* To look at a page brings none in. */
	assert_true(memory_pages(&memory, (uintptr_t)pages, (uintptr_t)pages + PAGES * MEMORY_PAGE,
	                         again));
	assert_memory_equal(seen, again, sizeof(seen));
	memory_close(&memory);
	munmap(pages, PAGES * MEMORY_PAGE);
}

static void run_count(void *context, uint64_t begin, uint64_t end, enum memory_page state)
{
	if (state == MEMORY_RESIDENT)
		*(uint64_t *)context += end - begin;
}

/* More runs than one answer of the kernel holds. */
static void test_many_runs(void **state)
{
	size_t size = 4000 * MEMORY_PAGE;
	char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t resident = 0;
	struct memory memory;

	(void)state;
	madvise(pages, size, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += 2 * MEMORY_PAGE)
		pages[at] = 'a';
	assert_int_equal(memory_open(&memory, getpid()), 0);
	assert_true(memory_scan(&memory, (uintptr_t)pages, (uintptr_t)pages + size, run_count,
	                        &resident));
	assert_int_equal(resident, size / 2);
	memory_close(&memory);
	munmap(pages, size);
}

static void test_mappings(void **state)
{
	char *pages = pages_map(PROT_READ | PROT_WRITE);
	const struct memory_mapping *mapping;
	struct memory memory;

	(void)state;
	mprotect(pages + MEMORY_PAGE, MEMORY_PAGE, PROT_NONE);
	assert_int_equal(memory_open(&memory, getpid()), 0);
	mapping = memory_mapping_at(&memory, (uintptr_t)pages + MEMORY_PAGE);
	assert_non_null(mapping);
	assert_int_equal(mapping->begin, (uintptr_t)pages + MEMORY_PAGE);
	assert_int_equal(mapping->end, (uintptr_t)pages + 2 * MEMORY_PAGE);
	assert_false(mapping->readable || mapping->writable || mapping->shared);
	assert_int_equal(mapping->kind, MEMORY_ANONYMOUS);
	mapping = memory_mapping_at(&memory, (uintptr_t)&state);
	assert_int_equal(mapping->kind, MEMORY_STACK);
	mapping = memory_mapping_at(&memory, (uintptr_t)test_mappings);
	assert_int_equal(mapping->kind, MEMORY_FILE);
	assert_true(mapping->executable);
	assert_string_equal(memory_mapping_name(mapping), program_invocation_short_name);
	assert_null(memory_mapping_at(&memory, 0));
	assert_null(memory_mapping_at(&memory, MEMORY_END));

	munmap(pages + MEMORY_PAGE, MEMORY_PAGE);
	assert_int_equal(memory_map(&memory), 0);
	assert_null(memory_mapping_at(&memory, (uintptr_t)pages + MEMORY_PAGE));
	memory_close(&memory);
	munmap(pages, PAGES * MEMORY_PAGE);
}

/* The file under a mapping, when its name is another file's or nobody's. */
static void test_mapped_file(void **state)
{
	char path[] = "cede file with spaces XXXXXX", name[128], content[4] = "";
	int file = mkstemp(path), opened;
	const struct memory_mapping *mapping;
	struct memory memory;
	void *mapped;

	(void)state;
	assert_int_equal(write(file, "old", 3), 3);
	mapped = mmap(NULL, MEMORY_PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	assert_int_equal(memory_open(&memory, getpid()), 0);
	mapping = memory_mapping_at(&memory, (uintptr_t)mapped);
	snprintf(name, sizeof(name), "%s", path);
	assert_string_equal(memory_mapping_name(mapping), name);
	assert_false(mapping->deleted);
	opened = memory_mapping_open(&memory, mapping);
	assert_true(opened >= 0);
	close(opened);

	unlink(path);
	close(file);
	assert_int_equal(memory_map(&memory), 0);
	mapping = memory_mapping_at(&memory, (uintptr_t)mapped);
	assert_string_equal(memory_mapping_name(mapping), name);
	assert_true(mapping->deleted);
	opened = memory_mapping_open(&memory, mapping);
	if (geteuid() == 0) {
		assert_int_equal(read(opened, content, 3), 3);
		assert_string_equal(content, "old");
		close(opened);
	}
	memory_close(&memory);
	munmap(mapped, MEMORY_PAGE);
}

static void test_errors(void **state)
{
	struct memory memory;
	pid_t pid = child_start();

	(void)state;
	child_end(pid);
	assert_int_equal(memory_open(&memory, pid), ESRCH);
	if (geteuid() == 0) {
		int status;

		pid = fork();
		if (pid == 0) {
			if (setuid(65534) != 0)
				_exit(2);
			_exit(memory_open(&memory, getppid()) == EACCES ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_many_runs),
		cmocka_unit_test(test_mappings),
		cmocka_unit_test(test_mapped_file),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
