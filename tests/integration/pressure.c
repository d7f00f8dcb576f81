/*
 * What the thread that gives memory back does when memory is short, and that nobody
 * notices how it hears of it.  The test is the service manager: it says what is to be
 * watched before the heap is used first.  Layer: tests.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/process.h"

#define MIB          ((size_t)1 << 20)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char path[64];

/* A new name for the FIFO or the socket; the heap will be told of it. */
static void announce(void)
{
	snprintf(path, sizeof(path), P_tmpdir "/cede-pressure-%d", getpid());
	(void)unlink(path);
	CHECK(setenv("MEMORY_PRESSURE_WATCH", path, 1) == 0);
}

static void make_fifo(void)
{
	announce();
	CHECK(mkfifo(path, 0600) == 0);
}

/* Nobody has it open for reading: then the event cannot be sent. */
static bool send_event(void)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	CHECK(write(fd, "now", 3) == 3);
	close(fd);
	return true;
}

static struct cede_stats stats(void)
{
	struct cede_stats now;

	CHECK(cede_stats(&now, sizeof(now)) == 0);
	return now;
}

/* A pool that fills and empties too fast to be given back. */
static void use_pool(void)
{
	heap_free(memset(heap_malloc(16 * MIB), 1, 16 * MIB));
	process_sleep_ms(10);
}

/* Until its thread is awake. */
static void start_purger(void)
{
	do
		use_pool();
	while (stats().purger != CEDE_PURGER_AWAKE);
}

/* The alarm of the case ends what never comes. */
static void expect_releases(uint64_t count)
{
	while (stats().pressure_releases < count)
		use_pool();
	CHECK(stats().pressure_releases == count);
}

static void send_and_expect(uint64_t count)
{
	while (!send_event())
		use_pool();
	expect_releases(count);
}

static pid_t purger_thread(void)
{
	pid_t threads[8];
	size_t count = process_threads(threads, COUNT(threads));

	for (size_t i = 0; i < count && i < COUNT(threads); i++)
		if (threads[i] != getpid())
			return threads[i];
	return 0;
}

/* Descriptors below 64 that a thread has open, a bit each. */
static unsigned long descriptors_of(pid_t thread)
{
	unsigned long open_ones = 0;
	char name[64], target[8];

	for (int fd = 0; fd < 64; fd++) {
		snprintf(name, sizeof(name), "/proc/self/task/%d/fd/%d", thread, fd);
		if (readlink(name, target, sizeof(target)) >= 0)
			open_ones |= 1ul << fd;
	}
	return open_ones;
}

static void event_releases(void)
{
	make_fifo();
	start_purger();
	CHECK(stats().pressure_releases == 0);
	send_and_expect(1);
}

/* A daemon closes all descriptors, and takes their numbers for others. */
static void closes_all_descriptors(void)
{
	int ends[64][2];
	char byte;

	make_fifo();
	start_purger();
	send_and_expect(1);
	CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
	for (size_t i = 0; i < COUNT(ends); i++) {
		CHECK(pipe(ends[i]) == 0);
		CHECK(write(ends[i][1], "", 1) == 1);
	}
	send_and_expect(2);
	send_and_expect(3);
	for (size_t i = 0; i < COUNT(ends); i++)
		CHECK(read(ends[i][0], &byte, 1) == 1);
}

/* Nor does the thread keep any of the program's: a pipe ends when it closes its end. */
static void descriptors_are_apart(void)
{
	int early[2], late[2];
	unsigned long before;
	char byte;

	make_fifo();
	CHECK(pipe(early) == 0);
	before = descriptors_of(getpid());
	start_purger();
	send_and_expect(1);
	CHECK(descriptors_of(getpid()) == before);
	CHECK(descriptors_of(purger_thread()) == 1);
	CHECK(pipe(late) == 0);
	close(early[1]);
	close(late[1]);
	CHECK(read(early[0], &byte, 1) == 0);
	CHECK(read(late[0], &byte, 1) == 0);
}

