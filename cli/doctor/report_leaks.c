#include "doctor/report.h"

#include "doctor/words.h"

#define CLASSES_SHOWN 5
#define SAMPLE_BYTES 32u

static uint64_t class_bytes(const struct leaks_class *class)
{
	return class->definite.bytes + class->indirect.bytes;
}

static size_t class_blocks(const struct leaks_class *class)
{
	return class->definite.blocks + class->indirect.blocks;
}

void doctor_leaks_sentence(FILE *out, const struct patient *patient)
{
	const struct leaks *leaks = &patient->leaks;
	const struct account *account = &patient->verdict.account;
	size_t worst = leaks_worst_class(leaks);
	const struct leaks_class *class = &leaks->classes[worst];

	fprintf(out, "The program has lost %s of the %s that its heap holds: nothing leads to them "
	        "any more.\n", amount(leaks->lost_bytes).text, amount(account->heap_bytes).text);
	fprintf(out, "The largest group, %s: %zu block%s of up to %s.\n", amount(class_bytes(class)).text,
	        class_blocks(class), plural(class_blocks(class)),
	        amount(account->classes[worst].block_bytes).text);
}

/* --- what a lost block holds --- */

/*
 * The first bytes of a sample.  The process runs again, but nobody can write to what
 * nothing leads to.  Of a page that is not resident, and of a file, nothing is read.
 */
static size_t sample_read(const struct patient *patient, const struct leaks_class *class,
                          size_t sample, unsigned char bytes[SAMPLE_BYTES])
{
	uint64_t begin = class->samples[sample], size = class->sample_ends[sample] - begin;
	const struct model_region *region = model_region_at(&patient->model, begin);
	uint64_t rest = MODEL_PAGE - begin % MODEL_PAGE;

	if (!patient->is_open || !region || model_page_at(&patient->model, region, begin) != MODEL_RESIDENT)
		return 0;
	size = size < SAMPLE_BYTES ? size : SAMPLE_BYTES;
	return memory_read_some(&patient->memory, begin, bytes, size < rest ? size : rest);
}

/* Whether the bytes are a text, to a zero or their end. */
static bool bytes_are_text(const unsigned char *bytes, size_t count)
{
	size_t length = 0;

	while (length < count && bytes[length] >= ' ' && bytes[length] <= '~')
		length++;
	return length >= 4 && (length == count || !bytes[length]);
}

static void bytes_print(FILE *out, const unsigned char *bytes, size_t count)
{
	if (bytes_are_text(bytes, count)) {
		fputs(" \"", out);
		for (size_t i = 0; i < count && bytes[i]; i++)
			fputc(bytes[i], out);
		fputs("\"", out);
		return;
	}
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s%02x", i % 8 ? "" : " ", bytes[i]);
}

/* --- the reports --- */

static void class_print(FILE *out, const struct patient *patient, size_t index)
{
	const struct leaks_class *class = &patient->leaks.classes[index];
	unsigned char bytes[SAMPLE_BYTES];
	size_t count = sample_read(patient, class, 0, bytes);

	fprintf(out, "  %12.1f  %zu block%s of up to %s", (double)class_bytes(class) / 1e6,
	        class_blocks(class), plural(class_blocks(class)),
	        amount(patient->verdict.account.classes[index].block_bytes).text);
	if (class->indirect.blocks)
		fprintf(out, ", %zu of them indirectly", class->indirect.blocks);
	fprintf(out, "\n                at %#" PRIx64, class->samples[0]);
	bytes_print(out, bytes, count);
	for (size_t i = 1; i < class->sample_count; i++)
		fprintf(out, ", %#" PRIx64, class->samples[i]);
	fputc('\n', out);
}

/* Of the classes not yet shown the one that has lost most, or ACCOUNT_CLASSES. */
static size_t class_next(const struct leaks *leaks, const bool shown[ACCOUNT_CLASSES])
{
	size_t next = ACCOUNT_CLASSES;

	for (size_t i = 0; i < ACCOUNT_CLASSES; i++)
		if (!shown[i] && class_bytes(&leaks->classes[i]) &&
		    (next == ACCOUNT_CLASSES ||
		     class_bytes(&leaks->classes[i]) > class_bytes(&leaks->classes[next])))
			next = i;
	return next;
}

void doctor_leaks_text(FILE *out, const struct patient *patient)
{
	const struct leaks *leaks = &patient->leaks;
	bool shown[ACCOUNT_CLASSES] = { false };
	size_t blocks = leaks->definite.blocks + leaks->indirect.blocks, next;

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
	for (int i = 0; i < CLASSES_SHOWN && (next = class_next(leaks, shown)) < ACCOUNT_CLASSES;
	     i++) {
		shown[next] = true;
		blocks -= class_blocks(&leaks->classes[next]);
		class_print(out, patient, next);
	}
	if (blocks)
		fprintf(out, "                and %zu of other sizes\n", blocks);
}

static void count_add(cJSON *object, const char *name, const struct leaks_count *count)
{
	cJSON *member = cJSON_AddObjectToObject(object, name);

	cJSON_AddNumberToObject(member, "blocks", (double)count->blocks);
	cJSON_AddNumberToObject(member, "bytes", (double)count->bytes);
}

static void samples_add(cJSON *object, const struct patient *patient,
                        const struct leaks_class *class)
{
	cJSON *list = cJSON_AddArrayToObject(object, "samples");

	for (size_t i = 0; i < class->sample_count; i++) {
		cJSON *sample = cJSON_CreateObject();
		unsigned char bytes[SAMPLE_BYTES];
		size_t count = sample_read(patient, class, i, bytes);
		char text[2 * SAMPLE_BYTES + 1] = "";

		cJSON_AddItemToArray(list, sample);
		snprintf(text, sizeof(text), "%#" PRIx64, class->samples[i]);
		cJSON_AddStringToObject(sample, "address", text);
		*text = '\0';
		for (size_t j = 0; j < count; j++)
			snprintf(text + 2 * j, 3, "%02x", bytes[j]);
		cJSON_AddStringToObject(sample, "bytes", text);
	}
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
	for (size_t i = 0; i < ACCOUNT_CLASSES; i++) {
		const struct leaks_class *class = &leaks->classes[i];
		cJSON *item;

		if (!class_bytes(class))
			continue;
		item = cJSON_CreateObject();
		cJSON_AddItemToArray(list, item);
		cJSON_AddNumberToObject(item, "block_bytes",
		                        (double)patient->verdict.account.classes[i].block_bytes);
		count_add(item, "definite", &class->definite);
		count_add(item, "indirect", &class->indirect);
		samples_add(item, patient, class);
	}
}
