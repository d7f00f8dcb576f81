#include "doctor/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "command.h"

/* Fixed length, so that it can be read before anything is known. */
#define MAGIC "cede-snapshot/"
#define FORMAT MAGIC "2\n"
#define FORMAT_BYTES (sizeof(FORMAT) - 1)

#define ADDRESS_END (1ul << 56)      /* no address of a process is as high */
#define TIME_END 253402300800000ul   /* milliseconds from 1970 to the year 10000 */
#define INFLATION_MOST 1032          /* no byte of zlib's format says more */
#define CHECKS_MOST (1ul << 30)      /* steps of model_check over arenas and regions */
#define BUFFER_BYTES (128u << 10)

/* The low bits of a block's number are its state. */
#define STATE_BITS 3
_Static_assert(MODEL_STATES <= 1 << STATE_BITS, "a state has no room in its block's number");

/* Both directions are one description of the format: what is written is what is read. */
struct stream {
	gzFile file;
	bool saves, failed;
	uint64_t items_most;         /* that the file can hold, a byte for each */
	uint64_t memory_left;        /* of this machine's, for what else is loaded */
	char *why;                   /* of the first failure */
};

__attribute__((format(printf, 2, 3)))
static void stream_fail(struct stream *stream, const char *format, ...)
{
	va_list args;

	if (stream->failed)
		return;
	stream->failed = true;
	va_start(args, format);
	vsnprintf(stream->why, SNAPSHOT_WHY, format, args);
	va_end(args);
}

static void stream_fail_to_move(struct stream *stream)
{
	int error;
	const char *text = gzerror(stream->file, &error), *colon = strstr(text, ": ");

	if (error == Z_ERRNO)
		stream_fail(stream, "%s", strerror(errno));
	else if (error == Z_MEM_ERROR)
		stream_fail(stream, "there is not enough memory for it");
	else if (error == Z_OK || error == Z_BUF_ERROR)
		stream_fail(stream, "it ends too early: it was cut off, or not written to the end");
	else
		/* zlib begins with the descriptor's number. */
		stream_fail(stream, "it is damaged (%s)", colon ? colon + 2 : text);
}

/* --- values --- */

static void bytes_pass(struct stream *stream, void *bytes, size_t count)
{
	for (size_t piece; count && !stream->failed; count -= piece) {
		int moved;

		piece = count < 1u << 30 ? count : 1u << 30;
		moved = stream->saves ? gzwrite(stream->file, bytes, (unsigned)piece) :
		        gzread(stream->file, bytes, (unsigned)piece);
		if (moved < 0 || (size_t)moved != piece)
			stream_fail_to_move(stream);
		bytes = (char *)bytes + piece;
	}
}

/* Seven bits to a byte, the lowest first; the eighth says that more follow. */
static void number_save(struct stream *stream, uint64_t number)
{
	int written;

	do {
		written = gzputc(stream->file, (int)((number & 127) | (number > 127 ? 128 : 0)));
		number >>= 7;
	} while (number && written >= 0);
	if (written < 0)
		stream_fail_to_move(stream);
}

static uint64_t number_load(struct stream *stream, uint64_t most)
{
	uint64_t number = 0;
	int byte = 128;

	for (unsigned shift = 0; byte & 128; shift += 7) {
		byte = gzgetc(stream->file);
		if (byte < 0) {
			stream_fail_to_move(stream);
			return 0;
		}
		if (shift > 63 || (shift == 63 && byte > 1)) {
			stream_fail(stream, "it is damaged (a number without an end)");
			return 0;
		}
		number |= (uint64_t)(byte & 127) << shift;
	}
	if (number > most)
		stream_fail(stream, "it is damaged (%lu, where at most %lu can be)", number, most);
	return stream->failed ? 0 : number;
}

/* `size` bytes that are a number, which is at most `most`. */
static void value_pass(struct stream *stream, void *value, size_t size, uint64_t most)
{
	uint64_t number = 0;

	if (stream->failed)
		return;
	memcpy(&number, value, size);
	if (stream->saves)
		number_save(stream, number);
	else
		number = number_load(stream, most);
	memcpy(value, &number, size);
}

#define MOST(field) (UINT64_MAX >> (64 - 8 * sizeof(field)))
#define PASS(stream, field) value_pass(stream, &(field), sizeof(field), MOST(field))
#define PASS_TO(stream, field, most) value_pass(stream, &(field), sizeof(field), most)

/* Before so many items get memory: fails unless the file and the machine have room. */
static void room_take(struct stream *stream, uint64_t count, uint64_t item_bytes)
{
	if (stream->saves || stream->failed)
		return;
	if (count > stream->items_most)
		stream_fail(stream, "it is damaged (it says more than fits into its size)");
	else if (count > stream->memory_left / item_bytes)
		stream_fail(stream, "it takes more memory than this machine has");
	else
		stream->memory_left -= count * item_bytes;
}

