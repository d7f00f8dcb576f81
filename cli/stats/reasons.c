#include <stdarg.h>

#include "doctor/words.h"
#include "stats/report.h"

/* What is less than a hundredth of the heap, and than this, needs no reason. */
#define WORTH_TELLING ((uint64_t)1 << 20)

__attribute__((format(printf, 4, 5)))
static void reason_add(struct stats_report *report, const char *name, uint64_t bytes,
                       const char *format, ...)
{
	const struct cede_stats *stats = &report->reading.stats;
	struct stats_reason *reason = &report->reasons[report->reason_count];
	va_list args;

	if (bytes == 0 || (bytes < WORTH_TELLING && bytes < stats->system_bytes / 100))
		return;
	report->reason_count++;
	reason->name = name;
	reason->bytes = bytes;
	va_start(args, format);
	vsnprintf(reason->text, sizeof(reason->text), format, args);
	va_end(args);
}

/* How long free memory waits when nothing that went was wanted again. */
#define LEAST_DELAY_MS 250

/* Until the system is asked for the thread again. */
static double retry_seconds(const struct stats_report *report)
{
	uint64_t then = report->reading.stats.thread_retry_ms;

	return then > report->now_ms ? (double)(then - report->now_ms) / 1000 : 0;
}

/* Whole free pages: what becomes of them. */
static void free_explain(struct stats_report *report)
{
	const struct cede_stats *stats = &report->reading.stats;
	uint64_t bytes = stats->free_resident_bytes;
	struct text free = amount(bytes);

	if (stats->memory_locked)
		reason_add(report, "locked", bytes, "%s are free, but locked: nothing goes back before the "
		           "program undoes its mlockall.", free.text);
	else if (!report->reading.background)
		reason_add(report, "background_off", bytes, "%s are free, and go back only while the "
		           "program calls malloc and free: background=off.", free.text);
	else if (stats->purger == CEDE_PURGER_ABSENT)
		reason_add(report, "no_thread", bytes, "%s are free, and go back only while the program "
		           "calls malloc and free: the system refused the purger its thread, and is asked "
		           "again in %.0f s.", free.text, retry_seconds(report));
	else if (stats->purger == CEDE_PURGER_AWAKE && stats->delay_ms > LEAST_DELAY_MS)
		reason_add(report, "regret", bytes, "%s are free, but were used in the last second, or are "
		           "going back just now: after %.2f s and not %.2f, for what went before was soon "
		           "wanted again.", free.text, (double)stats->delay_ms / 1000,
		           LEAST_DELAY_MS / 1000.0);
	else if (stats->purger == CEDE_PURGER_AWAKE)
		reason_add(report, "young", bytes, "%s are free, but were used in the last second, or are "
		           "going back just now.", free.text);
	else
		reason_add(report, "little", bytes, "%s are free: too little to wake the purger, which "
		           "begins at 1 MiB.", free.text);
}

static void pins_explain(struct stats_report *report)
{
	const struct cede_stats *stats = &report->reading.stats;
	uint64_t pages = stats->slab_resident_bytes - stats->slab_free_resident_bytes;

	reason_add(report, "pinned", stats->pinned_bytes, "%s are free, but pinned by live blocks on the "
	           "same pages: in slabs %s live on %llu pages (%s).",
	           amount(stats->pinned_bytes).text, amount(stats->slab_live_bytes).text,
	           (unsigned long long)(pages / MEMORY_PAGE), amount(pages).text);
}

void stats_reasons_find(struct stats_report *report)
{
	const struct cede_stats *stats = &report->reading.stats;
	uint64_t held = stats->live_bytes - stats->cached_bytes;

	report->reason_count = 0;
	reason_add(report, "live", held, "%s are in blocks that the program holds.",
	           amount(held).text);
	reason_add(report, "cached", stats->cached_bytes, "%s are cached by %llu thread%s: %s.",
	           amount(stats->cached_bytes).text, (unsigned long long)stats->caching_threads,
	           stats->caching_threads == 1 ? "" : "s", stats->purger == CEDE_PURGER_AWAKE ?
	           "a cache is emptied when its thread rests for 0.1 s" :
	           "too little to wake the purger");
	if (stats->policy == CEDE_POLICY_CLASSIC) {
		reason_add(report, "classic", stats->free_bytes, "%s are free and stay: policy=classic gives "
		           "back the end of its heap alone, and the rest when malloc_trim is called.",
		           amount(stats->free_bytes).text);
		return;
	}
	free_explain(report);
	pins_explain(report);
}
