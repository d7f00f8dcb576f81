/*
 * base/pressure and os/pressure: the texts, what is watched in which order, and what
 * happens when it ends.  Nothing waits: each event is there before it is looked for.
 */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/pressure.h"
#include "os/os.h"
#include "support/folder.h"

/* ---- texts ---- */

static void expect_decoded(const char *text, const char *bytes, size_t count)
{
	unsigned char out[8] = { 0 };

	assert_int_equal(pressure_decode(span_of(text), out, sizeof(out)), count);
	if (count != SIZE_MAX)
		assert_memory_equal(out, bytes, count);
}

static void test_decode(void **state)
{
	(void)state;
	expect_decoded("", "", 0);
	expect_decoded("Zg==", "f", 1);
	expect_decoded("Zm8=", "fo", 2);
	expect_decoded("Zm9v", "foo", 3);
	expect_decoded("Zm9vYmFy", "foobar", 6);
	expect_decoded("AP/+AA==", "\0\xff\xfe\0", 4);
	expect_decoded("c29tZTEy", "some12", 6);
	expect_decoded("Zm9vYmFyZm8=", "foobarfo", 8);
	/* Too long, cut short, without padding, with other characters. */
	expect_decoded("Zm9vYmFyZm9v", NULL, SIZE_MAX);
	expect_decoded("Z", NULL, SIZE_MAX);
	expect_decoded("Zm9", NULL, SIZE_MAX);
	expect_decoded("Z===", NULL, SIZE_MAX);
	expect_decoded("====", NULL, SIZE_MAX);
	expect_decoded("Zm9-", NULL, SIZE_MAX);
	expect_decoded("Zm 9", NULL, SIZE_MAX);
	expect_decoded("Zg==Zg==", NULL, SIZE_MAX);
}