static void text_pass(struct stream *stream, char *text, size_t size)
{
	size_t length = strnlen(text, size - 1);

	PASS_TO(stream, length, size - 1);
	if (stream->failed)
		return;
	bytes_pass(stream, text, length);
	text[length] = '\0';
	patient_text_clean(text);
}

/* --- the patient --- */

static void patient_pass(struct stream *stream, struct patient *patient)
{
	struct glibc_report *reading = &patient->reading;
	struct allocator *allocator = &patient->allocator;

	PASS_TO(stream, patient->pid, INT32_MAX);
	text_pass(stream, patient->name, sizeof(patient->name));
	PASS(stream, patient->started);
	PASS_TO(stream, patient->taken, TIME_END - 1);
	PASS_TO(stream, patient->outcome, GLIBC_ABSENT);
	PASS(stream, reading->version);
	PASS(stream, reading->threads);
	PASS(stream, reading->stops);
	PASS(stream, reading->pause_microseconds);
	if (stream->saves)
		snprintf(patient->allocator_name, sizeof(patient->allocator_name), "%s",
		         allocator->name ? allocator->name : "");
	text_pass(stream, patient->allocator_name, sizeof(patient->allocator_name));
	allocator->name = *patient->allocator_name ? patient->allocator_name : NULL;
	text_pass(stream, allocator->file, sizeof(allocator->file));
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
	PASS_TO(stream, model->audit.passed, 1);
	text_pass(stream, model->audit.text, sizeof(model->audit.text));
}

/* --- the model --- */

static void arenas_pass(struct stream *stream, struct model *model)
{
	size_t count = model->arena_count;

	PASS(stream, count);
	room_take(stream, count, sizeof(struct model_arena));
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
		if (!stream->saves)
			model_add_arena(model, &arena);
	}
}

static void caches_pass(struct stream *stream, struct model *model)
{
	size_t count = model->cache_count;

	PASS(stream, count);
	room_take(stream, count, sizeof(struct model_cache));
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
	room_take(stream, count, sizeof(struct model_mapping));
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

		number_save(stream, bytes / MODEL_GRAIN << STATE_BITS |
		            model_block_state(model, block));
	}
}

