#include "doctor/report.h"

#include <inttypes.h>
#include <string.h>

#include "doctor/words.h"

#define FILES_SHOWN 3

static uint64_t zero_bytes(const struct model *model)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < model->page_count; i++)
		bytes += model->pages[i] == MODEL_ZERO ? MODEL_PAGE : 0;
	return bytes;
}

/* The next file of this state from `*at` on, each path once; NULL after the last. */
static const struct core_file *file_next(const struct core *core, enum core_file_state state,
                                         size_t *at)
{
	while (*at < core->file_count) {
		const struct core_file *file = &core->files[(*at)++];

		if (file->state == state &&
		    (file == core->files || strcmp(file->path, file[-1].path) != 0))
			return file;
	}
	return NULL;
}

/* Printable, and the end of a long one. */
struct path_text {
	char text[256];
};

static struct path_text path_text(const char *path)
{
	size_t length = strlen(path);
	struct path_text text;

	snprintf(text.text, sizeof(text.text), "%s",
	         length < sizeof(text.text) ? path : path + length - sizeof(text.text) + 1);
	patient_text_clean(text.text);
	return text;
}

/* Where the thread was that the signal was for: the file's name, or "". */
static struct path_text signal_place(const struct patient *patient)
{
	const struct memory *memory = &patient->memory;
	const struct memory_mapping *mapping =
		memory_mapping_at(memory, memory->core->threads[0].instruction_pointer);

	return path_text(mapping ? memory_mapping_name(mapping) : "");
}

/* --- for people --- */

static void files_print(FILE *out, const struct core *core, enum core_file_state state,
                        const char *what)
{
	const struct core_file *file;
	size_t at = 0, count = 0;

	while ((file = file_next(core, state, &at)))
		if (count++ < FILES_SHOWN)
			fprintf(out, "%s%s", count == 1 ? what : ", ", path_text(file->path).text);
	if (count > FILES_SHOWN)
		fprintf(out, " and %zu more", count - FILES_SHOWN);
	if (count)
		fputs(".\n", out);
}

static void signal_print(FILE *out, const struct patient *patient)
{
	const struct core *core = patient->memory.core;
	struct path_text place = signal_place(patient);

	fprintf(out, ",\nended by signal %d (%s)%s%s, thread %d", core->signal,
	        strsignal(core->signal), *place.text ? " in " : "", place.text,
	        core->threads[0].id);
}

void doctor_core_text(FILE *out, const struct patient *patient)
{
	const struct reading *reading = &patient->reading;
	const struct core *core = patient->memory.core;

	fprintf(out, "read from a core of %zu thread%s", reading->threads, plural(reading->threads));
	if (core && core->signal)
		signal_print(out, patient);
	fputs(".\n", out);
	if (reading->locked_arenas)
		fprintf(out, "%zu arena%s locked, by a thread inside malloc; what %s agrees all the "
		        "same.\n", reading->locked_arenas,
		        reading->locked_arenas == 1 ? " is" : "s are",
		        reading->locked_arenas == 1 ? "it holds" : "they hold");
	if (zero_bytes(&patient->model))
		fprintf(out, "Pages of zeros count as not resident, as this core does not tell: %s of the "
		        "heap.\n", amount(zero_bytes(&patient->model)).text);
	if (core && core->pages_told)
		fputs("Holes in the file count as pages that were not resident: right, if the kernel wrote "
		      "it and\nnobody made it sparse again. ", out);
	fputs("Of files it tells what was written to.\n", out);
	if (core) {
		files_print(out, core, CORE_FILE_MISSING, "Not here, so not looked into (--sysroot, --exe): ");
		files_print(out, core, CORE_FILE_OTHER, "Not what it was, so not looked into: ");
	}
}

/* --- for programs --- */

static void files_add(cJSON *object, const struct core *core, enum core_file_state state,
                      const char *name)
{
	cJSON *list = cJSON_AddArrayToObject(object, name);
	const struct core_file *file;
	size_t at = 0;

	while ((file = file_next(core, state, &at)))
		cJSON_AddItemToArray(list, cJSON_CreateString(path_text(file->path).text));
}

void doctor_core_json(cJSON *root, const struct patient *patient)
{
	const struct core *core = patient->memory.core;
	cJSON *object = cJSON_AddObjectToObject(root, "core");

	cJSON_AddNumberToObject(object, "zero_bytes", (double)zero_bytes(&patient->model));
	cJSON_AddNumberToObject(object, "locked_arenas", (double)patient->reading.locked_arenas);
	if (!core)
		return;
	cJSON_AddStringToObject(object, "file", patient->what);
	cJSON_AddBoolToObject(object, "pages_told", core->pages_told);
	cJSON_AddNumberToObject(object, "signal", core->signal);
	if (core->signal) {
		cJSON_AddNumberToObject(object, "signal_thread", core->threads[0].id);
		cJSON_AddStringToObject(object, "signal_in", signal_place(patient).text);
	}
	files_add(object, core, CORE_FILE_MISSING, "files_missing");
	files_add(object, core, CORE_FILE_OTHER, "files_changed");
}
