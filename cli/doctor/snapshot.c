#include "doctor/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "doctor/stream.h"

/* Fixed length, so that it can be read before anything is known. */
#define MAGIC "cede-snapshot/"
#define FORMAT MAGIC "4\n"
#define FORMAT_BYTES (sizeof(FORMAT) - 1)

#define ADDRESS_END (1ul << 56)      /* no address of a process is as high */
#define TIME_END 253402300800000ul   /* milliseconds from 1970 to the year 10000 */
#define CHECKS_MOST (1ul << 30)      /* steps of model_check over arenas and regions */

/* The low bits of a block's number are its state. */
#define STATE_BITS 3
_Static_assert(MODEL_STATES == 1 << STATE_BITS, "each value of the bits is a state");

/* --- the patient --- */

static void patient_pass(struct stream *stream, struct patient *patient)
{
	struct reading *reading = &patient->reading;
	struct allocator *allocator = &patient->allocator;

	PASS_TO(stream, patient->pid, INT32_MAX);
	stream_text(stream, patient->name, sizeof(patient->name));
	PASS(stream, patient->started);
	PASS_TO(stream, patient->taken, TIME_END - 1);
	PASS_TO(stream, patient->outcome, READING_ABSENT);
	PASS(stream, reading->version);
	stream_text(stream, reading->cede, sizeof(reading->cede));
	PASS(stream, reading->threads);
	PASS(stream, reading->stops);
	PASS(stream, reading->pause_microseconds);
	if (stream->saves)
		snprintf(patient->allocator_name, sizeof(patient->allocator_name), "%s",
		         allocator->name ? allocator->name : "");
	stream_text(stream, patient->allocator_name, sizeof(patient->allocator_name));
	allocator->name = *patient->allocator_name ? patient->allocator_name : NULL;
	stream_text(stream, allocator->file, sizeof(allocator->file));
	PASS_TO(stream, allocator->is_malloc, 1);
}

static void settings_pass(struct stream *stream, struct model *model)
{
	struct model_settings *settings = &model->settings;

	PASS(stream, settings->trim_threshold);
	PASS(stream, settings->mmap_threshold);
	PASS(stream, settings->top_pad);
	PASS(stream, settings->trim_unit);
	PASS_TO(stream, settings->thresholds_fixed, 1);
	PASS(stream, settings->arena_max);
	PASS(stream, settings->mapped_blocks);
	PASS(stream, settings->mapped_bytes);
	PASS(stream, settings->mapped_max);
	PASS(stream, settings->spare_blocks);
	PASS(stream, settings->spare_bytes);
	PASS_TO(stream, settings->giving, MODEL_GIVES_ON_CALL);
	PASS_TO(stream, model->audit.passed, 1);
	stream_text(stream, model->audit.text, sizeof(model->audit.text));
}

/* --- the model --- */

static void arenas_pass(struct stream *stream, struct model *model)
{
	size_t count = model->arena_count;

	PASS(stream, count);
	stream_room(stream, count, sizeof(struct model_arena));
	for (size_t i = 0; i < count && !stream->failed; i++) {
		struct model_arena arena = { 0 };

		if (stream->saves)
			arena = model->arenas[i];
		PASS_TO(stream, arena.address, ADDRESS_END);
		PASS(stream, arena.system_bytes);
		PASS_TO(stream, arena.top, ADDRESS_END);
		PASS(stream, arena.top_bytes);
		PASS_TO(stream, arena.top_shrinks, 1);
		PASS(stream, arena.fast_blocks);
		PASS(stream, arena.fast_bytes);
		PASS(stream, arena.bin_blocks);
		PASS(stream, arena.bin_bytes);
		PASS(stream, arena.slab_blocks);
		PASS(stream, arena.slab_bytes);
		if (!stream->saves)
			model_add_arena(model, &arena);
	}
}

static void caches_pass(struct stream *stream, struct model *model)
{
	size_t count = model->cache_count;

	PASS(stream, count);
	stream_room(stream, count, sizeof(struct model_cache));
	for (size_t i = 0; i < count && !stream->failed; i++) {
		struct model_cache cache = { 0 };

		if (stream->saves)
			cache = model->caches[i];
		PASS_TO(stream, cache.thread, INT32_MAX);
		PASS(stream, cache.blocks);
		PASS(stream, cache.bytes);
		if (!stream->saves)
			model_add_cache(model, &cache);
	}
}

