#include "doctor/report.h"

#include "doctor/leads.h"
#include "doctor/sample.h"
#include "doctor/words.h"

#define PINS_SHOWN 5

static uint64_t block_bytes(const struct patient *patient, const struct pin *pin)
{
	return patient->verdict.account.classes[pin->key.class].block_bytes;
}

void doctor_pins_text(FILE *out, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;

	if (!percent(account->shared_bytes, account->heap_bytes))
		return;
	for (size_t i = 0; i < PINS_SHOWN && i < patient->pins.count; i++) {
		const struct pin *pin = pins_at(&patient->pins, i);
		const struct kind kind = kinds_kind(&patient->model.kinds, pin->key.kind);
		const char *lead = leads_text(patient, pin->sample);

		if (!pin->pinned_bytes)
			return;
		row(out, pin->pinned_bytes, "pinned", "by %zu live block%s of up to %s, %s",
		    pin->blocks, plural(pin->blocks), amount(block_bytes(patient, pin)).text,
		    kind_label(&kind).text);
		fprintf(out, "                                as at %#" PRIx64, pin->sample);
		sample_print(out, patient, pin->sample, pin->sample_end);
		fprintf(out, "%s%s\n", lead ? "\n                                to which leads " : "",
		        lead ? lead : "");
	}
}

void doctor_pins_json(cJSON *root, const struct patient *patient)
{
	cJSON *list = cJSON_AddArrayToObject(root, "groups");

	for (size_t i = 0; i < patient->pins.count; i++) {
		const struct pin *pin = pins_at(&patient->pins, i);
		const struct kind kind = kinds_kind(&patient->model.kinds, pin->key.kind);
		cJSON *item = cJSON_CreateObject();

		cJSON_AddItemToArray(list, item);
		cJSON_AddNumberToObject(item, "block_bytes", (double)block_bytes(patient, pin));
		kind_add(item, &kind);
		cJSON_AddNumberToObject(item, "live_blocks", (double)pin->blocks);
		cJSON_AddNumberToObject(item, "live_bytes", (double)pin->bytes);
		cJSON_AddNumberToObject(item, "pinned_bytes", (double)pin->pinned_bytes);
		sample_add(cJSON_AddArrayToObject(item, "samples"), patient, pin->sample,
		           pin->sample_end);
	}
}
