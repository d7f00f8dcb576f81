/*
 * The lab's results as a table for people and as JSON for programs.
 * Layer: cli/lab.  Runs come grouped by experiment; neither writer keeps any.
 *
 * JSON, schema "cede-lab/1" (fields are only ever added; sizes are bytes, times
 * seconds since the run began):
 *   schema, version            "cede-lab/1", cede's version
 *   machine                    kernel, processors, memory_bytes
 *   runs[]                     one per experiment and allocator:
 *     experiment, title, allocator, library ("" for libc's own), options
 *     block_bytes, total_bytes   what was allocated in blocks
 *     limit_bytes                of the memory cgroup, in "two" alone
 *     outcome                    finished | killed | skipped | failed
 *     note                       the same for people; may be ""
 *     gained_bytes, kept_bytes   RSS beyond the start: when all is allocated, and
 *                                one second after the last free; absent when
 *                                the run did not come so far
 *     steps[]                    step, process (0 or 1), seconds, live_bytes,
 *                                rss_bytes, anonymous_bytes, heap_bytes,
 *                                machine_free_bytes, machine_available_bytes;
 *                                where malloc_stats tells: arena_system_bytes,
 *                                arena_in_use_bytes (the main arena),
 *                                total_system_bytes, total_in_use_bytes (with
 *                                mapped blocks; both modulo 4 GiB in glibc);
 *                                floor_bytes in sparse
 *     trace[]                    [seconds, live bytes, RSS bytes] each 20 ms
 */
#ifndef CEDE_CLI_LAB_REPORT_H
#define CEDE_CLI_LAB_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "lab/run.h"

/* The runs of one experiment, one row each; with `steps`, a row per moment. */
void report_table(FILE *out, const struct run *runs, size_t count, bool steps);

/* Returns 0, or -1 when memory or `out` failed. */
int report_json(FILE *out, const struct run *runs, size_t count);

#endif
