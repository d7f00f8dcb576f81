/*
 * How many processors there are for this process.
 *
 * The buffers are static: none of their pages is touched in a program that never asks.
 */
#include <limits.h>

#include "base/bits.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "os/syscall.h"

#define MASK_WORDS 128 /* 8192 CPUs */

static struct cgroup_search search;

static unsigned group_quota(enum cgroup_version version)
{
	char quota[64], period[64];

	if (version == CGROUP_V2)
		return cgroup_cpus_v2(cgroup_value(&search, version, "/cpu.max", quota));
	return cgroup_cpus_v1(cgroup_value(&search, version, "/cpu.cfs_quota_us", quota),
	                      cgroup_value(&search, version, "/cpu.cfs_period_us", period));
}

unsigned os_cpu_quota(const char *groups_file, const char *mounts_file)
{
	size_t least = UINT_MAX;

	cgroup_find(&search, groups_file, mounts_file);
	for (unsigned v = 0; v < CGROUP_VERSIONS; v++) {
		struct cgroup_place *place = &search.places[v];

		if (place->top == 0)
			continue;
		do
			least = size_min(least, group_quota(v));
		while (cgroup_ascend(place->folder, place->top));
	}
	return (unsigned)least;
}

/* Adds the calling thread's CPUs to the mask; returns how many it then has. */
static unsigned add_affinity(unsigned long mask[MASK_WORDS])
{
	unsigned long own[MASK_WORDS];
	long bytes = sys(SYS_sched_getaffinity, 0, sizeof(own), own);
	unsigned count = 0;

	for (unsigned i = 0; i < MASK_WORDS; i++) {
		if (!sys_failed(bytes) && i < (size_t)bytes / sizeof(own[0]))
			mask[i] |= own[i];
		count += (unsigned)__builtin_popcountl(mask[i]);
	}
	return count != 0 ? count : 1;
}

unsigned os_cpu_affinity(void)
{
	unsigned long mask[MASK_WORDS] = { 0 };

	return add_affinity(mask);
}

unsigned os_cpu_count(void)
{
	static unsigned long mask[MASK_WORDS];
	static unsigned quota; /* 0: not read yet */
	unsigned count = add_affinity(mask);

	if (count > 1 && quota == 0)
		quota = os_cpu_quota("/proc/self/cgroup", "/proc/self/mountinfo");
	return count == 1 ? 1 : (unsigned)size_min(count, quota);
}