static void test_counters(void **state)
{
	(void)state;
	assert_int_equal(pressure_stall_us(span_of(
		"some avg10=0.00 avg60=1.23 avg300=0.00 total=2662869\n"
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=17\n")), 2662869);
	assert_int_equal(pressure_stall_us(span_of("full total=3\nsome total=4")), 4);
	assert_int_equal(pressure_stall_us(span_of("some total=\n")), 0);
	assert_int_equal(pressure_stall_us(span_of("some total=12x\n")), 0);
	assert_int_equal(pressure_stall_us(span_of("some\nfull total=3\n")), 0);
	assert_int_equal(pressure_stall_us(span_of("")), 0);
	assert_int_equal(pressure_times_high(span_of("low 1\nhigh 22\nmax 333\noom 4\n")), 22);
	assert_int_equal(pressure_times_high(span_of("low 1\nmax 333\n")), 0);
	assert_int_equal(pressure_times_high(span_of("high\n")), 0);
}

static void test_window(void **state)
{
	struct pressure_window w = { 5000, 0 };

	(void)state;
	assert_false(pressure_window_look(&w, 5000 + PRESSURE_STALL_US - 1));
	assert_true(pressure_window_look(&w, 5000 + PRESSURE_STALL_US));
	assert_false(pressure_window_look(&w, 5000 + PRESSURE_STALL_US));
	/* As much, but over a longer time. */
	for (size_t look = 0; look < 10 * PRESSURE_WINDOW_LOOKS; look++)
		assert_false(pressure_window_look(&w, 105000 + look * (PRESSURE_STALL_US - 1) /
		                                      PRESSURE_WINDOW_LOOKS));
	/* A file that is gone reads as nothing. */
	assert_false(pressure_window_look(&w, 0));
}

/* ---- what is watched ---- */

static void configure(const char *path, const char *text)
{
	char watch[PATH_MAX + 32], write_[2048];
	char *const environment[] = { watch, write_, NULL };

	snprintf(watch, sizeof(watch), "%s=%s", path != NULL ? "MEMORY_PRESSURE_WATCH" : "X", path);
	snprintf(write_, sizeof(write_), "%s=%s", text != NULL ? "MEMORY_PRESSURE_WRITE" : "Y", text);
	os_pressure_configure(environment);
}

/* The process is in the group /a of the folder; `machine` is the other file. */
static void put_group(void)
{
	char text[256];

	folder_put("groups", "0::/a\n");
	snprintf(text, sizeof(text), "32 22 0:30 / %s/v2 rw - cgroup2 cgroup2 rw\n", folder);
	folder_put("mounts", text);
	folder_put("v2", NULL);
	folder_put("v2/a", NULL);
}

static void put_stall(const char *name, unsigned us)
{
	char text[128];

	snprintf(text, sizeof(text), "some avg10=0.00 avg60=0.00 avg300=0.00 total=%u\n", us);
	folder_put(name, text);
}

/* Descriptors of the process that are open, 256 at most. */
static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void open_all(void)
{
	char groups[PATH_MAX], mounts[PATH_MAX], machine[PATH_MAX];

	/* What the last test opened; the program's own number below it is free again. */
	for (int fd = 3; fd < 256; fd++)
		if (fcntl(fd, F_GETFD) == FD_CLOEXEC)
			close(fd);
	strcpy(groups, folder_at("groups"));
	strcpy(mounts, folder_at("mounts"));
	strcpy(machine, folder_at("machine"));
	os_pressure_open(&(struct os_pressure_files){ groups, mounts, machine });
}

static bool is_short(void)
{
	return os_pressure_wait(0);
}

static void test_stall_of_the_group(void **state)
{
	(void)state;
	configure(NULL, NULL);
	put_group();
	put_stall("v2/a/memory.pressure", 7000000);
	put_stall("machine", 1);
	open_all();
	assert_false(is_short());
	put_stall("machine", 1 + 9 * PRESSURE_STALL_US);
	assert_false(is_short());
	put_stall("v2/a/memory.pressure", 7000000 + PRESSURE_STALL_US - 1);
	assert_false(is_short());
	put_stall("v2/a/memory.pressure", 7000000 + PRESSURE_STALL_US);
	assert_true(is_short());
	assert_false(is_short());
}

static void test_group_above_its_high(void **state)
{
	(void)state;
	configure(NULL, NULL);
	put_group();
	put_stall("machine", 1);
	folder_put("v2/a/memory.events", "low 0\nhigh 3\nmax 0\noom 0\n");
	open_all();
	assert_false(is_short());
	/* Pages of files fill a group to its limit, too, and nobody is in need. */
	folder_put("v2/a/memory.events", "low 9\nhigh 3\nmax 9\noom 0\n");
	assert_false(is_short());
	folder_put("v2/a/memory.events", "low 9\nhigh 4\nmax 9\noom 0\n");
	assert_true(is_short());
	assert_false(is_short());
	/* The group does not say how its tasks waited. */
	put_stall("machine", 1 + PRESSURE_STALL_US);
	assert_true(is_short());
}

static void test_stall_of_the_machine(void **state)
{
	(void)state;
	configure(NULL, NULL);
	put_stall("machine", 5);
	open_all();
	assert_false(is_short());
	put_stall("machine", 5 + PRESSURE_STALL_US);
	assert_true(is_short());
	assert_false(is_short());
}

static void test_nothing_there(void **state)
{
	unsigned before;

	(void)state;
	configure(NULL, NULL);
	open_all();
	before = descriptors();
	assert_false(is_short());
	/* Files that are none. */
	put_group();
	folder_put("v2/a/memory.pressure", NULL);
	folder_put("v2/a/memory.events", NULL);
	open_all();
	assert_false(is_short());
	assert_in_range(descriptors(), before, before + 2);
}

/* Values that make no sense count as none. */
static void test_nonsense_is_not_told(void **state)
{
	static char too_long[PATH_MAX + 1] = "/";
	const char *nonsense[][2] = {
		{ "", NULL }, { "memory.pressure", NULL }, { too_long, NULL },
		{ "/no/such/file", NULL }, { "/dev/zero", NULL }, { "/", NULL },
		{ NULL, "Zm9v" }, { "fifo", "Zm9" }, { "fifo", "*" },
	};

	(void)state;
	memset(too_long + 1, 'x', PATH_MAX - 1);
	assert_int_equal(mkfifo(folder_at("fifo"), 0600), 0);
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		const char *path = nonsense[i][0];
		bool fifo = path != NULL && strcmp(path, "fifo") == 0;

		configure(fifo ? folder_at("fifo") : path, nonsense[i][1]);
		put_stall("machine", 5);
		open_all();
		assert_false(is_short());
		put_stall("machine", 5 + PRESSURE_STALL_US);
		assert_true(is_short());
	}
}

static void test_fifo(void **state)
{
	int writer;

	(void)state;
	assert_int_equal(mkfifo(folder_at("fifo"), 0600), 0);
	configure(folder_at("fifo"), "aGVsbG8=");
	put_stall("machine", 5);
	open_all();
	/* What it wrote itself is no event. */
	assert_false(is_short());
	writer = open(folder_at("fifo"), O_WRONLY | O_NONBLOCK);
	assert_true(writer >= 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(writer, "now", 3), 3);
		assert_int_equal(write(writer, "now", 3), 3);
		assert_true(is_short());
		assert_false(is_short());
	}
	/* Writers come and go; and nothing else is looked at. */
	close(writer);
	put_stall("machine", 5 + PRESSURE_STALL_US);
	assert_false(is_short());
}

/* Whoever sends it may find the FIFO open before the thread first waits. */
static void test_event_while_it_opens(void **state)
{
	static const char *const texts[] = { NULL, "aGVsbG8=" };
	int fd;

	(void)state;
	assert_int_equal(mkfifo(folder_at("fifo"), 0600), 0);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		fd = open(folder_at("fifo"), O_RDWR | O_NONBLOCK);
		assert_int_equal(write(fd, "now", 3), 3);
		configure(folder_at("fifo"), texts[i]);
		open_all();
		assert_true(is_short());
		assert_false(is_short());
		close(fd);
	}
}

