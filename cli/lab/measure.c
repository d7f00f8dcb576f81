#include "lab/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *process_file(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

/* "Name:  123 kB" */
static bool line_kilobytes(const char *line, const char *name, uint64_t *bytes)
{
	size_t length = strlen(name);

	if (strncmp(line, name, length) || line[length] != ':')
		return false;
	*bytes = strtoull(line + length + 1, NULL, 10) << 10;
	return true;
}

/* Sums the mappings whose name is `wanted`; true when there was one. */
static bool mappings_sum(pid_t pid, const char *wanted, uint64_t *bytes)
{
	FILE *maps = process_file(pid, "maps");
	char *line = NULL;
	size_t capacity = 0;
	bool found = false;

	*bytes = 0;
	while (maps && getline(&line, &capacity, maps) > 0) {
		unsigned long long begin, end;
		int name = 0;

		if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %n", &begin, &end, &name) != 2 || !name)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (!strcmp(line + name, wanted)) {
			*bytes += end - begin;
			found = true;
		}
	}
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

int measure_process(pid_t pid, struct measure_process *out)
{
	FILE *rollup = process_file(pid, "smaps_rollup");
	char line[256];
	int found = 0;

	if (!rollup)
		return -1;
	while (fgets(line, sizeof(line), rollup))
		found += line_kilobytes(line, "Rss", &out->rss) ||
		         line_kilobytes(line, "Anonymous", &out->anonymous) ||
		         line_kilobytes(line, "Swap", &out->swap);
	fclose(rollup);
	mappings_sum(pid, "[heap]", &out->heap);
	return found == 3 ? 0 : -1;
}

uint64_t measure_rss(pid_t pid)
{
	FILE *statm = process_file(pid, "statm");
	unsigned long long pages = 0;

	if (!statm)
		return 0;
	if (fscanf(statm, "%*s %llu", &pages) != 1)
		pages = 0;
	fclose(statm);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int measure_machine(struct measure_machine *out)
{
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[256];
	int found = 0;

	if (!meminfo)
		return -1;
	while (fgets(line, sizeof(line), meminfo))
		found += line_kilobytes(line, "MemTotal", &out->total) ||
		         line_kilobytes(line, "MemFree", &out->free) ||
		         line_kilobytes(line, "MemAvailable", &out->available);
	fclose(meminfo);
	return found == 3 ? 0 : -1;
}

bool measure_has_mapped(pid_t pid, const char *path)
{
	uint64_t bytes;

	return mappings_sum(pid, path, &bytes);
}

void measure_parse_stats(const char *text, struct measure_stats *out)
{
	const char *arena = strstr(text, "Arena 0:"), *total = strstr(text, "Total (incl. mmap):");
	const char *form = "%*[^\n]\nsystem bytes = %llu\nin use bytes = %llu";
	unsigned long long values[4];

	*out = (struct measure_stats){ 0 };
	if (!arena || !total || sscanf(arena, form, &values[0], &values[1]) != 2 ||
	    sscanf(total, form, &values[2], &values[3]) != 2)
		return;
	*out = (struct measure_stats){
		.known = true,
		.arena_system = values[0], .arena_in_use = values[1],
		.total_system = values[2], .total_in_use = values[3],
	};
}
