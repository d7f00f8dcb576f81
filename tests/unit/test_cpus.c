/*
 * os/cpus: the quota, read from files made up here, and the affinity.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/os.h"
#include "support/folder.h"

static unsigned quota(void)
{
	return os_cpu_quota(folder_at("groups"), folder_at("mounts"));
}

/* Among mounts that show other groups. */
static void put_mounts(const char *v1_root, const char *v2_root)
{
	char text[512];

	snprintf(text, sizeof(text),
	         "22 27 0:21 / /proc rw - proc proc rw\n"
	         "30 22 0:30 /another /nowhere rw - cgroup2 cgroup2 rw\n"
	         "31 22 0:29 %s %s/v1 rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
	         "32 22 0:30 %s %s/v2 rw - cgroup2 cgroup2 rw\n"
	         "33 22 0:30 /another /nowhere rw - cgroup2 cgroup2 rw\n",
	         v1_root, folder, v2_root, folder);
	folder_put("mounts", text);
}

static void test_v2(void **state)
{
	(void)state;
	folder_put("groups", "0::/a/b\n");
	put_mounts("/", "/");
	folder_put("v2", NULL);
	folder_put("v2/a", NULL);
	folder_put("v2/a/b", NULL);
	assert_int_equal(quota(), UINT_MAX);
	folder_put("v2/a/b/cpu.max", "max 100000\n");
	assert_int_equal(quota(), UINT_MAX);
	folder_put("v2/a/b/cpu.max", "350000 100000\n");
	assert_int_equal(quota(), 4);
	/* The smallest on the way up, whichever it is. */
	folder_put("v2/a/cpu.max", "250000 100000\n");
	assert_int_equal(quota(), 3);
	folder_put("v2/cpu.max", "150000 100000\n");
	assert_int_equal(quota(), 2);
	folder_put("v2/a/b/cpu.max", "50000 100000\n");
	assert_int_equal(quota(), 1);
	/* Above the mount point is nothing of ours. */
	folder_put("v2/a/b/cpu.max", "max 100000\n");
	assert_int_equal(unlink(folder_at("v2/cpu.max")), 0);
	folder_put("cpu.max", "1 1\n");
	assert_int_equal(quota(), 3);
}

