#include <inttypes.h>

#include "stats/report.h"

static double megabytes(uint64_t bytes)
{
	return (double)bytes / 1e6;
}

static void row_print(FILE *out, const char *what, uint64_t bytes)
{
	fprintf(out, "%-24s %12.1f  ", what, megabytes(bytes));
}

const char *stats_policy_name(uint32_t policy)
{
	return policy == CEDE_POLICY_CLASSIC ? "classic" : "default";
}

const char *stats_purger_name(uint32_t purger)
{
	static const char *const names[] = {
		[CEDE_PURGER_NONE] = "none", [CEDE_PURGER_ASLEEP] = "asleep",
		[CEDE_PURGER_AWAKE] = "awake", [CEDE_PURGER_ABSENT] = "absent",
	};

	return names[purger];
}

/* What is free, by where it is; and what came of it. */
static void free_print(const struct cede_reading *reading, FILE *out)
{
	const struct cede_stats *stats = &reading->stats;
	uint64_t resident = stats->free_resident_bytes + stats->pinned_bytes;

	row_print(out, "free, in whole pages", stats->free_resident_bytes);
	fprintf(out, "may be resident; slabs %.1f, left by mapped blocks %.1f",
	        megabytes(stats->slab_free_resident_bytes), megabytes(stats->spare_bytes));
	if (reading->retain_max != UINT64_MAX)
		fprintf(out, "; retain_max %.1f", megabytes(reading->retain_max));
	fputc('\n', out);
	row_print(out, "pinned", stats->pinned_bytes);
	fputs("free, on pages that live blocks are on too\n", out);
	row_print(out, "free, not resident", stats->free_bytes - resident);
	fputs("given back, or never used\n", out);
}

static void purger_print(const struct stats_report *report, FILE *out)
{
	const struct cede_stats *stats = &report->reading.stats;
	const uint64_t totals[] = { stats->purged_bytes, stats->refaulted_bytes };
	const uint64_t lately[] = { report->purged_bytes, report->refaulted_bytes };
	static const char *const names[] = { "given back so far", "  and wanted again" };

	fputc('\n', out);
	for (int i = 0; i < 2; i++) {
		row_print(out, names[i], totals[i]);
		if (report->seconds > 0)
			fprintf(out, "%.1f a second just now", megabytes(lately[i]) / report->seconds);
		fputc('\n', out);
	}
	fprintf(out, "%-24s %12s  %" PRIu64 " passes, %" PRIu64 " system calls, %.3f s of processor "
	        "time\n", "purger", stats_purger_name(stats->purger), stats->purge_passes,
	        stats->purge_calls, (double)stats->purge_ns / 1e9);
	if (stats->pressure_releases != 0)
		fprintf(out, "%-24s %12" PRIu64 "  times, the last %.1f s ago: then all goes at once\n",
		        "memory was short", stats->pressure_releases,
		        ((double)report->now_ms - (double)stats->pressure_ms) / 1000);
}

void stats_report_text(const struct stats_report *report, FILE *out)
{
	const struct cede_stats *stats = &report->reading.stats;

	fprintf(out, "process %d (%s) on cede %d.%d.%d, policy %s\n\n%-24s %12s\n", report->pid,
	        report->name, report->version[0], report->version[1], report->version[2],
	        stats_policy_name(stats->policy), "", "MB");
	row_print(out, "live", stats->live_bytes - stats->cached_bytes);
	fprintf(out, "in blocks that the program holds; mapped by themselves %.1f in %" PRIu64 "\n",
	        megabytes(stats->mapped_bytes), stats->mapped_blocks);
	if (stats->policy == CEDE_POLICY_DEFAULT) {
		row_print(out, "cached", stats->cached_bytes);
		fprintf(out, "by threads: %" PRIu64 "\n", stats->caching_threads);
		free_print(&report->reading, out);
	} else {
		row_print(out, "free", stats->free_bytes);
		fputc('\n', out);
	}
	row_print(out, "got from the system", stats->system_bytes);
	fprintf(out, "%.1f at most; arenas: %" PRIu64 "\n", megabytes(stats->system_peak_bytes),
	        stats->arenas);
	row_print(out, "resident", report->process.rss);
	fprintf(out, "all of the process; swapped %.1f\n", megabytes(report->process.swap));
	if (stats->policy == CEDE_POLICY_DEFAULT)
		purger_print(report, out);
	fputc('\n', out);
	for (size_t i = 0; i < report->reason_count; i++)
		fprintf(out, "%s\n", report->reasons[i].text);
	if (report->reading.while_it_ran)
		fputs("The process was at work: the figures are of moments side by side.\n", out);
}
