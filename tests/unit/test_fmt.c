/*
 * base/fmt: every conversion against libc's snprintf, and what is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fmt.h"

/* The same text as libc makes of the same arguments. */
#define SAME(...) \
	do { \
		char ours_[256], theirs_[256]; \
		int length_ = snprintf(theirs_, sizeof(theirs_), __VA_ARGS__); \
		assert_int_equal(fmt_into(ours_, sizeof(ours_), __VA_ARGS__), length_); \
		assert_string_equal(ours_, theirs_); \
	} while (0)

static void test_numbers(void **state)
{
	(void)state;
	SAME("%d %d %d", 0, INT32_MIN, INT32_MAX);
	SAME("%ld %lld", INT64_MIN, (long long)INT64_MAX);
	SAME("%zd %zu", (ssize_t)-1, SIZE_MAX);
	SAME("%u %lu %llu", UINT32_MAX, UINT64_MAX, (unsigned long long)UINT64_MAX);
	SAME("%x %lx %zx", 0xbeefU, UINT64_MAX, (size_t)0);
	SAME("%p", (void *)0x7ffd1234);
}

static void test_texts(void **state)
{
	(void)state;
	SAME("plain");
	SAME("[%s] [%s] %c%c %d%%", "", "text", 'a', 'z', 31);
}

static void test_fields(void **state)
{
	(void)state;
	SAME("[%10zu] [%-10zu] [%010zu]", (size_t)42, (size_t)42, (size_t)42);
	SAME("[%6d] [%-6d] [%06d]", -42, -42, -42);
	SAME("[%016lx] [%2x]", 0xabcUL, 0xabcdef);
	SAME("[%8s] [%-8s] [%2s]", "abc", "abc", "abc");
	SAME("[%3c] [%-3c]", 'x', 'x');
	SAME("[%20p] [%-20p]", (void *)0x1000, (void *)0x1000);
}

/* libc's text for these is another's choice, or not defined. */
static void test_own_choices(void **state)
{
	char buf[64];
	const char *volatile none = NULL;
	const char *volatile odd = "%5y 100% %";

	(void)state;
	fmt_into(buf, sizeof(buf), "%s %p", none, (const void *)none);
	assert_string_equal(buf, "(null) 0x0");
	_Pragma("GCC diagnostic push")
	_Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
	_Pragma("GCC diagnostic ignored \"-Wformat-security\"")
	fmt_into(buf, sizeof(buf), odd);
	_Pragma("GCC diagnostic pop")
	assert_string_equal(buf, "%5y 100% %");
}

static void test_cut(void **state)
{
	char buf[8];

	(void)state;
	memset(buf, '#', sizeof(buf));
	assert_int_equal(fmt_into(buf, 5, "%s", "abcdefgh"), 4);
	assert_memory_equal(buf, "abcd\0###", 8);
	assert_int_equal(fmt_into(buf, 1, "%d", 7), 0);
	assert_memory_equal(buf, "\0bcd", 4);
	assert_int_equal(fmt_into(buf, 0, "%d", 7), 0);
	assert_memory_equal(buf, "\0bcd", 4);
	/* A width that no buffer has room for ends all the same. */
	assert_int_equal(fmt_into(buf, sizeof(buf), "%2000000000d", 7), 7);
	assert_string_equal(buf, "       ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_own_choices),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