static void test_v1(void **state)
{
	(void)state;
	folder_put("groups", "5:cpuset:/x\n4:cpu,cpuacct:/docker/1/in\n0::/\n");
	put_mounts("/docker/1", "/");
	folder_put("v1", NULL);
	folder_put("v1/in", NULL);
	folder_put("v1/in/cpu.cfs_quota_us", "-1\n");
	folder_put("v1/in/cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota(), UINT_MAX);
	folder_put("v1/cpu.cfs_quota_us", "600000\n");
	assert_int_equal(quota(), UINT_MAX); /* of what period? */
	folder_put("v1/cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota(), 6);
	folder_put("v1/in/cpu.cfs_quota_us", "210000\n");
	assert_int_equal(quota(), 3);
	/* A limit in the other hierarchy counts too. */
	folder_put("v2", NULL);
	folder_put("v2/cpu.max", "100000 100000\n");
	assert_int_equal(quota(), 1);
	/* Another container's group. */
	assert_int_equal(unlink(folder_at("v2/cpu.max")), 0);
	folder_put("groups", "4:cpu,cpuacct:/docker/2\n");
	assert_int_equal(quota(), UINT_MAX);
}

static void test_nothing_there(void **state)
{
	(void)state;
	assert_int_equal(quota(), UINT_MAX);
	folder_put("groups", "0::/\n");
	assert_int_equal(quota(), UINT_MAX);
	folder_put("mounts", "");
	assert_int_equal(quota(), UINT_MAX);
	folder_put("groups", "");
	put_mounts("/", "/");
	folder_put("v2", NULL);
	folder_put("v2/cpu.max", "100000 100000\n");
	assert_int_equal(quota(), UINT_MAX);
	/* What was read before is forgotten. */
	folder_put("groups", "0::/\n");
	assert_int_equal(quota(), 1);
	assert_int_equal(unlink(folder_at("groups")), 0);
	assert_int_equal(quota(), UINT_MAX);
}

/* Lines and paths of any length, and files that are none. */
static void test_hostile(void **state)
{
	size_t lengths[] = { 1000, 1024, 1025, 2048, 4000, 4095, 4096, 4097, 8192, 20000 };
	char *text = malloc(65536);

	(void)state;
	put_mounts("/", "/");
	folder_put("v2", NULL);
	folder_put("v2/cpu.max", "100000 100000\n");
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = lengths[i];

		/* A line that is left out does not take the next one with it. */
		memset(text, 'x', n);
		strcpy(text + n, "\n0::/\n");
		folder_put("groups", text);
		assert_int_equal(quota(), 1);
		/* A group so deep that there is no room for its path. */
		memcpy(text, "0::/", 4);
		for (size_t k = 4; k < n; k++)
			text[k] = k % 2 ? '/' : 'd';
		strcpy(text + n, "\n");
		folder_put("groups", text);
		assert_int_equal(quota(), n - strlen("0::") <= 1024 ? 1 : UINT_MAX);
	}
	free(text);
	folder_put("groups", "0::/\n");
	folder_put("v2/cpu.max", "10000000000000000000000000000000000000000000000000000000000000000 1\n");
	assert_int_equal(quota(), UINT_MAX);
	folder_put("v2/cpu.max", "100000 100000"); /* cut short */
	assert_int_equal(quota(), UINT_MAX);
	folder_put("v2/cpu.max", "\n100000 100000\n");
	assert_int_equal(quota(), UINT_MAX);
	assert_int_equal(unlink(folder_at("v2/cpu.max")), 0);
	folder_put("v2/cpu.max", NULL);
	assert_int_equal(quota(), UINT_MAX);
	assert_int_equal(unlink(folder_at("groups")), 0);
	folder_put("groups", NULL);
	assert_int_equal(quota(), UINT_MAX);
}

/* Writes the pieces one by one: each is what one read gets. */
static void *feed(void *path)
{
	static char too_long[4096];
	int fd = open(path, O_WRONLY);
	const char *rest[] = { "0::/dee", "p", "\n4:cpu:/\n" };

	memset(too_long, 'x', sizeof(too_long));
	(void)!write(fd, too_long, sizeof(too_long));
	for (int i = 0; i < 3; i++) {
		usleep(20000);
		(void)!write(fd, rest[i], strlen(rest[i]));
	}
	close(fd);
	return NULL;
}

/* Lines that come in pieces are whole, or left out as a whole. */
static void test_short_reads(void **state)
{
	pthread_t feeder;
	char path[PATH_MAX];

	(void)state;
	strcpy(path, folder_at("groups"));
	assert_int_equal(mkfifo(path, 0600), 0);
	put_mounts("/", "/");
	folder_put("v2", NULL);
	folder_put("v2/cpu.max", "100000 100000\n");
	folder_put("v1", NULL);
	folder_put("v1/cpu.cfs_quota_us", "300000\n");
	folder_put("v1/cpu.cfs_period_us", "100000\n");
	assert_int_equal(pthread_create(&feeder, NULL, feed, path), 0);
	assert_int_equal(quota(), 3);
	assert_int_equal(pthread_join(feeder, NULL), 0);
}

static void test_closes_its_files(void **state)
{
	int before = dup(0), after;

	(void)state;
	close(before);
	folder_put("groups", "0::/\n4:cpu:/\n");
	put_mounts("/", "/");
	folder_put("v1", NULL);
	folder_put("v1/cpu.cfs_quota_us", "100000\n");
	folder_put("v1/cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota(), 1);
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

static int first_cpu(const cpu_set_t *set)
{
	int cpu = 0;

	while (!CPU_ISSET(cpu, set))
		cpu++;
	return cpu;
}

struct tied {
	int cpu;
	unsigned alone, together;
};

static void *ask_tied(void *argument)
{
	struct tied *tied = argument;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(tied->cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		return NULL;
	tied->alone = os_cpu_affinity();
	tied->together = os_cpu_count();
	return NULL;
}

/* Threads that are each tied to one have what all of them have. */
static void test_affinity(void **state)
{
	unsigned limit = os_cpu_quota("/proc/self/cgroup", "/proc/self/mountinfo"), asked = 0;
	cpu_set_t all;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(os_cpu_affinity(), CPU_COUNT(&all));
	for (int cpu = first_cpu(&all); cpu < CPU_SETSIZE; cpu++) {
		struct tied tied = { .cpu = cpu };
		pthread_t thread;

		if (!CPU_ISSET(cpu, &all))
			continue;
		assert_int_equal(pthread_create(&thread, NULL, ask_tied, &tied), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		asked++;
		assert_int_equal(tied.alone, 1);
		assert_int_equal(tied.together, asked < limit ? asked : limit);
	}
	assert_int_equal(asked, CPU_COUNT(&all));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_a_folder(test_v2),
		in_a_folder(test_v1),
		in_a_folder(test_nothing_there),
		in_a_folder(test_hostile),
		in_a_folder(test_short_reads),
		in_a_folder(test_closes_its_files),
		cmocka_unit_test(test_affinity),
	};

	return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}
