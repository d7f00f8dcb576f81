/*
 * introspect/text: the texts of malloc_stats and malloc_info and mallinfo2's
 * numbers, over two arenas made up here.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "introspect/snapshot.h"
#include "introspect/text.h"

static const struct arena_snapshot arenas[] = {
	{
		.fast = { [0] = { 32, 32, 96, 3 }, [5] = { 112, 112, 112, 1 } },
		.bins = { [1] = { 2720, 2720, 2720, 1 }, [63] = { 1008, 1008, 2016, 2 },
		          [126] = { 600000, 700000, 1300000, 2 } },
		.fast_bytes = 208, .fast_chunks = 4,
		.free_bytes = 1404736, .free_chunks = 6,
		.top_bytes = 100000,
		.system_bytes = 5368709120, .max_system_bytes = 6442450944,
		.lock_waits = 5000000000, .lock_sleeps = 12,
		.pinned_bytes = 4294967301, .refaulted_bytes = 6000000000,
		.address_space = 5368709120, .address_space_writable = 5368709120,
		.classes = { [0] = { 1, 16, 0 }, [3] = { 49, 64, 5 }, [87] = { 7169, 8192, 2000000 } },
		.slabs = {
			.segments = 4, .units = 20, .free_units = 2, .system_bytes = 1441792,
			.live_bytes = 6442450944, .free_blocks = 2000005, .resident_bytes = 40960,
			.free_resident_bytes = 8192, .record_bytes = 33000,
		},
		.is_main = true,
	},
	{
		.free_bytes = 30000, .free_chunks = 1,
		.top_bytes = 30000,
		.system_bytes = 32768, .max_system_bytes = 65536,
		.lock_waits = 3, .lock_sleeps = 1,
		.pinned_bytes = 2, .refaulted_bytes = 70,
		.heaps = 1,
		.address_space = 32768, .address_space_writable = 65536,
		.slabs = {
			.segments = 1, .units = 2, .free_units = 3, .system_bytes = 4,
			.live_bytes = 5, .free_blocks = 6, .resident_bytes = 7,
			.free_resident_bytes = 8, .record_bytes = 9,
		},
	},
};

static const struct mapped_snapshot mapped = {
	.blocks = 2, .bytes = 1253376, .max_blocks = 5, .max_bytes = 8589934592,
	.refaulted_bytes = 800,
};

static struct cede_stats stats;
static bool is_default, without_slabs;

bool snapshot_is_default(void)
{
	return is_default;
}

bool snapshot_arena(size_t index, struct arena_snapshot *out)
{
	if (index >= sizeof(arenas) / sizeof(arenas[0]))
		return false;
	*out = arenas[index];
	if (without_slabs)
		memset(out->classes, 0, sizeof(out->classes));
	return true;
}

void snapshot_mapped(struct mapped_snapshot *out)
{
	*out = mapped;
}

int cede_stats(struct cede_stats *out, size_t size)
{
	assert_int_equal(size, sizeof(*out));
	*out = stats;
	return 0;
}

struct text {
	char bytes[4096];
	size_t length;
};

static void collect(void *ctx, const char *text, size_t length)
{
	struct text *to = ctx;

	assert_true(to->length + length < sizeof(to->bytes));
	memcpy(to->bytes + to->length, text, length);
	to->length += length;
	to->bytes[to->length] = '\0';
}

static void test_malloc_stats(void **state)
{
	struct text text = { .length = 0 };

	(void)state;
	stats = (struct cede_stats){
		.policy = CEDE_POLICY_DEFAULT,
		.purger = CEDE_PURGER_AWAKE,
		.free_bytes = 1434944,
		.free_resident_bytes = 4096,
		.purged_bytes = 10737418240,
		.purge_calls = 17,
		.lock_waits = 5000000003,
		.lock_sleeps = 13,
		.slab_bytes = 1441796,
		.slab_live_bytes = 6442450949,
		.slab_free_blocks = 2000011,
		.slab_resident_bytes = 40967,
		.slab_record_bytes = 33009,
		.cached_bytes = 64,
		.pinned_bytes = 4294967303,
		.refaulted_bytes = 6000000870,
		.delay_ms = 650,
		.memory_locked = 1,
		.pressure_ms = 7000000001,
		.thread_retry_ms = 7000000002,
	};
	text_malloc_stats(collect, &text);
	assert_string_equal(text.bytes,
		"Arena 0:\n"
		"system bytes     = 5368709120\n"
		"in use bytes     = 5367304176\n"
		"Arena 1:\n"
		"system bytes     =      32768\n"
		"in use bytes     =       2768\n"
		"Total (incl. mmap):\n"
		"system bytes     = 5369995264\n"
		"in use bytes     = 5368560320\n"
		"max mmap regions =          5\n"
		"max mmap bytes   = 8589934592\n"
		"cede:\n"
		"policy           =    default\n"
		"purger           =      awake\n"
		"free bytes       =    1434944\n"
		"  maybe resident =       4096\n"
		"given back bytes = 10737418240\n"
		"purge calls      =         17\n"
		"lock waits       = 5000000003\n"
		"  asleep         =         13\n"
		"slab bytes       =    1441796\n"
		"  in use         = 6442450949\n"
		"  maybe resident =      40967\n"
		"slab free blocks =    2000011\n"
		"slab records     =      33009\n"
		"cached bytes     =         64\n"
		"pinned bytes     = 4294967303\n"
		"wanted again     = 6000000870\n"
		"delay, ms        =        650\n"
		"memory locked    =          1\n"
		"memory short, ms = 7000000001\n"
		"thread retry, ms = 7000000002\n");
}

static void test_malloc_stats_names(void **state)
{
	static const char *const purgers[] = {
		[CEDE_PURGER_NONE] = "= not needed yet\n", [CEDE_PURGER_ASLEEP] = "=     asleep\n",
		[CEDE_PURGER_AWAKE] = "=      awake\n", [CEDE_PURGER_ABSENT] = "=     absent\n",
	};

	(void)state;
	for (uint32_t i = 0; i < sizeof(purgers) / sizeof(purgers[0]); i++) {
		struct text text = { .length = 0 };

		stats = (struct cede_stats){ .policy = CEDE_POLICY_CLASSIC, .purger = i };
		text_malloc_stats(collect, &text);
		assert_non_null(strstr(text.bytes, purgers[i]));
		assert_non_null(strstr(text.bytes, "=    classic\n"));
		assert_null(strstr(text.bytes, "slab"));
		assert_null(strstr(text.bytes, "cached"));
		assert_null(strstr(text.bytes, "ms "));
	}
}

/* The lines that only the default policy has are marked by a `+`. */
static const char info_lines[] =
	"<malloc version=\"1\">\n"
	"<heap nr=\"0\">\n"
	"<sizes>\n"
	"  <size from=\"17\" to=\"32\" total=\"96\" count=\"3\"/>\n"
	"  <size from=\"97\" to=\"112\" total=\"112\" count=\"1\"/>\n"
	"  <size from=\"1008\" to=\"1008\" total=\"2016\" count=\"2\"/>\n"
	"  <size from=\"600000\" to=\"700000\" total=\"1300000\" count=\"2\"/>\n"
	"  <unsorted from=\"2720\" to=\"2720\" total=\"2720\" count=\"1\"/>\n"
	"+  <slab from=\"49\" to=\"64\" total=\"320\" count=\"5\"/>\n"
	"+  <slab from=\"7169\" to=\"8192\" total=\"16384000000\" count=\"2000000\"/>\n"
	"</sizes>\n"
	"<total type=\"fast\" count=\"4\" size=\"208\"/>\n"
	"<total type=\"rest\" count=\"6\" size=\"1404736\"/>\n"
	"<system type=\"current\" size=\"5368709120\"/>\n"
	"<system type=\"max\" size=\"6442450944\"/>\n"
	"<aspace type=\"total\" size=\"5368709120\"/>\n"
	"<aspace type=\"mprotect\" size=\"5368709120\"/>\n"
	"+<slabs segments=\"4\" units=\"20\" size=\"1441792\" live=\"6442450944\""
	" resident=\"40960\" free_resident=\"8192\" records=\"33000\"/>\n"
	"+<pages pinned=\"4294967301\" refaulted=\"6000000000\"/>\n"
	"+<lock waits=\"5000000000\" sleeps=\"12\"/>\n"
	"</heap>\n"
	"<heap nr=\"1\">\n"
	"<sizes>\n"
	"</sizes>\n"
	"<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
	"<total type=\"rest\" count=\"1\" size=\"30000\"/>\n"
	"<system type=\"current\" size=\"32768\"/>\n"
	"<system type=\"max\" size=\"65536\"/>\n"
	"<aspace type=\"total\" size=\"32768\"/>\n"
	"<aspace type=\"mprotect\" size=\"65536\"/>\n"
	"<aspace type=\"subheaps\" size=\"1\"/>\n"
	"+<slabs segments=\"1\" units=\"2\" size=\"4\" live=\"5\" resident=\"7\""
	" free_resident=\"8\" records=\"9\"/>\n"
	"+<pages pinned=\"2\" refaulted=\"70\"/>\n"
	"+<lock waits=\"3\" sleeps=\"1\"/>\n"
	"</heap>\n"
	"<total type=\"fast\" count=\"4\" size=\"208\"/>\n"
	"<total type=\"rest\" count=\"7\" size=\"1434736\"/>\n"
	"<total type=\"mmap\" count=\"2\" size=\"1253376\"/>\n"
	"<system type=\"current\" size=\"5368741888\"/>\n"
	"<system type=\"max\" size=\"6442516480\"/>\n"
	"<aspace type=\"total\" size=\"5368741888\"/>\n"
	"<aspace type=\"mprotect\" size=\"5368774656\"/>\n"
	"+<slabs segments=\"5\" units=\"22\" size=\"1441796\" live=\"6442450949\""
	" resident=\"40967\" free_resident=\"8200\" records=\"33009\"/>\n"
	"+<pages pinned=\"4294967303\" refaulted=\"6000000870\"/>\n"
	"+<lock waits=\"5000000003\" sleeps=\"13\"/>\n"
	"+<purger state=\"absent\" delay_ms=\"400\" memory_locked=\"1\""
	" pressure_ms=\"7000000003\" thread_retry_ms=\"7000000004\"/>\n"
	"</malloc>\n";

