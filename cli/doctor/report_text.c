#include "doctor/report.h"

#include <inttypes.h>
#include <string.h>

#include "doctor/leads.h"
#include "doctor/words.h"

/* --- the verdict --- */

static const char *waiting_words(enum model_giving giving)
{
	switch (giving) {
	case MODEL_GIVES_SOON:
		return "used within the last second, or going back just now";
	case MODEL_GIVES_MORE:
		return "too little, or too little that it knows of, to wake cede's thread";
	default:
		return "cede has no thread here, so it goes back only when the program frees more";
	}
}

void doctor_gate_text(FILE *out, const struct patient *patient, const struct gate *gate)
{
	const struct model *model = &patient->model;

	switch (gate->kind) {
	case GATE_FAST:
		fprintf(out, "%s in %zu fast block%s keep it from the top",
		        amount(gate->key_bytes).text, gate->key_blocks, plural(gate->key_blocks));
		break;
	case GATE_PIN:
		fprintf(out, "%zu block%s of %s in all%s lie%s above it, the last at %#" PRIx64,
		        gate->key_blocks, plural(gate->key_blocks), amount(gate->key_bytes).text,
		        gate->cached_blocks == gate->key_blocks ? ", freed into a thread's cache," :
		        "", gate->key_blocks == 1 ? "s" : "", gate->address);
		break;
	case GATE_TOP:
		fprintf(out, "it is the top, which shrinks only beyond %s%s",
		        amount(gate->key_bytes).text, !gates_threshold_grew(model) ? "" :
		        ": the threshold grew with mapped blocks that were freed");
		break;
	case GATE_CACHE:
		fprintf(out, "%s in the caches of %zu thread%s", amount(gate->key_bytes).text,
		        gate->key_blocks, plural(gate->key_blocks));
		break;
	case GATE_WAIT:
		fputs(waiting_words(model->settings.giving), out);
		break;
	default:
		fprintf(out, "it lies in %zu other arena%s, which malloc does not trim",
		        gate->key_blocks, plural(gate->key_blocks));
	}
}

static void elsewhere_print(FILE *out, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;
	const struct allocator *allocator = &patient->allocator;

	const char *whose = *patient->reading.cede ? "cede" : "glibc";

	if (allocator->name)
		fprintf(out, "It runs on %s (%s). ", allocator->name, allocator->file);
	fprintf(out, "Of its %s of resident memory, %s are %s's heap, and %s are anonymous "
	        "memory\nthat %s's malloc did not make.\n", amount(account->resident_bytes).text,
	        amount(account->heap_bytes).text, whose, amount(account->other_bytes).text, whose);
}

static void verdict_print(FILE *out, const struct patient *patient)
{
	const struct verdict *verdict = &patient->verdict;
	const struct account *account = &verdict->account;
	struct text heap = amount(account->heap_bytes);

	fprintf(out, "%s (%d): %s\n\n", patient->name, patient->pid,
	        verdict_kind_name(verdict->kind));
	switch (verdict->kind) {
	case VERDICT_RETENTION:
		fprintf(out, "The program has freed %s of the %s that its heap holds, and they could go "
		        "back whole.\n", amount(account->whole_bytes).text, heap.text);
		break;
	case VERDICT_FRAGMENTATION:
		fprintf(out, "The program has freed %s of the %s that its heap holds, but on pages that "
		        "live\nblocks share.\n", amount(account->shared_bytes).text, heap.text);
		break;
	case VERDICT_NOT_GLIBC:
		elsewhere_print(out, patient);
		break;
	case VERDICT_LEAK:
		doctor_leaks_sentence(out, patient);
		break;
	default:
		fprintf(out, "Of the %s that its heap holds, the program uses %s.\n", heap.text,
		        amount(account->resident[MODEL_LIVE]).text);
	}
	if (verdict->gate_count && verdict->kind != VERDICT_NOT_GLIBC &&
	    verdict->kind != VERDICT_LEAK) {
		fprintf(out, "What holds most, %s: ", amount(verdict->gates[0].held_bytes).text);
		doctor_gate_text(out, patient, &verdict->gates[0]);
		fputs(".\n", out);
	}
}

/* --- where it is --- */

