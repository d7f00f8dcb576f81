#include <cJSON.h>
#include <stdlib.h>

#include "stats/report.h"

/* The fields of struct cede_stats but for the first two, in their order. */
static const char *const fields[] = {
	"arenas", "live_bytes", "free_bytes", "free_resident_bytes", "system_bytes",
	"system_peak_bytes", "mapped_bytes", "mapped_blocks", "purged_bytes", "purge_calls",
	"purge_passes", "lock_waits", "lock_sleeps", "slab_bytes", "slab_live_bytes",
	"slab_free_blocks", "slab_resident_bytes", "slab_record_bytes", "cached_bytes",
	"pressure_releases",
	"slab_free_resident_bytes", "spare_bytes", "pinned_bytes", "caching_threads",
	"refaulted_bytes", "purge_ns",
	"pressure_ms", "memory_locked", "delay_ms", "thread_retry_ms",
};

#define FIELDS (sizeof(fields) / sizeof(*fields))

_Static_assert(sizeof(struct cede_stats) == sizeof(uint64_t) * (1 + FIELDS), "a name for each");

static void stats_add(cJSON *root, const struct cede_stats *stats)
{
	cJSON *object = cJSON_AddObjectToObject(root, "stats");
	const uint64_t *values = &stats->arenas;

	cJSON_AddStringToObject(object, "policy", stats_policy_name(stats->policy));
	cJSON_AddStringToObject(object, "purger", stats_purger_name(stats->purger));
	for (size_t i = 0; i < FIELDS; i++)
		cJSON_AddNumberToObject(object, fields[i], (double)values[i]);
}

static void process_add(cJSON *root, const struct stats_report *report)
{
	cJSON *process = cJSON_AddObjectToObject(root, "process");
	char version[16];

	snprintf(version, sizeof(version), "%d.%d.%d", report->version[0], report->version[1],
	         report->version[2]);
	cJSON_AddNumberToObject(process, "pid", report->pid);
	cJSON_AddStringToObject(process, "name", report->name);
	cJSON_AddStringToObject(process, "cede_version", version);
	cJSON_AddNumberToObject(process, "resident_bytes", (double)report->process.rss);
	cJSON_AddNumberToObject(process, "swap_bytes", (double)report->process.swap);
}

static void reasons_add(cJSON *root, const struct stats_report *report)
{
	cJSON *reasons = cJSON_AddArrayToObject(root, "why");

	for (size_t i = 0; i < report->reason_count; i++) {
		cJSON *reason = cJSON_CreateObject();

		cJSON_AddItemToArray(reasons, reason);
		cJSON_AddStringToObject(reason, "reason", report->reasons[i].name);
		cJSON_AddNumberToObject(reason, "bytes", (double)report->reasons[i].bytes);
		cJSON_AddStringToObject(reason, "text", report->reasons[i].text);
	}
}

bool stats_report_json(const struct stats_report *report, FILE *out)
{
	cJSON *root = cJSON_CreateObject(), *lately;
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-stats/1");
	process_add(root, report);
	cJSON_AddBoolToObject(root, "while_it_ran", report->reading.while_it_ran);
	cJSON_AddBoolToObject(root, "background", report->reading.background);
	if (report->reading.retain_max != UINT64_MAX)
		cJSON_AddNumberToObject(root, "retain_max", (double)report->reading.retain_max);
	stats_add(root, &report->reading.stats);
	if (report->seconds > 0) {
		lately = cJSON_AddObjectToObject(root, "lately");
		cJSON_AddNumberToObject(lately, "seconds", report->seconds);
		cJSON_AddNumberToObject(lately, "purged_bytes", (double)report->purged_bytes);
		cJSON_AddNumberToObject(lately, "refaulted_bytes", (double)report->refaulted_bytes);
	}
	reasons_add(root, report);
	text = cJSON_Print(root);
	if (text)
		fprintf(out, "%s\n", text);
	free(text);
	cJSON_Delete(root);
	return text != NULL;
}
