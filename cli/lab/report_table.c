#include "lab/report.h"

#define NAME_WIDTH 10
#define COLUMN_WIDTH 10

static double megabytes(uint64_t bytes)
{
	return (double)bytes / 1e6;
}

static void cell_text(FILE *out, const char *text)
{
	fprintf(out, "%*s", COLUMN_WIDTH, text);
}

static void cell_megabytes(FILE *out, bool known, uint64_t bytes)
{
	if (known)
		fprintf(out, "%*.1f", COLUMN_WIDTH, megabytes(bytes));
	else
		cell_text(out, "-");
}

static void note_print(FILE *out, const struct run *run)
{
	const struct run_sample *freed = &run->samples[run->experiment->freed];

	if (*run->note)
		fprintf(out, "%-*s  ^ %s\n", NAME_WIDTH, "", run->note);
	if (freed->floor)
		fprintf(out, "%-*s  ^ the pages that hold a live byte are %.1f MB\n", NAME_WIDTH, "",
		        megabytes(freed->floor));
}

static void row_print(FILE *out, const struct run *run)
{
	size_t moments = experiment_moment_count(run->experiment);
	const struct run_sample *after = &run->samples[run_kept_moment(run->experiment)];
	uint64_t kept, gained;

	fprintf(out, "%-*s", NAME_WIDTH, run->allocator->name);
	for (size_t i = 0; i < moments; i++)
		cell_megabytes(out, run->samples[i].taken, run->samples[i].process.rss);
	if (run_kept(run, &kept, &gained))
		fprintf(out, "%*.1f%%", COLUMN_WIDTH - 1, 100.0 * (double)kept / (double)gained);
	else
		cell_text(out, "-");
	cell_megabytes(out, after->taken, after->process.heap);
	cell_megabytes(out, after->stats.known, after->stats.total_system);
	cell_megabytes(out, after->stats.known, after->stats.total_in_use);
	fputc('\n', out);
	note_print(out, run);
}

static void rows_print(FILE *out, const struct run *runs, size_t count)
{
	const struct experiment *experiment = runs->experiment;
	size_t moments = experiment_moment_count(experiment);

	fprintf(out, "%-*s%*s%*s%*s%*s%*s\n", NAME_WIDTH, "", COLUMN_WIDTH, "RSS, MB:",
	        (int)(moments - 1) * COLUMN_WIDTH, "", COLUMN_WIDTH, "kept",
	        COLUMN_WIDTH, "[heap]", 2 * COLUMN_WIDTH, "malloc_stats, MB:");
	fprintf(out, "%-*s", NAME_WIDTH, "allocator");
	for (size_t i = 0; i < moments; i++)
		cell_text(out, experiment->moments[i].title);
	cell_text(out, "+1 s");
	cell_text(out, "MB");
	cell_text(out, "system");
	cell_text(out, "in use");
	fputc('\n', out);
	for (size_t i = 0; i < count; i++)
		row_print(out, &runs[i]);
}

static void steps_print(FILE *out, const struct run *run)
{
	fprintf(out, "%s\n  %-18s", run->allocator->name, "step (all in MB)");
	cell_text(out, "live");
	cell_text(out, "RSS");
	cell_text(out, "anonymous");
	cell_text(out, "[heap]");
	cell_text(out, "system");
	cell_text(out, "in use");
	cell_text(out, "free RAM");
	cell_text(out, "available");
	fputc('\n', out);
	for (size_t i = 0; i < experiment_moment_count(run->experiment); i++) {
		const struct run_sample *sample = &run->samples[i];

		fprintf(out, "  %-18s", run->experiment->moments[i].name);
		cell_megabytes(out, sample->taken, sample->live);
		cell_megabytes(out, sample->taken, sample->process.rss);
		cell_megabytes(out, sample->taken, sample->process.anonymous);
		cell_megabytes(out, sample->taken, sample->process.heap);
		cell_megabytes(out, sample->stats.known, sample->stats.total_system);
		cell_megabytes(out, sample->stats.known, sample->stats.total_in_use);
		cell_megabytes(out, sample->taken, sample->machine.free);
		cell_megabytes(out, sample->taken, sample->machine.available);
		fputc('\n', out);
	}
	note_print(out, run);
}

void report_table(FILE *out, const struct run *runs, size_t count, bool steps)
{
	const struct experiment *experiment = runs->experiment;

	fprintf(out, "\n%s: %.0f MB in %s", experiment->name,
	        megabytes(experiment_bytes(experiment, runs->total)), experiment->title);
	if (experiment->limited)
		fprintf(out, " of %.0f MB", megabytes(experiment_limit(runs->total)));
	fputc('\n', out);
	if (steps)
		for (size_t i = 0; i < count; i++)
			steps_print(out, &runs[i]);
	else
		rows_print(out, runs, count);
	fflush(out);
}