/* The lines of a policy. */
static void expect_info(struct text *to, bool of_default)
{
	for (const char *line = info_lines, *next; *line != '\0'; line = next) {
		bool more = *line == '+';

		next = strchr(line, '\n') + 1;
		if (!more || of_default)
			collect(to, line + more, (size_t)(next - line) - more);
	}
}

static void test_malloc_info(void **state)
{
	(void)state;
	stats = (struct cede_stats){
		.purger = CEDE_PURGER_ABSENT,
		.delay_ms = 400,
		.memory_locked = 1,
		.pressure_ms = 7000000003,
		.thread_retry_ms = 7000000004,
	};
	for (int i = 0; i < 2; i++) {
		struct text text = { .length = 0 }, expected = { .length = 0 };

		/* There are no slabs in classic, nor waits that it tells of. */
		is_default = i == 1;
		without_slabs = !is_default;
		expect_info(&expected, is_default);
		text_malloc_info(collect, &text);
		assert_string_equal(text.bytes, expected.bytes);
	}
	is_default = false;
}

static void test_mallinfo2(void **state)
{
	struct mallinfo2 info;

	(void)state;
	memset(&info, 0xff, sizeof(info));
	text_mallinfo2(&info);
	assert_true(info.arena == 5368741888);
	assert_int_equal(info.ordblks, 7);
	assert_int_equal(info.smblks, 4);
	assert_int_equal(info.hblks, 2);
	assert_int_equal(info.hblkhd, 1253376);
	assert_int_equal(info.usmblks, 0);
	assert_int_equal(info.fsmblks, 208);
	assert_true(info.uordblks == 5367306944);
	assert_int_equal(info.fordblks, 1434944);
	assert_int_equal(info.keepcost, 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malloc_stats),
		cmocka_unit_test(test_malloc_stats_names),
		cmocka_unit_test(test_malloc_info),
		cmocka_unit_test(test_mallinfo2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
