#include "doctor/report.h"

#include "doctor/sample.h"
#include "doctor/words.h"

#define GROUPS_SHOWN 5

static uint64_t group_bytes(const struct leaks_group *group)
{
	return group->definite.bytes + group->indirect.bytes;
}

static size_t group_blocks(const struct leaks_group *group)
{
	return group->definite.blocks + group->indirect.blocks;
}

/* "56 blocks of up to 262 kB, text" */
static void group_name(FILE *out, const struct patient *patient, const struct leaks_group *group)
{
	const struct kind kind = kinds_kind(&patient->model.kinds, group->key.kind);

	fprintf(out, "%zu block%s of up to %s, %s", group_blocks(group), plural(group_blocks(group)),
	        amount(patient->verdict.account.classes[group->key.class].block_bytes).text,
	        kind_label(&kind).text);
}

void doctor_leaks_sentence(FILE *out, const struct patient *patient)
{
	const struct leaks_group *group = leaks_group_at(&patient->leaks, 0);

	fprintf(out, "The program has lost %s of the %s that its heap holds: nothing leads to them "
	        "any more.\n", amount(patient->leaks.lost_bytes).text,
	        amount(patient->verdict.account.heap_bytes).text);
	fprintf(out, "The largest group, %s: ", amount(group_bytes(group)).text);
	group_name(out, patient, group);
	fputs(".\n", out);
}

static void group_print(FILE *out, const struct patient *patient,
                        const struct leaks_group *group)
{
	fprintf(out, "  %12.1f  ", (double)group_bytes(group) / 1e6);
	group_name(out, patient, group);
	if (group->indirect.blocks)
		fprintf(out, ", %zu of them indirectly", group->indirect.blocks);
	fprintf(out, "\n                at %#" PRIx64, group->samples[0]);
	sample_print(out, patient, group->samples[0], group->sample_ends[0]);
	for (size_t i = 1; i < group->sample_count; i++)
		fprintf(out, ", %#" PRIx64, group->samples[i]);
	fputc('\n', out);
}

void doctor_leaks_text(FILE *out, const struct patient *patient)
{
	const struct leaks *leaks = &patient->leaks;
	size_t blocks = leaks->definite.blocks + leaks->indirect.blocks;

	if (!blocks) {
		fprintf(out, "\nLost: nothing; something leads to each of the %zu blocks in use\n",
		        leaks->reached.blocks);
		return;
	}
	fprintf(out, "\nLost, MB\n");
	fprintf(out, "  %12.1f  %-16s%zu block%s that nothing leads to\n",
	        (double)leaks->definite.bytes / 1e6, "definitely", leaks->definite.blocks,
	        plural(leaks->definite.blocks));
	fprintf(out, "  %12.1f  %-16s%zu block%s that only lost ones lead to\n",
	        (double)leaks->indirect.bytes / 1e6, "indirectly", leaks->indirect.blocks,
	        plural(leaks->indirect.blocks));
	for (size_t i = 0; i < GROUPS_SHOWN && i < leaks->groups.count; i++) {
		blocks -= group_blocks(leaks_group_at(leaks, i));
		group_print(out, patient, leaks_group_at(leaks, i));
	}
	if (blocks)
		fprintf(out, "                and %zu of other sizes and kinds\n", blocks);
}

static void count_add(cJSON *object, const char *name, const struct leaks_count *count)
{
	cJSON *member = cJSON_AddObjectToObject(object, name);

	cJSON_AddNumberToObject(member, "blocks", (double)count->blocks);
	cJSON_AddNumberToObject(member, "bytes", (double)count->bytes);
}

static void group_add(cJSON *list, const struct patient *patient,
                      const struct leaks_group *group)
{
	const struct kind kind = kinds_kind(&patient->model.kinds, group->key.kind);
	cJSON *item = cJSON_CreateObject(), *samples;

	cJSON_AddItemToArray(list, item);
	cJSON_AddNumberToObject(item, "block_bytes", (double)
	                        patient->verdict.account.classes[group->key.class].block_bytes);
	kind_add(item, &kind);
	count_add(item, "definite", &group->definite);
	count_add(item, "indirect", &group->indirect);
	samples = cJSON_AddArrayToObject(item, "samples");
	for (size_t i = 0; i < group->sample_count; i++)
		sample_add(samples, patient, group->samples[i], group->sample_ends[i]);
}

void doctor_leaks_json(cJSON *root, const struct patient *patient)
{
	const struct leaks *leaks = &patient->leaks;
	cJSON *object = cJSON_AddObjectToObject(root, "leaks"), *list;

	cJSON_AddNumberToObject(object, "lost_bytes", (double)leaks->lost_bytes);
	count_add(object, "definite", &leaks->definite);
	count_add(object, "indirect", &leaks->indirect);
	count_add(object, "reached", &leaks->reached);
	list = cJSON_AddArrayToObject(object, "classes");
	for (size_t i = 0; i < leaks->groups.count; i++)
		group_add(list, patient, leaks_group_at(leaks, i));
}
