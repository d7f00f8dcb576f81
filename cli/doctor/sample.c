#include "doctor/sample.h"

#include <stdlib.h>
#include <string.h>

#include "doctor/leads.h"

#define TEXT_SHOWN 32u             /* bytes on a line, */
#define WORDS_SHOWN 16u            /* in hexadecimal */

static int sample_compare(const void *a, const void *b)
{
	const struct patient_sample *left = a, *right = b;

	return left->address < right->address ? -1 : left->address > right->address;
}

/*
 * From the process, which runs again: what is lost nobody can write to, other blocks may
 * have changed.  Of a page that is not resident nothing is read.
 */
static void sample_read(const struct patient *patient, uint64_t end,
                        struct patient_sample *sample)
{
	const struct model_region *region = model_region_at(&patient->model, sample->address);
	uint64_t rest = MODEL_PAGE - sample->address % MODEL_PAGE;
	uint64_t size = sample->address < end ? end - sample->address : 0;

	if (!region || model_page_at(&patient->model, region, sample->address) != MODEL_RESIDENT)
		return;
	size = size < PATIENT_SAMPLE ? size : PATIENT_SAMPLE;
	sample->size = memory_read_some(&patient->memory, sample->address, sample->bytes,
	                                size < rest ? size : rest);
}

/* Of no bytes when they cannot be known. */
static struct patient_sample sample_of(const struct patient *patient, uint64_t begin,
                                       uint64_t end)
{
	struct patient_sample sample = { .address = begin };
	const struct patient_sample *kept = !patient->sample_count ? NULL :
		bsearch(&sample, patient->samples, patient->sample_count, sizeof(sample),
		        sample_compare);

	if (kept)
		return *kept;
	if (patient->is_open)
		sample_read(patient, end, &sample);
	return sample;
}

static void sample_take(struct patient *patient, uint64_t begin, uint64_t end)
{
	struct patient_sample *sample = &patient->samples[patient->sample_count++];

	*sample = (struct patient_sample){ .address = begin };
	sample_read(patient, end, sample);
}

bool sample_keep(struct patient *patient)
{
	const struct leaks *leaks = &patient->leaks;
	size_t kept = 0;

	if (!patient_group(patient))
		return false;
	patient->samples = calloc(2 * patient->pins.count + LEAKS_SAMPLES * leaks->groups.count + 1,
	                          sizeof(*patient->samples));
	if (!patient->samples)
		return false;
	for (size_t i = 0; i < patient->pins.count; i++) {
		const struct pin *pin = pins_at(&patient->pins, i);

		sample_take(patient, pin->sample, pin->sample_end);
		sample_take(patient, pin->last, pin->last_end);
	}
	for (size_t i = 0; i < leaks->groups.count; i++) {
		const struct leaks_group *group = leaks_group_at(leaks, i);

		for (size_t j = 0; j < group->sample_count; j++)
			sample_take(patient, group->samples[j], group->sample_ends[j]);
	}
	qsort(patient->samples, patient->sample_count, sizeof(*patient->samples), sample_compare);
	/* Each once. */
	for (size_t i = 0; i < patient->sample_count; i++)
		if (!i || patient->samples[i].address != patient->samples[kept - 1].address)
			patient->samples[kept++] = patient->samples[i];
	patient->sample_count = kept;
	return true;
}

/* Whether the bytes are a text, to a zero or their end. */
static bool bytes_are_text(const unsigned char *bytes, size_t count)
{
	size_t length = 0;

	while (length < count && bytes[length] >= ' ' && bytes[length] <= '~')
		length++;
	return length >= 4 && (length == count || !bytes[length]);
}

/* The block in use that the first of the sample's addresses leads to, or MODEL_NONE. */
static size_t sample_target(const struct patient *patient, const struct patient_sample *sample)
{
	const struct model *model = &patient->model;

	for (size_t i = 0; i + sizeof(uint64_t) <= sample->size; i += sizeof(uint64_t)) {
		uint64_t word;
		size_t block;

		memcpy(&word, sample->bytes + i, sizeof(word));
		block = model_find(model, word - model->lead);
		if (block != MODEL_NONE && model_block_state(model, block) == MODEL_LIVE)
			return block;
	}
	return MODEL_NONE;
}

static bool sample_is_pointers(const struct patient *patient, const struct patient_sample *sample)
{
	size_t block = model_find(&patient->model, sample->address - patient->model.lead);

	return block != MODEL_NONE && model_block_kind(&patient->model, block) == KIND_POINTERS;
}

/* ", to 176 bytes, shop::shelf" */
static void target_print(FILE *out, const struct patient *patient, size_t target)
{
	const struct model *model = &patient->model;
	uint64_t begin = model_block_address(model, target);
	const struct kind kind = kinds_kind(&model->kinds, model_block_kind(model, target));

	fprintf(out, ", to %s, %s",
	        amount(model_block_end(model, model_region_at(model, begin), target) - begin).text,
	        kind_label(&kind).text);
}

void sample_print(FILE *out, const struct patient *patient, uint64_t begin, uint64_t end)
{
	const struct patient_sample sample = sample_of(patient, begin, end);
	size_t count = sample.size < TEXT_SHOWN ? sample.size : TEXT_SHOWN, target;

	if (bytes_are_text(sample.bytes, count)) {
		fputs(" \"", out);
		for (size_t i = 0; i < count && sample.bytes[i]; i++)
			fputc(sample.bytes[i], out);
		fputs("\"", out);
		return;
	}
	for (size_t i = 0; i < count && i < WORDS_SHOWN; i++)
		fprintf(out, "%s%02x", i % 8 ? "" : " ", sample.bytes[i]);
	target = sample_is_pointers(patient, &sample) ? sample_target(patient, &sample) : MODEL_NONE;
	if (target != MODEL_NONE)
		target_print(out, patient, target);
}

void sample_add(cJSON *list, const struct patient *patient, uint64_t begin, uint64_t end)
{
	const struct patient_sample sample = sample_of(patient, begin, end);
	char text[2 * PATIENT_SAMPLE + 1] = "";
	cJSON *object = cJSON_CreateObject();

	cJSON_AddItemToArray(list, object);
	snprintf(text, sizeof(text), "%#" PRIx64, begin);
	cJSON_AddStringToObject(object, "address", text);
	*text = '\0';
	for (size_t i = 0; i < sample.size; i++)
		snprintf(text + 2 * i, 3, "%02x", sample.bytes[i]);
	cJSON_AddStringToObject(object, "bytes", text);
	if (leads_text(patient, begin))
		cJSON_AddStringToObject(object, "referrer", leads_text(patient, begin));
}