static size_t cached_blocks(const struct model *model)
{
	size_t blocks = 0;

	for (size_t i = 0; i < model->cache_count; i++)
		blocks += model->caches[i].blocks;
	return blocks;
}

static void heap_print(FILE *out, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;
	const struct model *model = &patient->model;
	uint64_t absent = account->absent[MODEL_BIN] + account->absent[MODEL_TOP] +
	                  account->absent[MODEL_SLAB];
	size_t fast = 0, bins = model->settings.spare_blocks, slabs = 0;

	for (size_t i = 0; i < model->arena_count; i++) {
		fast += model->arenas[i].fast_blocks;
		bins += model->arenas[i].bin_blocks;
		slabs += model->arenas[i].slab_blocks;
	}
	row(out, account->resident[MODEL_LIVE], "live", "%zu block%s of %s, %s of it mapped alone",
	    account->live_blocks, plural(account->live_blocks), amount(account->live_bytes).text,
	    amount(account->mapped_bytes).text);
	row(out, account->resident[MODEL_CACHED], "thread caches", "%zu block%s of %zu thread%s",
	    cached_blocks(model), plural(cached_blocks(model)), model->cache_count,
	    plural(model->cache_count));
	if (model->settings.giving == MODEL_GIVES_END)
		row(out, account->resident[MODEL_FAST], "fast bins", "%zu block%s", fast, plural(fast));
	else
		row(out, account->resident[MODEL_SLAB], "slabs", "%zu block%s", slabs, plural(slabs));
	row(out, account->resident[MODEL_BIN], "bins", "%zu block%s", bins, plural(bins));
	row(out, account->resident[MODEL_TOP], "tops", "of %zu arena%s", model->arena_count,
	    plural(model->arena_count));
	row(out, account->resident[MODEL_INTERNAL] + account->resident[MODEL_FOREIGN], "malloc's own",
	    "and what lies between its blocks");
	row(out, account->heap_bytes, "heap in all", "%s more of it are free and not resident",
	    amount(absent).text);
}

static void where_print(FILE *out, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;

	fputs("\nResident, MB\n", out);
	if (patient->outcome == READING_DONE)
		heap_print(out, patient);
	row(out, account->file_bytes, "files", "programs, libraries, mapped files");
	row(out, account->stack_bytes, "stack", "of the first thread");
	row(out, account->other_bytes, "other", "anonymous: stacks of threads, data, other allocators");
	row(out, account->resident_bytes, "process", "%s more are swapped out",
	    amount(account->swapped_bytes).text);
}

/* --- what holds and pins --- */

static void free_print(FILE *out, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;

	fprintf(out, "\nFree and resident, MB\n");
	row(out, account->whole_bytes, "whole pages", "%u%% of the heap: without a byte in use",
	    percent(account->whole_bytes, account->heap_bytes));
	row(out, account->shared_bytes, "shared pages", "%u%% of the heap: beside live blocks",
	    percent(account->shared_bytes, account->heap_bytes));
	for (size_t i = 0; i < patient->verdict.gate_count; i++) {
		const struct gate *gate = &patient->verdict.gates[i];
		const char *lead = gate->kind != GATE_PIN ? NULL :
		                   leads_text(patient, gate->address + patient->model.lead);

		fprintf(out, "  %12.1f  %-16s", (double)gate->held_bytes / 1e6,
		        gate_kind_name(gate->kind));
		doctor_gate_text(out, patient, gate);
		fprintf(out, "%s%s\n", lead ? ",\n                                to which leads " :
		        "", lead ? lead : "");
	}
}

/* --- what helps --- */

static void advice(FILE *out, uint64_t bytes, const char *line, const char *effect)
{
	if (bytes)
		fprintf(out, "  %-52s %s %s\n", line, effect, amount(bytes).text);
}

/* The setting without which a gate would not hold what it does, or NULL. */
static const char *gate_cure(const struct model *model, const struct gate *gate)
{
	static const char *const settings[GATE_KINDS] = {
		[GATE_FAST] = "GLIBC_TUNABLES=glibc.malloc.mxfast=0",
		[GATE_TOP] = "GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072",
		[GATE_CACHE] = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0",
		[GATE_ARENAS] = "GLIBC_TUNABLES=glibc.malloc.arena_max=1",
	};

	if (model->settings.giving != MODEL_GIVES_END)
		return NULL;
	if (gate->kind == GATE_PIN && gate->cached_blocks == gate->key_blocks)
		return settings[GATE_CACHE];
	/* A top no larger than the threshold is at the start is as it should be. */
	return gate->kind == GATE_TOP && gate->held_bytes <= 131072 ? NULL : settings[gate->kind];
}

