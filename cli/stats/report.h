/*
 * What `cede stats` tells of a process, for people and for programs.  Layer: cli/stats.
 */
#ifndef CEDE_CLI_STATS_REPORT_H
#define CEDE_CLI_STATS_REPORT_H

#include <readers/cede_stats.h>
#include <stdio.h>

#include "lab/measure.h"

/* Why memory is held: so many bytes for that reason. */
struct stats_reason {
	const char *name;       /* as --json has it */
	uint64_t bytes;
	char text[256];         /* a sentence */
};

#define STATS_REASONS 5

struct stats_report {
	pid_t pid;
	char name[32];          /* of the process */
	uint8_t version[3];     /* of its library */
	struct cede_reading reading;
	uint64_t now_ms;        /* of CLOCK_MONOTONIC, as the reading's times */
	struct measure_process process;
	/* Between two readings; 0 seconds: there was one. */
	double seconds;
	uint64_t purged_bytes, refaulted_bytes;
	struct stats_reason reasons[STATS_REASONS];
	size_t reason_count;
};

/* Fills the reasons from all else. */
void stats_reasons_find(struct stats_report *report);

/* The words for enum cede_policy and enum cede_purger. */
const char *stats_policy_name(uint32_t policy);
const char *stats_purger_name(uint32_t purger);

void stats_report_text(const struct stats_report *report, FILE *out);
/* Returns false without memory. */
bool stats_report_json(const struct stats_report *report, FILE *out);

#endif
