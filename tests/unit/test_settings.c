/*
 * base/settings: options, tunables, variables and mallopt.  The expected results
 * of the last three are what glibc 2.36 does.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fmt.h"
#include "base/settings.h"

static struct settings s;
static char last_warning[256];
static unsigned warnings;

static int start(void **state)
{
	(void)state;
	settings_init(&s);
	warnings = 0;
	last_warning[0] = '\0';
	return 0;
}

static void warn(const char *line)
{
	warnings++;
	fmt_into(last_warning, sizeof(last_warning), "%s", line);
}

static void read_variables(const char *first, const char *second)
{
	char *const environment[] = { "HOME=/", (char *)first, (char *)second, NULL };

	settings_init(&s);
	settings_read_environment(&s, environment, warn);
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(s.policy, POLICY_DEFAULT);
	assert_true(s.background);
	assert_true(s.dynamic_threshold);
	assert_false(s.trim_threshold_set);
	assert_int_equal(s.trim_threshold, 131072);
	assert_int_equal(s.top_pad, 131072);
	assert_int_equal(s.mmap_threshold, 131072);
	assert_int_equal(s.mmap_max, 65536);
	assert_int_equal(s.mxfast, 128);
	assert_int_equal(s.arena_test, 0);
	assert_int_equal(s.arena_max, 0);
	assert_int_equal(s.perturb, 0);
}

static void test_options(void **state)
{
	(void)state;
	settings_read_options(&s, "policy=classic,background=off", warn);
	assert_int_equal(s.policy, POLICY_CLASSIC);
	assert_false(s.background);
	settings_read_options(&s, ",background=on,,policy=classic,policy=default,", warn);
	assert_int_equal(s.policy, POLICY_DEFAULT);
	assert_true(s.background);
	settings_read_options(&s, "", warn);
	assert_int_equal(warnings, 0);
}

static void test_options_warn(void **state)
{
	(void)state;
	settings_read_options(&s, "polcy=classic,background=off", warn);
	assert_int_equal(warnings, 1);
	assert_string_equal(last_warning, "unknown option 'polcy=classic' ignored");
	assert_int_equal(s.policy, POLICY_DEFAULT);
	assert_false(s.background);

	settings_read_options(&s, "policy=clasic", warn);
	assert_int_equal(warnings, 2);
	assert_string_equal(last_warning,
	                    "option 'policy=clasic' ignored: policy is default or classic");
	settings_read_options(&s, "background", warn);
	assert_int_equal(warnings, 3);
	assert_string_equal(last_warning,
	                    "option 'background' ignored: background is on or off");
	settings_read_options(&s, "=classic", warn);
	assert_int_equal(warnings, 4);
}

static void test_options_warn_is_cut(void **state)
{
	char text[1001];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	settings_read_options(&s, text, warn);
	assert_int_equal(warnings, 1);
	assert_int_equal(strlen(last_warning), strlen("unknown option '' ignored") + 47);
}

static void test_option_retain_max(void **state)
{
	static const struct {
		const char *option;
		size_t bytes;
	} good[] = {
		{ "retain_max=0", 0 }, { "retain_max=4097", 4097 }, { "retain_max=3K", 3072 },
		{ "retain_max=64M", 64 << 20 }, { "retain_max=2G", (size_t)2 << 30 },
		{ "retain_max=18446744073709551615", SIZE_MAX },
		{ "retain_max=17179869183G", SIZE_MAX >> 30 << 30 },
	};
	static const char *const bad[] = {
		"retain_max", "retain_max=", "retain_max=M", "retain_max=1T", "retain_max=-1",
		"retain_max=1.5M", "retain_max=0x10", "retain_max=1MB", "retain_max=M1",
		"retain_max=17179869184G",
	};

	(void)state;
	assert_true(s.retain_max == SIZE_MAX);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		settings_read_options(&s, good[i].option, warn);
		assert_true(s.retain_max == good[i].bytes);
	}
	assert_int_equal(warnings, 0);
	settings_read_options(&s, "retain_max=7", warn);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		settings_read_options(&s, bad[i], warn);
		assert_int_equal(warnings, i + 1);
		assert_true(s.retain_max == 7);
	}
	assert_string_equal(last_warning, "option 'retain_max=17179869184G' ignored: "
	                    "retain_max is a number of bytes, or of K, M or G");
}

static void test_environment_options(void **state)
{
	(void)state;
	read_variables("CEDE_OPTIONS=policy=classic,nonsense=1", "CEDE_OPTIONS_=policy=default");
	assert_int_equal(s.policy, POLICY_CLASSIC);
	assert_int_equal(warnings, 1);
}

static void test_tunables(void **state)
{
	(void)state;
	read_variables("GLIBC_TUNABLES=glibc.malloc.top_pad=4096:glibc.malloc.perturb=0x1f"
	               ":glibc.malloc.mmap_threshold=0200000:glibc.malloc.trim_threshold=-1"
	               ":glibc.malloc.mmap_max=7:glibc.malloc.arena_max=2"
	               ":glibc.malloc.arena_test=3:glibc.malloc.mxfast=64",
	               NULL);
	assert_int_equal(s.top_pad, 4096);
	assert_int_equal(s.perturb, 0x1f);
	assert_int_equal(s.mmap_threshold, 0200000);
	assert_true(s.trim_threshold == SIZE_MAX);
	assert_true(s.trim_threshold_set);
	assert_int_equal(s.mmap_max, 7);
	assert_int_equal(s.arena_max, 2);
	assert_int_equal(s.arena_test, 3);
	assert_int_equal(s.mxfast, 64);
	assert_false(s.dynamic_threshold);
	assert_int_equal(warnings, 0);
}

static void test_tunables_out_of_range(void **state)
{
	static struct settings untouched;  /* static, so that the padding is zero as in s */

	(void)state;
	settings_init(&untouched);
	read_variables("GLIBC_TUNABLES=glibc.malloc.perturb=256:glibc.malloc.mmap_max=-1"
	               ":glibc.malloc.arena_max=0:glibc.malloc.arena_test=0"
	               ":glibc.malloc.mxfast=161:glibc.malloc.mmap_max=2147483648",
	               NULL);
	assert_memory_equal(&s, &untouched, sizeof(s));
	/* Accepted in silence: they change nothing here. */
	read_variables("GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.tcache_max=64"
	               ":glibc.malloc.tcache_count=0:glibc.malloc.tcache_unsorted_limit=1"
	               ":glibc.malloc.hugetlb=1:glibc.cpu.x86_ibt=on:top_pad=1",
	               "MALLOC_CHECK_=3");
	assert_memory_equal(&s, &untouched, sizeof(s));
	assert_int_equal(warnings, 0);
}

