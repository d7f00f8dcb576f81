#include "doctor/report.h"

#include <stdlib.h>

#include "command.h"
#include "doctor/words.h"

static void number(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddNumberToObject(object, name, (double)value);
}

static void address(cJSON *object, const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%#lx", value);
	cJSON_AddStringToObject(object, name, text);
}

static void reading_add(cJSON *root, const struct patient *patient)
{
	const struct reading *reading = &patient->reading;
	cJSON *object = cJSON_AddObjectToObject(root, "reading");
	char version[16] = "";

	if (reading->version)
		snprintf(version, sizeof(version), "%u.%u", reading->version / 100,
		         reading->version % 100);
	cJSON_AddStringToObject(object, "glibc", version);
	cJSON_AddStringToObject(object, "cede", reading->cede);
	number(object, "threads", reading->threads);
	number(object, "stops", reading->stops);
	number(object, "pause_microseconds", reading->pause_microseconds);
	cJSON_AddBoolToObject(object, "audit_passed", patient->model.audit.passed);
	cJSON_AddStringToObject(object, "allocator",
	                        patient->allocator.name ? patient->allocator.name : "");
	cJSON_AddStringToObject(object, "allocator_file", patient->allocator.file);
}

static void resident_add(cJSON *root, const struct account *account)
{
	cJSON *object = cJSON_AddObjectToObject(root, "resident"), *heap;

	number(object, "process_bytes", account->resident_bytes);
	number(object, "file_bytes", account->file_bytes);
	number(object, "stack_bytes", account->stack_bytes);
	number(object, "other_bytes", account->other_bytes);
	number(object, "heap_bytes", account->heap_bytes);
	number(object, "mapped_bytes", account->mapped_bytes);
	number(object, "whole_free_bytes", account->whole_bytes);
	number(object, "shared_free_bytes", account->shared_bytes);
	heap = cJSON_AddObjectToObject(object, "heap");
	for (int state = 0; state < MODEL_STATES; state++)
		number(heap, model_state_name((enum model_state)state), account->resident[state]);
}

static void arenas_add(cJSON *root, const struct model *model)
{
	cJSON *list = cJSON_AddArrayToObject(root, "arenas");

	for (size_t i = 0; i < model->arena_count; i++) {
		const struct model_arena *arena = &model->arenas[i];
		cJSON *object = cJSON_CreateObject();

		cJSON_AddItemToArray(list, object);
		address(object, "address", arena->address);
		number(object, "system_bytes", arena->system_bytes);
		number(object, "fast_blocks", arena->fast_blocks);
		number(object, "fast_bytes", arena->fast_bytes);
		number(object, "bin_blocks", arena->bin_blocks);
		number(object, "bin_bytes", arena->bin_bytes);
		number(object, "slab_blocks", arena->slab_blocks);
		number(object, "slab_bytes", arena->slab_bytes);
		number(object, "top_bytes", arena->top_bytes);
	}
}

static void caches_add(cJSON *root, const struct model *model)
{
	cJSON *list = cJSON_AddArrayToObject(root, "caches");

	for (size_t i = 0; i < model->cache_count; i++) {
		cJSON *object = cJSON_CreateObject();

		cJSON_AddItemToArray(list, object);
		number(object, "thread", (uint64_t)model->caches[i].thread);
		number(object, "blocks", model->caches[i].blocks);
		number(object, "bytes", model->caches[i].bytes);
	}
}

static void totals_add(cJSON *root, const struct model *model)
{
	cJSON *object = cJSON_AddObjectToObject(root, "mallinfo2");
	struct model_totals totals;

	model_totals(model, &totals);
	number(object, "arena", totals.arena);
	number(object, "ordblks", totals.ordblks);
	number(object, "smblks", totals.smblks);
	number(object, "hblks", totals.hblks);
	number(object, "hblkhd", totals.hblkhd);
	number(object, "fsmblks", totals.fsmblks);
	number(object, "uordblks", totals.uordblks);
	number(object, "fordblks", totals.fordblks);
	number(object, "keepcost", totals.keepcost);
}

static void gates_add(cJSON *root, const struct verdict *verdict)
{
	cJSON *list = cJSON_AddArrayToObject(root, "gates");

	for (size_t i = 0; i < verdict->gate_count; i++) {
		const struct gate *gate = &verdict->gates[i];
		cJSON *object = cJSON_CreateObject();

		cJSON_AddItemToArray(list, object);
		cJSON_AddStringToObject(object, "gate", gate_kind_name(gate->kind));
		number(object, "held_bytes", gate->held_bytes);
		number(object, "key_bytes", gate->key_bytes);
		number(object, "key_blocks", gate->key_blocks);
		number(object, "cached_blocks", gate->cached_blocks);
		if (gate->address)
			address(object, "address", gate->address);
	}
}

static void classes_add(cJSON *root, const struct account *account)
{
	cJSON *list = cJSON_AddArrayToObject(root, "classes");

	for (size_t i = 0; i < ACCOUNT_CLASSES; i++) {
		const struct account_class *class = &account->classes[i];
		cJSON *object;

		if (!class->live_blocks)
			continue;
		object = cJSON_CreateObject();
		cJSON_AddItemToArray(list, object);
		number(object, "block_bytes", class->block_bytes);
		number(object, "live_blocks", class->live_blocks);
		number(object, "live_bytes", class->live_bytes);
		number(object, "pinned_bytes", class->pinned_bytes);
	}
}

static void settings_add(cJSON *root, const struct model_settings *settings)
{
	cJSON *object = cJSON_AddObjectToObject(root, "settings");

	number(object, "trim_threshold", settings->trim_threshold);
	number(object, "mmap_threshold", settings->mmap_threshold);
	number(object, "top_pad", settings->top_pad);
	number(object, "arena_max", settings->arena_max);
	cJSON_AddStringToObject(object, "gives_back", model_giving_name(settings->giving));
	cJSON_AddBoolToObject(object, "thresholds_fixed", settings->thresholds_fixed);
}

int doctor_report_json(FILE *out, const struct patient *patient)
{
	const struct verdict *verdict = &patient->verdict;
	cJSON *root = cJSON_CreateObject(), *trim;
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-doctor/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	number(root, "pid", (uint64_t)patient->pid);
	cJSON_AddStringToObject(root, "name", patient->name);
	cJSON_AddStringToObject(root, "taken", moment(patient->taken).text);
	cJSON_AddStringToObject(root, "verdict", verdict_kind_name(verdict->kind));
	cJSON_AddStringToObject(root, "source", patient_is_core(patient) ? "core" : "process");
	if (patient_is_core(patient))
		doctor_core_json(root, patient);
	reading_add(root, patient);
	resident_add(root, &verdict->account);
	if (patient->outcome == READING_DONE) {
		trim = cJSON_AddObjectToObject(root, "trim");
		number(trim, "bytes", verdict->trim.bytes);
		number(trim, "top_bytes", verdict->trim.top_bytes);
		gates_add(root, verdict);
		totals_add(root, &patient->model);
		settings_add(root, &patient->model.settings);
		arenas_add(root, &patient->model);
		caches_add(root, &patient->model);
		classes_add(root, &verdict->account);
		doctor_pins_json(root, patient);
		if (patient->leaks_wanted)
			doctor_leaks_json(root, patient);
	}
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		return -1;
	fprintf(out, "%s\n", text);
	free(text);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