static int listen_there(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	announce();
	strcpy(address.sun_path, path);
	CHECK(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(server, 4) == 0);
	return server;
}

/* Serves the one connection of this process's purger. */
static void serve_one(int server)
{
	int peer;

	start_purger();
	peer = accept(server, NULL, NULL);
	CHECK(peer >= 0);
	for (uint64_t events = 1; events <= 2; events++) {
		CHECK(write(peer, "now", 3) == 3);
		expect_releases(events);
	}
	close(peer);
}

/* Its own thread, its own connection. */
static void child_watches_too(void)
{
	int server = listen_there(), status;
	pid_t child;

	serve_one(server);
	/* Counts are inherited, as all of the heap. */
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		int peer;

		alarm(20);
		CHECK(process_threads(NULL, 0) == 1);
		start_purger();
		peer = accept(server, NULL, NULL);
		CHECK(peer >= 0);
		CHECK(write(peer, "now", 3) == 3);
		expect_releases(3);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(stats().pressure_releases == 2);
}

/* Then there is nobody to hear it. */
static void without_thread_nothing_is_watched(void)
{
	make_fifo();
	setenv("CEDE_OPTIONS", "policy=default,background=off", 1);
	for (int i = 0; i < 20; i++)
		use_pool();
	CHECK(process_threads(NULL, 0) == 1);
	CHECK(!send_event());
}

/* The thread then has the program's descriptors, and no other. */
static void switched_off(void)
{
	announce();
	setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
	start_purger();
	for (int i = 0; i < 20; i++)
		use_pool();
	CHECK(descriptors_of(purger_thread()) == descriptors_of(getpid()));
	CHECK(stats().pressure_releases == 0);
}

static void idle_thread_hears_nothing(void)
{
	unsigned long before;
	pid_t purger;

	make_fifo();
	start_purger();
	send_and_expect(1);
	while (stats().purger != CEDE_PURGER_ASLEEP)
		process_sleep_ms(20);
	purger = purger_thread();
	before = process_switches(purger);
	for (int i = 0; i < 5; i++) {
		CHECK(send_event());
		process_sleep_ms(1000);
	}
	CHECK_THAT(process_switches(purger) == before, "%lu wake-ups in five idle seconds",
	           process_switches(purger) - before);
	/* What came meanwhile is one event when it wakes. */
	expect_releases(2);
	for (int i = 0; i < 150; i++)
		use_pool();
	CHECK(stats().pressure_releases == 2);
}

static void free_twice_unseen(void)
{
	char *block = heap_malloc(100);

	heap_free(block);
	/* Without its mark it seems to be in use. */
	memset(block, 0, 100);
	heap_free(block);
	/* This thread must not empty its cache itself, as statistics would. */
	use_pool();
	pause();
}

/* What the thread finds wrong reaches the program's stderr. */
static void misuse_is_reported(void)
{
	char text[512] = "";
	int ends[2], status;
	pid_t child;

	make_fifo();
	CHECK(pipe(ends) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
		close(ends[1]);
		free_twice_unseen();
	}
	close(ends[1]);
	for (size_t used = 0; used < sizeof(text) - 1;) {
		ssize_t n = read(ends[0], text + used, sizeof(text) - 1 - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_THAT(strstr(text, "double free") != NULL, "it said \"%s\"", text);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "event_releases", event_releases, 20 },
		{ "closes_all_descriptors", closes_all_descriptors, 30 },
		{ "descriptors_are_apart", descriptors_are_apart, 20 },
		{ "child_watches_too", child_watches_too, 40 },
		{ "without_thread_nothing_is_watched", without_thread_nothing_is_watched, 20 },
		{ "switched_off", switched_off, 20 },
		{ "idle_thread_hears_nothing", idle_thread_hears_nothing, 30 },
		{ "misuse_is_reported", misuse_is_reported, 20 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
