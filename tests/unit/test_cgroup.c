/*
 * base/cgroup: the kernel's texts about control groups, and such as it never wrote.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cgroup.h"

static void expect_membership(const char *line, enum cgroup_version version, const char *path)
{
	struct span found = { NULL, 0 };

	assert_int_equal(cgroup_membership(span_of(line), &found), version);
	if (version != CGROUP_VERSIONS)
		assert_true(span_is(found, path));
}

static void test_membership(void **state)
{
	(void)state;
	expect_membership("0::/", CGROUP_V2, "/");
	expect_membership("0::/user.slice/a b:c.scope", CGROUP_V2, "/user.slice/a b:c.scope");
	expect_membership("4:cpu,cpuacct:/docker/x", CGROUP_V1, "/docker/x");
	expect_membership("4:cpuacct,cpu:/", CGROUP_V1, "/");
	expect_membership("12:cpu:/y", CGROUP_V1, "/y");

	expect_membership("4:cpuset:/x", CGROUP_VERSIONS, NULL);
	expect_membership("4:cpuacct:/x", CGROUP_VERSIONS, NULL);
	expect_membership("9:name=cpu:/x", CGROUP_VERSIONS, NULL);
	expect_membership("1::/x", CGROUP_VERSIONS, NULL);
	expect_membership("0::", CGROUP_VERSIONS, NULL);
	expect_membership("0::x", CGROUP_VERSIONS, NULL);
	expect_membership("0:", CGROUP_VERSIONS, NULL);
	expect_membership("0", CGROUP_VERSIONS, NULL);
	expect_membership("", CGROUP_VERSIONS, NULL);
	expect_membership("::::", CGROUP_VERSIONS, NULL);
}

static void expect_mount(const char *line, enum cgroup_version version, const char *root,
                         const char *point)
{
	struct span found_root, found_point;

	assert_int_equal(cgroup_mount(span_of(line), &found_root, &found_point), version);
	if (version != CGROUP_VERSIONS) {
		assert_true(span_is(found_root, root));
		assert_true(span_is(found_point, point));
	}
}

static void test_mount(void **state)
{
	(void)state;
	expect_mount("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
	             CGROUP_V1, "/", "/sys/fs/cgroup/cpu");
	expect_mount("32 31 0:29 /docker/x /a\\040b rw shared:7 master:1"
	             " - cgroup none rw,cpuacct,cpu", CGROUP_V1, "/docker/x", "/a\\040b");
	expect_mount("41 31 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", CGROUP_V2, "/",
	             "/sys/fs/cgroup");
	expect_mount("41 31 0:31 / /sys/fs/cgroup rw - cgroup2", CGROUP_V2, "/", "/sys/fs/cgroup");

	expect_mount("33 31 0:30 / /c rw,cpu - cgroup cgroup rw,cpuacct", CGROUP_VERSIONS, NULL,
	             NULL);
	expect_mount("33 31 0:30 / /c rw,cpu - tmpfs tmpfs rw,cpu", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c rw - cgroup cgroup", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c rw - cgroup", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c rw - cgroup2extra x rw", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / c rw - cgroup2 x rw", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 /  rw - cgroup2 x rw", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c rw cgroup2 x rw", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c rw -", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31 0:30 / /c", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("33 31", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("", CGROUP_VERSIONS, NULL, NULL);
	expect_mount("    ", CGROUP_VERSIONS, NULL, NULL);
}

static void expect_folder(const char *root, const char *point, const char *path, size_t top,
                          const char *folder)
{
	char text[64];

	assert_int_equal(cgroup_folder(text, sizeof(text), span_of(root), span_of(point),
	                               span_of(path)), top);
	if (top != 0)
		assert_string_equal(text, folder);
}

static void test_folder(void **state)
{
	(void)state;
	expect_folder("/", "/cg", "/", 3, "/cg");
	expect_folder("/", "/cg", "/a/b", 3, "/cg/a/b");
	expect_folder("/docker/x", "/cg", "/docker/x", 3, "/cg");
	expect_folder("/docker/x", "/cg", "/docker/x/y", 3, "/cg/y");
	expect_folder("/a\\040b", "/c\\134\\040g", "/a b/c\\040", 5, "/c\\ g/c\\040");
	/* No escape, though it begins like one. */
	expect_folder("/", "/c\\04", "/", 5, "/c\\04");
	expect_folder("/", "/c\\800", "/", 6, "/c\\800");

	expect_folder("/docker/x", "/cg", "/docker/xy", 0, NULL);
	expect_folder("/docker/x", "/cg", "/docker", 0, NULL);
	expect_folder("/docker/x", "/cg", "/", 0, NULL);
	expect_folder("/..", "/cg", "/", 0, NULL);
	expect_folder("/..", "/cg", "/../a", 0, NULL);
	expect_folder("/", "/cg", "/../../a", 0, NULL);
	expect_folder("/", "/cg", "/a/..", 0, NULL);
	expect_folder("/", "/cg", "/a..", 3, "/cg/a..");
}

