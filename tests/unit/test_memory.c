/*
 * os/memory: many ranges of pages go in few system calls, and those that are locked
 * stay alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/os.h"

#define PAGE ((size_t)4096)

/* Every other page of a mapping, in use. */
static char *start;
static struct os_range ranges[OS_DISCARD_RANGES];

static int map_ranges(void **state)
{
	(void)state;
	start = os_map(NULL, 2 * OS_DISCARD_RANGES * PAGE, OS_READ_WRITE);
	assert_non_null(start);
	memset(start, 1, 2 * OS_DISCARD_RANGES * PAGE);
	for (size_t i = 0; i < OS_DISCARD_RANGES; i++)
		ranges[i] = (struct os_range){ start + 2 * i * PAGE, PAGE };
	return 0;
}

static int unmap_ranges(void **state)
{
	(void)state;
	return os_unmap(start, 2 * OS_DISCARD_RANGES * PAGE) ? 0 : -1;
}

/* Since Linux 6.14 a process may name itself, where it may call this at all. */
static bool system_takes_vectors(void)
{
	int major = 0, minor = 0, self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	long result = syscall(SYS_process_madvise, self, ranges, 2, MADV_DONTNEED, 0);
	struct utsname name;

	(void)close(self);
	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return result > 0 && (major > 6 || (major == 6 && minor >= 14));
}

static void test_all_ranges_go_in_one_call(void **state)
{
	uint64_t calls = 0;

	(void)state;
	assert_int_equal(os_discard(ranges, OS_DISCARD_RANGES, &calls), OS_DISCARD_RANGES * PAGE);
	assert_int_equal(os_resident(start, 2 * OS_DISCARD_RANGES * PAGE), OS_DISCARD_RANGES * PAGE);
	for (size_t i = 0; i < 2 * OS_DISCARD_RANGES; i++)
		assert_int_equal(start[i * PAGE], i % 2);
	if (system_takes_vectors())
		assert_int_equal(calls, 1);
}

static void test_what_is_locked_stays_alone(void **state)
{
	static const size_t locked[] = { 0, 100, 101, OS_DISCARD_RANGES - 1 };
	uint64_t calls = 0;

	(void)state;
	/* By system call: sanitizers lock nothing. */
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(syscall(SYS_mlock, ranges[locked[i]].start, PAGE), 0);
	assert_int_equal(os_discard(ranges, OS_DISCARD_RANGES, &calls),
	                 (OS_DISCARD_RANGES - 4) * PAGE);
	assert_int_equal(os_resident(start, 2 * OS_DISCARD_RANGES * PAGE),
	                 (OS_DISCARD_RANGES + 4) * PAGE);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(*(char *)ranges[locked[i]].start, 1);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(syscall(SYS_munlock, ranges[locked[i]].start, PAGE), 0);
	if (system_takes_vectors())
		assert_in_range(calls, 1, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_ranges_go_in_one_call, map_ranges, unmap_ranges),
		cmocka_unit_test_setup_teardown(test_what_is_locked_stays_alone, map_ranges, unmap_ranges),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
