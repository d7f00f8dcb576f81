#include "doctor/leads.h"

#include <inttypes.h>
#include <stdlib.h>

#include "doctor/words.h"
#include "readers/names.h"

/* --- whose blocks --- */

static void referrer_add(struct referrer *referrers, size_t *count, uint64_t begin, uint64_t end)
{
	if (*count < REFERRERS_MOST && begin < end)
		referrers[(*count)++] = (struct referrer){ .begin = begin, .end = end };
}

static int referrer_compare(const void *a, const void *b)
{
	const struct referrer *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* Returns how many blocks are asked about, each once. */
static size_t referrers_choose(const struct patient *patient, struct referrer *referrers)
{
	const struct model *model = &patient->model;
	struct verdict verdict;
	size_t count = 0, kept = 0;

	verdict_reach(model, &VERDICT_LIMITS, false, &verdict);
	for (size_t i = 0; i < verdict.gate_count; i++) {
		uint64_t address = verdict.gates[i].address;
		size_t block = verdict.gates[i].kind == GATE_PIN ? model_find(model, address) : MODEL_NONE;

		if (block != MODEL_NONE)
			referrer_add(referrers, &count,
			             model_memory_begin(model, model_region_at(model, address), block),
			             model_memory_end(model, model_region_at(model, address), block));
	}
	for (size_t i = 0; i < patient->pins.count; i++)
		referrer_add(referrers, &count, pins_at(&patient->pins, i)->sample,
		             pins_at(&patient->pins, i)->sample_end);
	qsort(referrers, count, sizeof(*referrers), referrer_compare);
	for (size_t i = 0; i < count; i++)
		if (!i || referrers[i].begin != referrers[kept - 1].begin)
			referrers[kept++] = referrers[i];
	return kept;
}

/* --- in words --- */

/* The thread whose stack this is, from its pointer up; NULL: it is nobody's. */
static const struct words_thread *stack_owner(const struct words *words,
                                              const struct memory_mapping *mapping,
                                              uint64_t place)
{
	const struct words_thread *owner = NULL;

	for (size_t i = 0; i < words->thread_count; i++) {
		const struct words_thread *thread = &words->threads[i];

		if (thread->stack_pointer >= mapping->begin && thread->stack_pointer <= place &&
		    (!owner || thread->stack_pointer > owner->stack_pointer))
			owner = thread;
	}
	return owner;
}

/* The thread whose own variables are in this mapping. */
static const struct words_thread *variables_owner(const struct words *words,
                                                  const struct memory_mapping *mapping)
{
	for (size_t i = 0; i < words->thread_count; i++)
		if (words->threads[i].thread_pointer >= mapping->begin &&
		    words->threads[i].thread_pointer < mapping->end)
			return &words->threads[i];
	return NULL;
}

static void file_tell(struct names *names, uint64_t place, struct patient_lead *lead)
{
	struct kind kind;
	uint64_t offset;
	char behind[32] = "";

	names_tell(names, place, &kind, &offset);
	if (offset)
		snprintf(behind, sizeof(behind), "+%" PRIu64, offset);
	if (kind.form == KIND_FILE)
		snprintf(lead->text, sizeof(lead->text), "a variable of %.60s, at %#" PRIx64,
		         kind.name, place);
	else
		snprintf(lead->text, sizeof(lead->text), "the variable %.100s%s", kind.name, behind);
}

static void root_tell(const struct patient *patient, const struct words *words,
                      struct names *names, uint64_t place, struct patient_lead *lead)
{
	const struct memory_mapping *mapping = memory_mapping_at(&patient->memory, place);
	const struct words_thread *thread;

	if (place & WORDS_REGISTER)
		snprintf(lead->text, sizeof(lead->text), "a register of thread %" PRIu64,
		         place & ~WORDS_REGISTER);
	else if (names_cover(names, place))
		file_tell(names, place, lead);
	else if (mapping && (thread = stack_owner(words, mapping, place)))
		snprintf(lead->text, sizeof(lead->text), "the stack of thread %d%s", thread->id,
		         mapping->kind == MEMORY_STACK ? "" : ", or its own variables");
	else if (mapping && (thread = variables_owner(words, mapping)))
		snprintf(lead->text, sizeof(lead->text), "a variable of thread %d's own", thread->id);
	else
		snprintf(lead->text, sizeof(lead->text), "memory that is not malloc's, at %#" PRIx64,
		         place);
}

static void block_tell(const struct patient *patient, size_t block, struct patient_lead *lead)
{
	const struct model *model = &patient->model;
	uint64_t begin = model_block_address(model, block);
	const struct model_region *region = model_region_at(model, begin);
	const struct kind kind = kinds_kind(&model->kinds, model_block_kind(model, block));

	snprintf(lead->text, sizeof(lead->text), "a live block of %s, %s, at %#" PRIx64,
	         amount(model_block_end(model, region, block) - begin).text, kind_label(&kind).text,
	         model_memory_begin(model, region, block));
}

bool leads_find(struct patient *patient, const struct words *words)
{
	struct referrer referrers[REFERRERS_MOST];
	struct names *names = names_open(&patient->memory);
	size_t count;

	if (!names)
		return false;
	count = referrers_choose(patient, referrers);
	referrers_find(&patient->model, words, referrers, count);
	for (size_t i = 0; i < count; i++) {
		struct patient_lead *lead = &patient->leads[patient->lead_count];

		if (referrers[i].place)
			root_tell(patient, words, names, referrers[i].place, lead);
		else if (referrers[i].block != MODEL_NONE)
			block_tell(patient, referrers[i].block, lead);
		else
			continue;
		lead->address = referrers[i].begin;
		patient->lead_count++;
	}
	names_close(names);
	return true;
}

const char *leads_text(const struct patient *patient, uint64_t address)
{
	for (size_t i = 0; i < patient->lead_count; i++)
		if (patient->leads[i].address == address)
			return patient->leads[i].text;
	return NULL;
}
