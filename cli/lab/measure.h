/*
 * Measuring a process from outside.  Layer: cli/lab.  All values are bytes.
 * Reads /proc alone; the process measured does nothing for it.
 */
#ifndef CEDE_CLI_LAB_MEASURE_H
#define CEDE_CLI_LAB_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct measure_process {
	uint64_t rss, anonymous, swap; /* from smaps_rollup: exact, where VmRSS is not */
	uint64_t heap;                 /* every mapping named [heap], resident or not */
};

struct measure_machine {
	uint64_t total, free, available;
};

/* What malloc_stats says: the main arena, and all arenas with mapped blocks. */
struct measure_stats {
	bool known;
	uint64_t arena_system, arena_in_use;
	uint64_t total_system, total_in_use;
};

/* Returns 0, or -1 when the process is gone. */
int measure_process(pid_t pid, struct measure_process *out);

/* RSS alone, cheap enough for 50 times a second; 0 when the process is gone. */
uint64_t measure_rss(pid_t pid);

/* Returns 0, or -1 with errno. */
int measure_machine(struct measure_machine *out);

/* Whether the file at `path` is mapped by the process. */
bool measure_has_mapped(pid_t pid, const char *path);

/* Reads the text of malloc_stats; known stays false when it is of another form. */
void measure_parse_stats(const char *text, struct measure_stats *out);

#endif