static void test_folder_fits(void **state)
{
	char folder[12], *end = folder + sizeof(folder);

	(void)state;
	for (size_t size = 0; size < sizeof(folder); size++) {
		memset(folder, '#', sizeof(folder));
		assert_int_equal(cgroup_folder(folder, size, span_of("/"), span_of("/\\143g"),
		                               span_of("/a/b")), size >= 8 ? 3 : 0);
		for (char *at = folder + size; at < end; at++)
			assert_int_equal(*at, '#');
	}
}

static void test_ascend(void **state)
{
	char folder[32] = "/cg/a/bc";

	(void)state;
	assert_true(cgroup_ascend(folder, 3));
	assert_string_equal(folder, "/cg/a");
	assert_true(cgroup_ascend(folder, 3));
	assert_string_equal(folder, "/cg");
	assert_false(cgroup_ascend(folder, 3));
	assert_string_equal(folder, "/cg");

	strcpy(folder, "/cg//a/");
	for (int i = 0; i < 3; i++)
		assert_true(cgroup_ascend(folder, 3));
	assert_false(cgroup_ascend(folder, 3));
	/* The mount point was cut short by a NUL in its name. */
	strcpy(folder, "/c");
	assert_false(cgroup_ascend(folder, 5));
}

static void test_quota(void **state)
{
	static const struct {
		const char *max;
		unsigned cpus;
	} cases[] = {
		{ "100000 100000", 1 }, { "100001 100000", 2 }, { "200000 100000", 2 },
		{ "1000 100000", 1 }, { "0 100000", 1 }, { "6400000 100000", 64 },
		{ "5 2", 3 }, { "00100000 0100000", 1 },
		{ "99999999999999999999 1", UINT_MAX }, { "18446744073709551615 1", UINT_MAX },
		{ "1 99999999999999999999", 1 },
		{ "max 100000", UINT_MAX }, { "max", UINT_MAX }, { "100000", UINT_MAX },
		{ "100000 0", UINT_MAX }, { "100000 ", UINT_MAX }, { " 100000", UINT_MAX },
		{ "-1 100000", UINT_MAX }, { "100000 -1", UINT_MAX }, { "1e5 100000", UINT_MAX },
		{ "100000 100000 1", UINT_MAX }, { "+1 1", UINT_MAX }, { "\xff 1", UINT_MAX },
		{ "", UINT_MAX }, { " ", UINT_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cgroup_cpus_v2(span_of(cases[i].max)) != cases[i].cpus)
			fail_msg("cpu.max '%s': not %u", cases[i].max, cases[i].cpus);
	}
	assert_int_equal(cgroup_cpus_v1(span_of("150000"), span_of("100000")), 2);
	assert_int_equal(cgroup_cpus_v1(span_of("-1"), span_of("100000")), UINT_MAX);
	assert_int_equal(cgroup_cpus_v1(span_of("150000"), span_of("")), UINT_MAX);
	assert_int_equal(cgroup_cpus_v1(span_of(""), span_of("100000")), UINT_MAX);
}

/* Whatever the bytes, nothing outside of the text is read (asan, ubsan) or found. */
static void test_noise(void **state)
{
	static const char letters[] = "/.:,- \\0147cgroup2max\n";
	uint32_t random = 1;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		char text[40], folder[32];
		size_t length = (random >> 8) % sizeof(text);
		struct span line = { text, length }, first = { NULL, 0 }, second = { NULL, 0 };

		for (size_t k = 0; k < length; k++) {
			random = random * 1664525 + 1013904223;
			text[k] = letters[(random >> 16) % sizeof(letters)];
		}
		random = random * 1664525 + 1013904223;
		if (cgroup_membership(line, &first) != CGROUP_VERSIONS)
			assert_true(first.start + first.length == text + length);
		if (cgroup_mount(line, &first, &second) != CGROUP_VERSIONS)
			assert_true(second.start + second.length <= text + length);
		if (cgroup_folder(folder, sizeof(folder), span_of("/"), line, line) != 0)
			assert_true(strlen(folder) < sizeof(folder));
		assert_true(cgroup_cpus_v2(line) >= 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_membership),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_folder_fits),
		cmocka_unit_test(test_ascend),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