/* Returns where they end. */
static uint64_t blocks_load(struct stream *stream, struct model *model, uint64_t address,
                            size_t count)
{
	for (size_t i = 0; i < count && !stream->failed; i++) {
		uint64_t number = number_load(stream, ADDRESS_END);
		uint64_t bytes = (number >> STATE_BITS) * MODEL_GRAIN;
		enum model_state state = (enum model_state)(number & ((1 << STATE_BITS) - 1));

		if (!bytes || bytes > ADDRESS_END - address || state >= MODEL_STATES) {
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
	bytes_pass(stream, model->pages + region->first_page, model_region_pages(region));
}

static void region_load(struct stream *stream, struct model *model)
{
	struct model_region region = { 0 };
	uint64_t grains = 0;
	uint8_t *pages;
	size_t count;

	PASS_TO(stream, region.kind, MODEL_MAPPED);
	PASS(stream, region.arena);
	PASS_TO(stream, grains, ADDRESS_END / MODEL_GRAIN);
	PASS(stream, region.block_count);
	room_take(stream, region.block_count, sizeof(*model->blocks));
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
	room_take(stream, count, sizeof(*model->pages) + sizeof(*model->page_blocks));
	pages = stream->failed ? NULL : model_end_region(model, region.end);
	if (!pages)
		return;
	bytes_pass(stream, pages, count);
	for (size_t i = 0; i < count; i++)
		if (pages[i] > MODEL_SWAPPED)
			stream_fail(stream, "it is damaged (page %zu of a region is %u)", i, pages[i]);
}

static void model_pass(struct stream *stream, struct model *model)
{
	size_t count = model->region_count;

	settings_pass(stream, model);
	arenas_pass(stream, model);
	caches_pass(stream, model);
	mappings_pass(stream, model);
	PASS(stream, count);
	room_take(stream, count, sizeof(struct model_region));
	if (!stream->saves && count > CHECKS_MOST / (model->arena_count + 1))
		stream_fail(stream, "it is damaged (%zu regions, %zu arenas)", count,
		            model->arena_count);
	for (size_t i = 0; i < count && !stream->failed && !model->failed; i++)
		if (stream->saves)
			region_save(stream, model, &model->regions[i]);
		else
			region_load(stream, model);
}

/* --- what is lost --- */

/* The region's next block in use, or its end. */
static size_t live_next(const struct model *model, const struct model_region *region, size_t block)
{
	size_t end = region->first_block + region->block_count;

	while (block < end && model_block_state(model, block) != MODEL_LIVE)
		block++;
	return block;
}

/* How many blocks in use, from this one on, are lost or not as it is. */
static size_t run_measure(const struct patient *patient, const struct model_region *region,
                          size_t block)
{
	size_t run = 0, end = region->first_block + region->block_count;
	enum leaks_mark mark = leaks_mark_of(&patient->leaks, block);

	for (; block < end && leaks_mark_of(&patient->leaks, block) == mark;
	     block = live_next(&patient->model, region, block + 1))
		run++;
	return run;
}

static void region_marks_pass(struct stream *stream, struct patient *patient,
                              const struct model_region *region)
{
	const struct model *model = &patient->model;
	size_t end = region->first_block + region->block_count, run = 0;
	enum leaks_mark mark = LEAKS_DEFINITE;

	for (size_t block = live_next(model, region, region->first_block);
	     block < end && !stream->failed; block = live_next(model, region, block + 1), run--) {
		if (!run) {
			if (stream->saves) {
				run = run_measure(patient, region, block);
				mark = leaks_mark_of(&patient->leaks, block);
			}
			PASS_TO(stream, mark, LEAKS_MARKS - 1);
			PASS_TO(stream, run, region->block_count);
			if (!run)
				stream_fail(stream, "it is damaged (no block is lost or reached)");
		}
		if (!stream->saves && !stream->failed)
			leaks_mark(&patient->leaks, block, mark);
	}
	if (run)
		stream_fail(stream, "it is damaged (more blocks are lost or reached than there are)");
}

static void leaks_pass(struct stream *stream, struct patient *patient)
{
	const struct model *model = &patient->model;
	uint64_t lead = patient->leaks.lead;

	PASS_TO(stream, patient->leaks_wanted, 1);
	if (!patient->leaks_wanted || stream->failed)
		return;
	PASS_TO(stream, lead, MODEL_PAGE);
	room_take(stream, model->block_count / 64 + 1, 2 * sizeof(uint64_t));
	if (!stream->saves && !stream->failed &&
	    !leaks_open(&patient->leaks, model->block_count, lead))
		stream_fail(stream, "there is not enough memory for it");
	for (size_t i = 0; i < model->region_count && !stream->failed; i++)
		region_marks_pass(stream, patient, &model->regions[i]);
}

/* --- the file --- */

static void format_pass(struct stream *stream)
{
	char format[FORMAT_BYTES + 1] = FORMAT;

	bytes_pass(stream, format, FORMAT_BYTES);
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

static bool stream_open(struct stream *stream, int descriptor, const char *mode)
{
	stream->file = gzdopen(descriptor, mode);
	if (stream->file) {
		gzbuffer(stream->file, BUFFER_BYTES);
		return true;
	}
	close(descriptor);
	stream_fail(stream, "there is not enough memory for it");
	return false;
}

bool snapshot_save(int descriptor, struct patient *patient, char why[SNAPSHOT_WHY])
{
	struct stream stream = { .saves = true, .why = why };

	if (!stream_open(&stream, descriptor, "wb1"))
		return false;
	format_pass(&stream);
	patient_pass(&stream, patient);
	model_pass(&stream, &patient->model);
	leaks_pass(&stream, patient);
	if (gzclose(stream.file) != Z_OK)
		stream_fail(&stream, "%s", strerror(errno));
	return !stream.failed;
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
	int broken, error;

	/* What zlib has summed up is compared at the end, so it must be met. */
	if (gzgetc(stream->file) >= 0)
		stream_fail(stream, "it is damaged (it goes on beyond its end)");
	gzerror(stream->file, &error);
	if (error != Z_OK)
		stream_fail_to_move(stream);
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
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat about;

	*patient = (struct patient){ 0 };
	if (descriptor < 0 || fstat(descriptor, &about) != 0) {
		stream_fail(&stream, "%s", strerror(errno));
		if (descriptor >= 0)
			close(descriptor);
		return false;
	}
	if (!S_ISREG(about.st_mode)) {
		close(descriptor);
		stream_fail(&stream, "it is no regular file");
		return false;
	}
	stream.items_most = (uint64_t)about.st_size * INFLATION_MOST;
	stream.memory_left = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	if (!stream_open(&stream, descriptor, "rb"))
		return false;
	format_pass(&stream);
	patient_pass(&stream, patient);
	snprintf(patient->what, sizeof(patient->what), "process %d", patient->pid);
	model_pass(&stream, &patient->model);
	if (patient->model.failed)
		stream_fail(&stream, "there is not enough memory for it");
	leaks_pass(&stream, patient);
	model_complete(&stream, &patient->model);
	if (patient->leaks_wanted && !stream.failed)
		leaks_count_all(&patient->leaks, &patient->model);
	gzclose(stream.file);
	return !stream.failed;
}