static void mappings_pass(struct stream *stream, struct model *model)
{
	size_t count = model->mapping_count;

	PASS(stream, count);
	stream_room(stream, count, sizeof(struct model_mapping));
	for (size_t i = 0; i < count && !stream->failed; i++) {
		struct model_mapping mapping = { 0 };

		if (stream->saves)
			mapping = model->mappings[i];
		/* [vsyscall] is at the very end of the address space. */
		PASS(stream, mapping.begin);
		PASS(stream, mapping.end);
		PASS_TO(stream, mapping.kind, MODEL_OTHER);
		PASS(stream, mapping.resident_bytes);
		PASS(stream, mapping.swapped_bytes);
		if (mapping.begin > mapping.end)
			stream_fail(stream, "it is damaged (a mapping that ends before it begins)");
		if (!stream->saves)
			model_add_mapping(model, &mapping);
	}
}

static void blocks_save(struct stream *stream, const struct model *model,
                        const struct model_region *region)
{
	size_t end = region->first_block + region->block_count;

	for (size_t block = region->first_block; block < end && !stream->failed; block++) {
		uint64_t bytes = model_block_end(model, region, block) -
		                 model_block_address(model, block);

		stream_save_number(stream, bytes / MODEL_GRAIN << STATE_BITS |
		            model_block_state(model, block));
	}
}

/* Returns where they end. */
static uint64_t blocks_load(struct stream *stream, struct model *model, uint64_t address,
                            size_t count)
{
	for (size_t i = 0; i < count && !stream->failed; i++) {
		uint64_t number = stream_load_number(stream, ADDRESS_END);
		uint64_t bytes = (number >> STATE_BITS) * MODEL_GRAIN;
		enum model_state state = (enum model_state)(number & ((1 << STATE_BITS) - 1));

		if (!bytes || bytes > ADDRESS_END - address) {
			stream_fail(stream, "it is damaged (a block of %lu bytes)", bytes);
			break;
		}
		model_add_block(model, address, state);
		address += bytes;
	}
	return address;
}

static void region_save(struct stream *stream, struct model *model, struct model_region *region)
{
	uint64_t grains = region->begin / MODEL_GRAIN;

	PASS(stream, region->kind);
	PASS(stream, region->arena);
	PASS(stream, grains);
	PASS(stream, region->block_count);
	blocks_save(stream, model, region);
	stream_bytes(stream, model->pages + region->first_page, model_region_pages(region));
}

static void region_load(struct stream *stream, struct model *model)
{
	struct model_region region = { 0 };
	uint64_t grains = 0;
	uint8_t *pages;
	size_t count;

	PASS_TO(stream, region.kind, MODEL_OWN);
	PASS(stream, region.arena);
	PASS_TO(stream, grains, ADDRESS_END / MODEL_GRAIN);
	PASS(stream, region.block_count);
	stream_room(stream, region.block_count, sizeof(*model->blocks));
	if (!region.block_count)
		stream_fail(stream, "it is damaged (a region without a block)");
	if (stream->failed)
		return;
	region.begin = grains * MODEL_GRAIN;
	model_begin_region(model, region.kind, region.arena, region.begin);
	region.end = blocks_load(stream, model, region.begin, region.block_count);
	if (stream->failed)
		return;
	count = model_region_pages(&region);
	stream_room(stream, count, sizeof(*model->pages) + sizeof(*model->page_blocks));
	pages = stream->failed ? NULL : model_end_region(model, region.end);
	if (!pages)
		return;
	stream_bytes(stream, pages, count);
	for (size_t i = 0; i < count; i++)
		if (pages[i] > MODEL_SWAPPED)
			stream_fail(stream, "it is damaged (page %zu of a region is %u)", i, pages[i]);
}

/* --- the names of kinds --- */

static void table_pass(struct stream *stream, struct kinds *kinds)
{
	size_t count = kinds->count;

	PASS_TO(stream, count, KINDS_MOST);
	for (size_t i = 0; i < count && !stream->failed; i++) {
		struct kind kind = { .form = KIND_PLAIN };

		if (stream->saves)
			kind = kinds->table[i];
		PASS_TO(stream, kind.form, KIND_FORMS - 1);
		stream_text(stream, kind.name, sizeof(kind.name));
		if (!stream->saves && !stream->failed && !kinds_add(kinds, &kind))
			stream_fail(stream, "it is damaged (kind %zu of blocks is out of order)", i);
	}
}

/* --- what is told of each block in use --- */

/* Told of as many blocks in a row as have the same value. */
struct trait {
	unsigned (*get)(const struct patient *patient, size_t block);
	void (*set)(struct patient *patient, size_t block, unsigned value);
	const char *name;
};

