#include "watch/look.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "doctor/patient.h"
#include "doctor/report.h"
#include "stats/report.h"

_Static_assert(STATS_REASONS <= LOOK_REASONS, "each of cede's reasons has room");

/* --- on glibc's malloc --- */

static void gates_take(struct look *look, const struct patient *patient)
{
	for (size_t i = 0; i < patient->verdict.gate_count; i++) {
		const struct gate *gate = &patient->verdict.gates[i];
		struct look_reason *reason = &look->reasons[look->reason_count];
		FILE *text = fmemopen(reason->text, sizeof(reason->text), "w");

		if (!text)
			return;
		doctor_gate_text(text, patient, gate);
		fclose(text);
		reason->name = gate_kind_name(gate->kind);
		reason->bytes = gate->held_bytes;
		look->reason_count++;
	}
}

static void allocator_name(struct look *look, const struct patient *patient)
{
	unsigned version = patient->reading.version;

	if (patient->allocator.name)
		snprintf(look->allocator, sizeof(look->allocator), "%s", patient->allocator.name);
	else if (version)
		snprintf(look->allocator, sizeof(look->allocator), "glibc %u.%u", version / 100,
		         version % 100);
}

static void patient_show(struct look *look, struct patient *patient,
                         const struct verdict_limits *limits)
{
	const struct account *account = &patient->verdict.account;

	patient_judge(patient, limits);
	*look = (struct look){
		.taken = patient->taken,
		.verdict = patient->verdict.kind,
		.resident_bytes = account->resident_bytes,
		.heap_bytes = account->heap_bytes,
		.live_bytes = account->live_bytes,
		.live_resident_bytes = account->resident[MODEL_LIVE],
		.whole_bytes = account->whole_bytes,
		.shared_bytes = account->shared_bytes,
		.gone_bytes = account->absent[MODEL_BIN] + account->absent[MODEL_TOP],
		.pause_microseconds = patient->reading.pause_microseconds * patient->reading.stops,
	};
	snprintf(look->name, sizeof(look->name), "%s", patient->name);
	allocator_name(look, patient);
	gates_take(look, patient);
}

static int patient_look(struct look *look, pid_t pid, const struct verdict_limits *limits)
{
	struct patient *patient = malloc(sizeof(*patient));
	int result;

	if (!patient)
		return command_fail("out of memory");
	result = patient_examine(patient, pid, false);
	if (result == COMMAND_OK)
		patient_show(look, patient, limits);
	patient_discharge(patient);
	free(patient);
	return result;
}

/* --- on cede --- */

static void stats_show(struct look *look, const struct stats_report *report,
                       const struct verdict_limits *limits)
{
	const struct cede_stats *stats = &report->reading.stats;
	struct account account = {
		.whole_bytes = stats->free_resident_bytes, .shared_bytes = stats->pinned_bytes,
	};

	*look = (struct look){
		.taken = patient_now(),
		.resident_bytes = report->process.rss,
		.live_bytes = stats->live_bytes - stats->cached_bytes,
		.whole_bytes = account.whole_bytes,
		.shared_bytes = account.shared_bytes,
		.reason_count = report->reason_count,
	};
	/* Classic does not look at pages: all that is free may be resident. */
	if (stats->policy == CEDE_POLICY_CLASSIC)
		look->whole_bytes = account.whole_bytes = stats->free_bytes;
	else
		look->gone_bytes = stats->free_bytes - account.whole_bytes - account.shared_bytes;
	look->heap_bytes = stats->live_bytes + account.whole_bytes + account.shared_bytes;
	look->live_resident_bytes = look->live_bytes;
	account.heap_bytes = look->heap_bytes;
	look->verdict = verdict_of_heap(&account, limits);
	patient_name_read(report->pid, look->name, sizeof(look->name));
	snprintf(look->allocator, sizeof(look->allocator), "cede %d.%d.%d", report->version[0],
	         report->version[1], report->version[2]);
	for (size_t i = 0; i < report->reason_count; i++) {
		look->reasons[i].name = report->reasons[i].name;
		look->reasons[i].bytes = report->reasons[i].bytes;
		snprintf(look->reasons[i].text, sizeof(look->reasons[i].text), "%s",
		         report->reasons[i].text);
	}
}

/* Returns whether there was a cede to be read. */
static bool stats_look(struct look *look, pid_t pid, const struct verdict_limits *limits)
{
	struct stats_report report = { .pid = pid };
	struct cede_refusal refusal;
	struct cede_target target;
	bool is_read;

	if (!cede_target_open(&target, pid, &refusal))
		return false;
	is_read = cede_stats_read(&target, &report.reading, &refusal) &&
	          measure_process(pid, &report.process) == 0;
	if (is_read) {
		memcpy(report.version, target.descriptor.library_version, sizeof(report.version));
		stats_reasons_find(&report);
		stats_show(look, &report, limits);
	}
	cede_target_close(&target);
	return is_read;
}

int look_take(struct look *look, pid_t pid, const struct verdict_limits *limits)
{
	return stats_look(look, pid, limits) ? COMMAND_OK : patient_look(look, pid, limits);
}
