#include "doctor/comparison.h"

#include <cJSON.h>
#include <stdlib.h>

#include "command.h"
#include "doctor/sample.h"
#include "doctor/words.h"

#define GROUPS_SHOWN 5

const char *comparison_hindrance(const struct patient *before, const struct patient *after)
{
	/* No core tells when its process began; but chance has moved another one's arena. */
	bool alike = before->started && after->started ? before->started == after->started :
	             before->model.arena_count && after->model.arena_count &&
	             before->model.arenas[0].address == after->model.arenas[0].address;

	if (before->pid != after->pid || !alike)
		return "they are of different processes, whose addresses have nothing in common";
	if (before->taken > after->taken)
		return "the first was taken after the second: name them the other way round";
	return NULL;
}

bool comparison_fill(struct comparison *comparison, const struct patient *before,
                     const struct patient *after, const struct verdict_limits *limits)
{
	*comparison = (struct comparison){ .before = before, .after = after };
	if (!compare_fill(&before->model, &after->model, &comparison->compare))
		return false;
	comparison->verdict = compare_is_leak(&comparison->compare, limits) ? VERDICT_LEAK :
	                      after->verdict.kind;
	return true;
}

static double seconds_between(const struct comparison *comparison)
{
	return (double)(comparison->after->taken - comparison->before->taken) / 1e3;
}

/* --- for people --- */

static void growth_print(FILE *out, const struct comparison *comparison)
{
	const struct compare_change *all = &comparison->compare.all;
	const struct compare_change *class;
	double seconds = seconds_between(comparison);
	uint64_t grown = compare_grown(all);
	size_t most = compare_most(&comparison->compare);

	fprintf(out, "Between two looks, %.1f s apart, live memory ", seconds);
	if (!grown) {
		fprintf(out, "did not grow: %s, then %s.\n", amount(all->before.bytes).text,
		        amount(all->after.bytes).text);
		return;
	}
	fprintf(out, "grew by %s, from %s to %s", amount(grown).text,
	        amount(all->before.bytes).text, amount(all->after.bytes).text);
	if (all->before.bytes)
		fprintf(out, " (%u%%)", percent(grown, all->before.bytes));
	fputs(".\n", out);
	class = &comparison->compare.classes[most];
	fprintf(out, "Blocks of up to %s grew most: by %s, from %zu to %zu block%s.\n",
	        amount(comparison->after->verdict.account.classes[most].block_bytes).text,
	        amount(compare_grown(class)).text, class->before.blocks, class->after.blocks,
	        plural(class->after.blocks));
	if (comparison->verdict == VERDICT_LEAK)
		fputs("A cache that is being filled looks the same: does it go on?\n", out);
}

static void count_print(FILE *out, const char *name, const struct compare_count *count)
{
	row(out, count->bytes, name, "%zu block%s", count->blocks, plural(count->blocks));
}

static struct kind group_kind(const struct comparison *comparison,
                              const struct compare_group *group)
{
	return compare_kind(&comparison->before->model, &comparison->after->model,
	                    group->key.kind);
}

static uint64_t group_block_bytes(const struct comparison *comparison,
                                  const struct compare_group *group)
{
	return comparison->after->verdict.account.classes[group->key.class].block_bytes;
}

static void groups_print(FILE *out, const struct comparison *comparison)
{
	const struct compare *compare = &comparison->compare;

	for (size_t i = 0; i < GROUPS_SHOWN && i < compare->groups.count; i++) {
		const struct compare_group *group = compare_group_at(compare, i);
		const struct kind kind = group_kind(comparison, group);

		if (!compare_group_grown(group))
			return;
		if (!i)
			fputs("\nGrown, MB\n", out);
		row(out, compare_group_grown(group), amount(group_block_bytes(comparison, group)).text,
		    "at most in a block: %s; %zu, then %zu", kind_label(&kind).text,
		    group->before.blocks, group->after.blocks);
		if (!group->sample)
			continue;
		fprintf(out, "                                as at %#" PRIx64, group->sample);
		sample_print(out, comparison->after, group->sample, group->sample_end);
		fputc('\n', out);
	}
}

/* The kind of a live block of the second look. */
static struct kind block_kind(const struct comparison *comparison, uint64_t address)
{
	const struct model *model = &comparison->after->model;
	size_t block = model_find(model, address);

	return kinds_kind(&model->kinds, block == MODEL_NONE ? KIND_UNKNOWN :
	                  model_block_kind(model, block));
}

static void late_print(FILE *out, const struct comparison *comparison)
{
	const struct compare_late *late = &comparison->compare.late;
	const struct kind kind = block_kind(comparison, late->address);

	if (late->held_bytes <= late->blocks.bytes)
		return;
	fprintf(out, "\n%zu new block%s of %s in all lie%s above %s of free memory, of which %s were "
	        "free before,\nand above every older block; the last at %#" PRIx64 ", %s.\n",
	        late->blocks.blocks, plural(late->blocks.blocks), amount(late->blocks.bytes).text,
	        late->blocks.blocks == 1 ? "s" : "", amount(late->held_bytes).text,
	        amount(late->old_bytes).text, late->address, kind_label(&kind).text);
}

static void resident_print(FILE *out, const char *name, uint64_t before, uint64_t after)
{
	fprintf(out, "  %12.1f  %-16sthen %.1f\n", (double)before / 1e6, name, (double)after / 1e6);
}