/* The region's next block in use, or its end. */
static size_t live_next(const struct model *model, const struct model_region *region, size_t block)
{
	size_t end = region->first_block + region->block_count;

	while (block < end && model_block_state(model, block) != MODEL_LIVE)
		block++;
	return block;
}

/* How many blocks in use, from this one on, have its value. */
static size_t run_measure(const struct patient *patient, const struct model_region *region,
                          const struct trait *trait, size_t block)
{
	size_t run = 0, end = region->first_block + region->block_count;
	unsigned value = trait->get(patient, block);

	for (; block < end && trait->get(patient, block) == value;
	     block = live_next(&patient->model, region, block + 1))
		run++;
	return run;
}

static void region_runs_pass(struct stream *stream, struct patient *patient,
                             const struct model_region *region, const struct trait *trait,
                             unsigned most)
{
	const struct model *model = &patient->model;
	size_t end = region->first_block + region->block_count, run = 0;
	unsigned value = 0;

	for (size_t block = live_next(model, region, region->first_block);
	     block < end && !stream->failed; block = live_next(model, region, block + 1), run--) {
		if (!run) {
			if (stream->saves) {
				run = run_measure(patient, region, trait, block);
				value = trait->get(patient, block);
			}
			PASS_TO(stream, run, region->block_count);
			PASS_TO(stream, value, most);
			if (!run)
				stream_fail(stream, "it is damaged (a %s of no block)", trait->name);
		}
		if (!stream->saves && !stream->failed)
			trait->set(patient, block, value);
	}
	if (run)
		stream_fail(stream, "it is damaged (a %s of more blocks than there are)",
		            trait->name);
}

static void runs_pass(struct stream *stream, struct patient *patient, const struct trait *trait,
                      unsigned most)
{
	for (size_t i = 0; i < patient->model.region_count && !stream->failed; i++)
		region_runs_pass(stream, patient, &patient->model.regions[i], trait, most);
}

/* --- what the blocks hold --- */

static unsigned kind_get(const struct patient *patient, size_t block)
{
	return model_block_kind(&patient->model, block);
}

static void kind_set(struct patient *patient, size_t block, unsigned value)
{
	patient->model.kinds.of[block] = (uint16_t)value;
}

static void kinds_pass(struct stream *stream, struct patient *patient)
{
	static const struct trait trait = { kind_get, kind_set, "kind" };
	struct model *model = &patient->model;

	PASS_TO(stream, model->lead, MODEL_PAGE);
	stream_room(stream, model->block_count, sizeof(*model->kinds.of));
	if (!stream->saves && !stream->failed && !kinds_open(&model->kinds, model->block_count))
		stream_fail(stream, "there is not enough memory for it");
	table_pass(stream, &model->kinds);
	runs_pass(stream, patient, &trait, (unsigned)(KIND_PLAIN + model->kinds.count - 1));
}

/* --- what is lost --- */

static unsigned mark_get(const struct patient *patient, size_t block)
{
	return leaks_mark_of(&patient->leaks, block);
}

static void mark_set(struct patient *patient, size_t block, unsigned value)
{
	leaks_mark(&patient->leaks, block, (enum leaks_mark)value);
}

static void leaks_pass(struct stream *stream, struct patient *patient)
{
	static const struct trait trait = { mark_get, mark_set, "loss" };
	size_t blocks = patient->model.block_count;

	PASS_TO(stream, patient->leaks_wanted, 1);
	if (!patient->leaks_wanted || stream->failed)
		return;
	stream_room(stream, blocks / 64 + 1, 2 * sizeof(uint64_t));
	if (!stream->saves && !stream->failed && !leaks_open(&patient->leaks, blocks))
		stream_fail(stream, "there is not enough memory for it");
	runs_pass(stream, patient, &trait, LEAKS_MARKS - 1);
}

/* --- all of the model --- */

static void model_pass(struct stream *stream, struct model *model)
{
	size_t count = model->region_count;

	settings_pass(stream, model);
	arenas_pass(stream, model);
	caches_pass(stream, model);
	mappings_pass(stream, model);
	PASS(stream, count);
	stream_room(stream, count, sizeof(struct model_region));
	if (!stream->saves && count > CHECKS_MOST / (model->arena_count + 1))
		stream_fail(stream, "it is damaged (%zu regions, %zu arenas)", count,
		            model->arena_count);
	for (size_t i = 0; i < count && !stream->failed && !model->failed; i++)
		if (stream->saves)
			region_save(stream, model, &model->regions[i]);
		else
			region_load(stream, model);
}