static void test_tunables_malformed(void **state)
{
	static const char *const texts[] = {
		"", ":", "=", ":::=:", "glibc.malloc.top_pad", "glibc.malloc.top_pad:",
		"glibc.malloc.top_pad=", "glibc.malloc.top_pad= ", "glibc.malloc.top_pad=-",
		"glibc.malloc.top_pad=1k", "glibc.malloc.top_pad=0x", "glibc.malloc.top_pad=0xg",
		"glibc.malloc.top_pad=08", "glibc.malloc.top_pad=a", "glibc.malloc.top_pad=1=2",
		"glibc.malloc.=1", "glibc.malloc.top_pa=1", "glibc.malloc.top_padd=1",
		"Xglibc.malloc.top_pad=1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char variable[64];

		fmt_into(variable, sizeof(variable), "GLIBC_TUNABLES=%s", texts[i]);
		read_variables(variable, NULL);
		assert_int_equal(s.top_pad, DEFAULT_TOP_PAD);
		assert_true(s.dynamic_threshold);
	}
	/* What stands beside a malformed one is read. */
	read_variables("GLIBC_TUNABLES=x:glibc.malloc.top_pad:=:glibc.malloc.top_pad=5", NULL);
	assert_int_equal(s.top_pad, 5);
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		size_t value;
	} cases[] = {
		{ "0", 0 }, { "00", 0 }, { "0x0", 0 }, { "10", 10 }, { "010", 8 },
		{ "0x10", 16 }, { "0XfF", 255 }, { " \t12", 12 }, { "+12", 12 },
		{ "-1", SIZE_MAX }, { "18446744073709551615", SIZE_MAX },
		{ "18446744073709551616", SIZE_MAX }, { "0xffffffffffffffffffff", SIZE_MAX },
		{ "-99999999999999999999999", SIZE_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char variable[64];

		fmt_into(variable, sizeof(variable), "MALLOC_TOP_PAD_=%s", cases[i].text);
		read_variables(variable, NULL);
		assert_true(s.top_pad == cases[i].value);
		assert_false(s.dynamic_threshold);
	}
}

static void test_variables(void **state)
{
	(void)state;
	read_variables("MALLOC_TOP_PAD_=1", "MALLOC_PERTURB_=2");
	assert_int_equal(s.top_pad, 1);
	assert_int_equal(s.perturb, 2);
	read_variables("MALLOC_MMAP_THRESHOLD_=3", "MALLOC_TRIM_THRESHOLD_=4");
	assert_int_equal(s.mmap_threshold, 3);
	assert_int_equal(s.trim_threshold, 4);
	read_variables("MALLOC_MMAP_MAX_=5", "MALLOC_ARENA_MAX=6");
	assert_int_equal(s.mmap_max, 5);
	assert_int_equal(s.arena_max, 6);
	read_variables("MALLOC_ARENA_TEST=7", "MALLOC_TOP_PAD=1");
	assert_int_equal(s.arena_test, 7);
	assert_int_equal(s.top_pad, DEFAULT_TOP_PAD);
}

