/*
 * How much of the processors a control group may use: the texts in which the kernel
 * says so.  Layer: base.  Pure: a line in, values out, and nothing in a line is
 * trusted; os/cgroup.c reads the files.  Lines come without their newline; spans that
 * are returned lie in them.
 *
 * Source: cgroups(7), proc(5), the kernel's documents on cgroup-v2 and CFS bandwidth.
 */
#ifndef CEDE_BASE_CGROUP_H
#define CEDE_BASE_CGROUP_H

#include "base/span.h"

/* A machine may have both hierarchies, and the limits in either. */
enum cgroup_version { CGROUP_V1, CGROUP_V2, CGROUP_VERSIONS };

/*
 * A line of /proc/self/cgroup: which version's group with CPU limits it names, and
 * its path; CGROUP_VERSIONS when none.
 */
enum cgroup_version cgroup_membership(struct span line, struct span *path);

/*
 * A line of /proc/self/mountinfo: which version's CPU limits it makes visible, of
 * the groups below `root`, at `point`, both escaped; CGROUP_VERSIONS when none.
 */
enum cgroup_version cgroup_mount(struct span line, struct span *root, struct span *point);

/*
 * Writes where the group of that path is seen, NUL-terminated, and returns how much
 * of it is the mount point's; 0 when it is not seen there, or `size` is too small.
 */
size_t cgroup_folder(char *folder, size_t size, struct span root, struct span point,
                     struct span path);

/* To the group above; false when that is above the mount point of `top` bytes. */
bool cgroup_ascend(char *folder, size_t top);

/* CPUs, rounded up and at least 1, that a limit amounts to; UINT_MAX: no limit. */
unsigned cgroup_cpus_v1(struct span quota, struct span period); /* cpu.cfs_*_us */
unsigned cgroup_cpus_v2(struct span max);                       /* cpu.max */

#endif