/* The blocks of the size that pins most, or NULL. */
static const struct account_class *pinning_class(const struct account *account)
{
	const struct account_class *most = NULL;

	for (size_t i = 0; i < ACCOUNT_CLASSES; i++)
		if (!most || account->classes[i].pinned_bytes > most->pinned_bytes)
			most = &account->classes[i];
	return most && most->pinned_bytes ? most : NULL;
}

/* How whole pages would go back by themselves, or NULL when they do. */
static const char *whole_pages_cure(const struct patient *patient)
{
	if (!*patient->reading.cede)
		return "cede run -- PROGRAM";
	switch (patient->model.settings.giving) {
	case MODEL_GIVES_END:
		return "CEDE_OPTIONS=policy=default";
	case MODEL_GIVES_ON_CALL:
		return "CEDE_OPTIONS=background=on";
	default:
		return NULL;
	}
}

static void cures_print(FILE *out, const struct patient *patient)
{
	const struct verdict *verdict = &patient->verdict;
	const struct account_class *class = pinning_class(&verdict->account);
	const char *last = NULL;
	char line[80];

	fprintf(out, "\nWhat helps\n");
	/* To the byte, as it can be checked. */
	snprintf(line, sizeof(line), "malloc_trim(0);");
	/* On cede it is its thread that is asked. */
	if (patient->is_open && !patient_is_core(patient) &&
	    (!*patient->reading.cede || !whole_pages_cure(patient)))
		snprintf(line, sizeof(line), "malloc_trim(0);  or, from outside: cede trim %d",
		         patient->pid);
	if (verdict->trim.bytes)
		fprintf(out, "  %-52s gives back now: %s (%" PRIu64 ")\n", line,
		        amount(verdict->trim.bytes).text, verdict->trim.bytes);
	for (size_t i = 0; i < verdict->gate_count; i++) {
		const char *setting = gate_cure(&patient->model, &verdict->gates[i]);

		if (setting && setting != last)
			advice(out, verdict->gates[i].held_bytes, setting,
			       "without its gate, at most:");
		last = setting;
	}
	if (whole_pages_cure(patient))
		advice(out, verdict->account.whole_bytes, whole_pages_cure(patient),
		       "gives back by itself, whole pages:");
	if (class && verdict->kind == VERDICT_FRAGMENTATION) {
		snprintf(line, sizeof(line), "blocks of up to %s in a pool of their own",
		         amount(class->block_bytes).text);
		advice(out, class->pinned_bytes, line, "no longer pinned, at most:");
	}
}

/* --- how sure --- */

static void reading_print(FILE *out, const struct patient *patient)
{
	const struct reading *reading = &patient->reading;

	fputc('\n', out);
	if (patient->outcome == READING_DONE) {
		if (*reading->cede)
			fprintf(out, "cede %s, ", reading->cede);
		if (reading->version)
			fprintf(out, "glibc %u.%u, ", reading->version / 100, reading->version % 100);
		fprintf(out, "every block and every list of its heap accounted for; ");
	}
	if (patient_is_core(patient)) {
		doctor_core_text(out, patient);
		return;
	}
	fprintf(out, "%zu thread%s, stopped %u time%s, for %.1f ms at most.\n", reading->threads,
	        plural(reading->threads), reading->stops, plural(reading->stops),
	        (double)reading->pause_microseconds / 1e3);
}

int doctor_report_text(FILE *out, const struct patient *patient)
{
	verdict_print(out, patient);
	where_print(out, patient);
	if (patient->outcome == READING_DONE) {
		free_print(out, patient);
		doctor_pins_text(out, patient);
		if (patient->leaks_wanted)
			doctor_leaks_text(out, patient);
		if (patient->verdict.kind == VERDICT_RETENTION ||
		    patient->verdict.kind == VERDICT_FRAGMENTATION)
			cures_print(out, patient);
	}
	reading_print(out, patient);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