/* --- what some of them hold --- */

static void samples_pass(struct stream *stream, struct patient *patient)
{
	size_t count = patient->sample_count;
	uint64_t last = 0;

	PASS(stream, count);
	stream_room(stream, count, sizeof(*patient->samples));
	if (!stream->saves && !stream->failed) {
		patient->samples = calloc(count + 1, sizeof(*patient->samples));
		if (!patient->samples)
			stream_fail(stream, "there is not enough memory for it");
	}
	for (size_t i = 0; i < count && !stream->failed; i++) {
		struct patient_sample *sample = &patient->samples[i];

		PASS_TO(stream, sample->address, ADDRESS_END);
		PASS_TO(stream, sample->size, PATIENT_SAMPLE);
		stream_bytes(stream, sample->bytes, sample->size);
		if (i && sample->address <= last)
			stream_fail(stream, "it is damaged (sample %zu is out of order)", i);
		last = sample->address;
	}
	if (!stream->failed)
		patient->sample_count = count;
}

/* --- the file --- */

static void format_pass(struct stream *stream)
{
	char format[FORMAT_BYTES + 1] = FORMAT;

	stream_bytes(stream, format, FORMAT_BYTES);
	if (stream->saves || !strcmp(format, FORMAT))
		return;
	/* Too short a file is none either. */
	stream->failed = false;
	if (strncmp(format, MAGIC, strlen(MAGIC)) != 0)
		stream_fail(stream, "it is no snapshot (cede snapshot writes them)");
	else
		stream_fail(stream, "it is a snapshot of another format than this cede reads (%c, not "
		            "%c): %s", format[FORMAT_BYTES - 2], FORMAT[FORMAT_BYTES - 2],
		            format[FORMAT_BYTES - 2] < FORMAT[FORMAT_BYTES - 2] ?
		            "take it again" : "look for a newer cede");
}

static void all_pass(struct stream *stream, struct patient *patient)
{
	format_pass(stream);
	patient_pass(stream, patient);
	model_pass(stream, &patient->model);
	if (patient->model.failed)
		stream_fail(stream, "there is not enough memory for it");
	kinds_pass(stream, patient);
	leaks_pass(stream, patient);
	samples_pass(stream, patient);
}

bool snapshot_save(int descriptor, struct patient *patient, char why[SNAPSHOT_WHY])
{
	struct stream stream = { .why = why };

	if (!stream_save(&stream, descriptor))
		return false;
	all_pass(&stream, patient);
	return stream_close(&stream);
}

int snapshot_store(struct patient *patient, const char *path)
{
	/* Where its blocks are is no one else's business. */
	int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char why[SNAPSHOT_WHY];

	if (descriptor < 0)
		return command_fail("%s: %s", path, strerror(errno));
	if (!snapshot_save(descriptor, patient, why))
		return command_fail("%s: %s; what is written of it is of no use", path, why);
	return COMMAND_OK;
}

int snapshot_take(pid_t pid, const char *path, bool leaks)
{
	struct patient *patient = malloc(sizeof(*patient));
	int result;

	if (!patient)
		return command_fail("out of memory");
	result = patient_examine(patient, pid, leaks);
	if (result == COMMAND_OK)
		result = snapshot_store(patient, path);
	patient_discharge(patient);
	free(patient);
	return result;
}

static void model_complete(struct stream *stream, struct model *model)
{
	int broken;

	stream_end(stream);
	if (stream->failed)
		return;
	if (!model_finish(model)) {
		stream_fail(stream, "there is not enough memory for it");
		return;
	}
	broken = model_check(model);
	if (broken)
		stream_fail(stream, "it is damaged (invariant %d of the heap is broken)", broken);
}

int snapshot_read(const char *path, struct patient *patient)
{
	char why[SNAPSHOT_WHY];

	return snapshot_load(path, patient, why) ? COMMAND_OK : command_fail("%s: %s", path, why);
}

bool snapshot_load(const char *path, struct patient *patient, char why[SNAPSHOT_WHY])
{
	struct stream stream = { .why = why };

	*patient = (struct patient){ 0 };
	if (!stream_load(&stream, path))
		return false;
	all_pass(&stream, patient);
	snprintf(patient->what, sizeof(patient->what), "process %d", patient->pid);
	model_complete(&stream, &patient->model);
	if (patient->leaks_wanted && !stream.failed &&
	    !leaks_count_all(&patient->leaks, &patient->model))
		stream_fail(&stream, "there is not enough memory for it");
	return stream_close(&stream);
}