int comparison_report_text(FILE *out, const struct comparison *comparison)
{
	const struct compare_change *all = &comparison->compare.all;
	const struct account *before = &comparison->before->verdict.account;
	const struct account *after = &comparison->after->verdict.account;

	fprintf(out, "%s (%d): %s\n\n", comparison->after->name, comparison->after->pid,
	        verdict_kind_name(comparison->verdict));
	growth_print(out, comparison);
	fputs("\nLive blocks, MB\n", out);
	count_print(out, "first look", &all->before);
	count_print(out, "gone since", &all->gone);
	count_print(out, "in both", &all->both);
	count_print(out, "new since", &all->fresh);
	count_print(out, "second look", &all->after);
	groups_print(out, comparison);
	fputs("\nResident, MB\n", out);
	resident_print(out, "process", before->resident_bytes, after->resident_bytes);
	resident_print(out, "heap", before->heap_bytes, after->heap_bytes);
	resident_print(out, "free, whole", before->whole_bytes, after->whole_bytes);
	resident_print(out, "free, shared", before->shared_bytes, after->shared_bytes);
	late_print(out, comparison);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}

/* --- for programs --- */

static void number(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddNumberToObject(object, name, (double)value);
}

static void look_add(cJSON *root, const char *name, const struct patient *patient)
{
	const struct account *account = &patient->verdict.account;
	cJSON *object = cJSON_AddObjectToObject(root, name);

	cJSON_AddStringToObject(object, "taken", moment(patient->taken).text);
	cJSON_AddStringToObject(object, "verdict", verdict_kind_name(patient->verdict.kind));
	number(object, "process_bytes", account->resident_bytes);
	number(object, "heap_bytes", account->heap_bytes);
	number(object, "whole_free_bytes", account->whole_bytes);
	number(object, "shared_free_bytes", account->shared_bytes);
}

static void count_add(cJSON *object, const char *name, const struct compare_count *count)
{
	cJSON *member = cJSON_AddObjectToObject(object, name);

	number(member, "blocks", count->blocks);
	number(member, "bytes", count->bytes);
}

static void change_add(cJSON *object, const struct compare_change *change)
{
	count_add(object, "before", &change->before);
	count_add(object, "after", &change->after);
	count_add(object, "both", &change->both);
	count_add(object, "new", &change->fresh);
	count_add(object, "gone", &change->gone);
}

static void classes_add(cJSON *root, const struct comparison *comparison)
{
	cJSON *list = cJSON_AddArrayToObject(root, "classes");

	for (size_t i = 0; i < ACCOUNT_CLASSES; i++) {
		const struct compare_change *change = &comparison->compare.classes[i];
		cJSON *object;

		if (!change->before.blocks && !change->after.blocks)
			continue;
		object = cJSON_CreateObject();
		cJSON_AddItemToArray(list, object);
		number(object, "block_bytes",
		       comparison->after->verdict.account.classes[i].block_bytes);
		change_add(object, change);
	}
}

static void groups_add(cJSON *root, const struct comparison *comparison)
{
	const struct compare *compare = &comparison->compare;
	cJSON *list = cJSON_AddArrayToObject(root, "groups");

	for (size_t i = 0; i < compare->groups.count; i++) {
		const struct compare_group *group = compare_group_at(compare, i);
		const struct kind kind = group_kind(comparison, group);
		cJSON *item = cJSON_CreateObject();
		cJSON *samples;

		cJSON_AddItemToArray(list, item);
		number(item, "block_bytes", group_block_bytes(comparison, group));
		kind_add(item, &kind);
		count_add(item, "before", &group->before);
		count_add(item, "after", &group->after);
		samples = cJSON_AddArrayToObject(item, "samples");
		if (group->sample)
			sample_add(samples, comparison->after, group->sample, group->sample_end);
	}
}

static void late_add(cJSON *root, const struct comparison *comparison)
{
	const struct compare_late *late = &comparison->compare.late;
	const struct kind kind = block_kind(comparison, late->address);
	cJSON *object = cJSON_AddObjectToObject(root, "late");
	char address[32];

	number(object, "blocks", late->blocks.blocks);
	number(object, "bytes", late->blocks.bytes);
	number(object, "held_bytes", late->held_bytes);
	number(object, "old_bytes", late->old_bytes);
	snprintf(address, sizeof(address), "%#lx", late->address);
	if (!late->blocks.blocks)
		return;
	cJSON_AddStringToObject(object, "address", address);
	kind_add(object, &kind);
}

int comparison_report_json(FILE *out, const struct comparison *comparison)
{
	cJSON *root = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-comparison/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	number(root, "pid", (uint64_t)comparison->after->pid);
	cJSON_AddStringToObject(root, "name", comparison->after->name);
	cJSON_AddStringToObject(root, "verdict", verdict_kind_name(comparison->verdict));
	cJSON_AddNumberToObject(root, "seconds", seconds_between(comparison));
	look_add(root, "first", comparison->before);
	look_add(root, "second", comparison->after);
	change_add(cJSON_AddObjectToObject(root, "live"), &comparison->compare.all);
	classes_add(root, comparison);
	groups_add(root, comparison);
	late_add(root, comparison);
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		return -1;
	fprintf(out, "%s\n", text);
	free(text);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