static int listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, folder_at(name), sizeof(address.sun_path) - 1);
	assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server, 4), 0);
	return server;
}

static void test_socket(void **state)
{
	int server = listen_at("socket"), peer;
	unsigned before;
	char text[16];

	(void)state;
	configure(folder_at("socket"), "AGhlbGxv");
	put_stall("machine", 5);
	open_all();
	peer = accept(server, NULL, NULL);
	assert_true(peer >= 0);
	assert_int_equal(read(peer, text, sizeof(text)), 6);
	assert_memory_equal(text, "\0hello", 6);
	assert_false(is_short());
	assert_int_equal(write(peer, "now", 3), 3);
	assert_true(is_short());
	assert_false(is_short());
	/* The last word counts; then the machine is looked at instead. */
	assert_int_equal(write(peer, "now", 3), 3);
	close(peer);
	assert_true(is_short());
	before = descriptors();
	assert_false(is_short());
	assert_int_equal(descriptors(), before);
	put_stall("machine", 5 + PRESSURE_STALL_US);
	assert_true(is_short());
	close(server);
}

/* A server that does not take the connection, or the path of which is too long. */
static void test_socket_refused(void **state)
{
	int server = listen_at("socket");
	unsigned before;

	(void)state;
	close(server);
	configure(folder_at("socket"), NULL);
	open_all();
	before = descriptors();
	assert_false(is_short());
	open_all();
	assert_int_equal(descriptors(), before);
}

/* A file of the kernel's gets the text, and is never read; this one never tells. */
static void test_file(void **state)
{
	char text[64] = { 0 };
	FILE *file;

	(void)state;
	put_stall("told", 5);
	put_stall("machine", 5);
	configure(folder_at("told"), "c29tZSAyMDAwMDAgMjAwMDAwMA==");
	open_all();
	file = fopen(folder_at("told"), "r");
	assert_non_null(file);
	assert_int_equal(fread(text, 1, 19, file), 19);
	fclose(file);
	assert_string_equal(text, "some 200000 2000000");
	put_stall("machine", 5 + PRESSURE_STALL_US);
	assert_false(is_short());
}

/* The kernel's own, without a trigger: it reports an error at once, and for ever. */
static void test_file_without_trigger(void **state)
{
	(void)state;
	if (access("/proc/pressure/memory", W_OK) != 0)
		skip();
	put_stall("machine", 5);
	configure("/proc/pressure/memory", NULL);
	open_all();
	assert_false(is_short());
	put_stall("machine", 5 + PRESSURE_STALL_US);
	assert_true(is_short());
}

/* At most two, so that the numbers below 3 are not all taken; all closed by exec. */
static void test_descriptors(void **state)
{
	unsigned before;

	(void)state;
	configure(NULL, NULL);
	open_all();
	before = descriptors();
	put_group();
	put_stall("v2/a/memory.pressure", 5);
	folder_put("v2/a/memory.events", "high 1\n");
	put_stall("machine", 5);
	open_all();
	assert_int_equal(descriptors(), before + 2);
	assert_int_equal(mkfifo(folder_at("fifo"), 0600), 0);
	configure(folder_at("fifo"), NULL);
	open_all();
	assert_int_equal(descriptors(), before + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_window),
		in_a_folder(test_stall_of_the_group),
		in_a_folder(test_group_above_its_high),
		in_a_folder(test_stall_of_the_machine),
		in_a_folder(test_nothing_there),
		in_a_folder(test_nonsense_is_not_told),
		in_a_folder(test_fifo),
		in_a_folder(test_event_while_it_opens),
		in_a_folder(test_socket),
		in_a_folder(test_socket_refused),
		in_a_folder(test_file),
		in_a_folder(test_file_without_trigger),
		in_a_folder(test_descriptors),
	};

	return cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
}