static void test_tunable_wins(void **state)
{
	(void)state;
	read_variables("MALLOC_PERTURB_=5", "GLIBC_TUNABLES=glibc.malloc.perturb=9");
	assert_int_equal(s.perturb, 9);
	read_variables("GLIBC_TUNABLES=glibc.malloc.perturb=9", "MALLOC_PERTURB_=5");
	assert_int_equal(s.perturb, 9);
	read_variables("GLIBC_TUNABLES=glibc.malloc.perturb=999", "MALLOC_PERTURB_=5");
	assert_int_equal(s.perturb, 5);
}

static void test_mallopt_results(void **state)
{
	static const struct {
		int param, value, result;
	} cases[] = {
		{ M_MXFAST, 0, 1 }, { M_MXFAST, 160, 1 }, { M_MXFAST, 161, 0 },
		{ M_MXFAST, -1, 0 }, { M_TRIM_THRESHOLD, -1, 1 }, { M_TOP_PAD, 0, 1 },
		{ M_MMAP_THRESHOLD, 32 << 20, 1 }, { M_MMAP_THRESHOLD, (32 << 20) + 1, 1 },
		{ M_MMAP_THRESHOLD, -1, 1 }, { M_MMAP_MAX, -1, 1 }, { M_CHECK_ACTION, 99, 1 },
		{ M_PERTURB, 300, 1 }, { M_ARENA_TEST, 0, 1 }, { M_ARENA_MAX, -1, 1 },
		{ 77, 1, 1 }, { 0, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(settings_mallopt(&s, cases[i].param, cases[i].value),
		                 cases[i].result);
}

static void test_mallopt_fast(void **state)
{
	/* The largest request that goes to a fast bin needs a chunk of that size. */
	static const struct {
		int request;
		size_t chunk;
	} cases[] = {
		{ 0, 0 }, { 7, 0 }, { 8, 16 }, { 24, 32 }, { 39, 32 }, { 40, 48 },
		{ 120, 128 }, { 128, 128 }, { 160, 160 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		settings_mallopt(&s, M_MXFAST, cases[i].request);
		assert_int_equal(s.mxfast, cases[i].chunk);
	}
	assert_int_equal(settings_mallopt(&s, M_MXFAST, 1000), 0);
	assert_int_equal(s.mxfast, 160);
	assert_true(s.dynamic_threshold);
}

static void test_mallopt_stops_the_dynamic_rule(void **state)
{
	static const int params[] = {
		M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		settings_init(&s);
		settings_mallopt(&s, params[i], 64);
		assert_false(s.dynamic_threshold);
		assert_int_equal(s.trim_threshold_set, params[i] == M_TRIM_THRESHOLD);
	}
}

static void test_mallopt_negative(void **state)
{
	(void)state;
	settings_mallopt(&s, M_TRIM_THRESHOLD, -1);
	assert_true(s.trim_threshold == SIZE_MAX);
	settings_mallopt(&s, M_MMAP_MAX, -1);
	assert_int_equal(s.mmap_max, 0);
	settings_mallopt(&s, M_ARENA_TEST, 3);
	settings_mallopt(&s, M_ARENA_TEST, -1);
	assert_int_equal(s.arena_test, 3);
	settings_mallopt(&s, M_ARENA_MAX, 3);
	settings_mallopt(&s, M_ARENA_MAX, 0);
	assert_int_equal(s.arena_max, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_defaults, start),
		cmocka_unit_test_setup(test_options, start),
		cmocka_unit_test_setup(test_options_warn, start),
		cmocka_unit_test_setup(test_options_warn_is_cut, start),
		cmocka_unit_test_setup(test_option_retain_max, start),
		cmocka_unit_test_setup(test_environment_options, start),
		cmocka_unit_test_setup(test_tunables, start),
		cmocka_unit_test_setup(test_tunables_out_of_range, start),
		cmocka_unit_test_setup(test_tunables_malformed, start),
		cmocka_unit_test_setup(test_numbers, start),
		cmocka_unit_test_setup(test_variables, start),
		cmocka_unit_test_setup(test_tunable_wins, start),
		cmocka_unit_test_setup(test_mallopt_results, start),
		cmocka_unit_test_setup(test_mallopt_fast, start),
		cmocka_unit_test_setup(test_mallopt_stops_the_dynamic_rule, start),
		cmocka_unit_test_setup(test_mallopt_negative, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
