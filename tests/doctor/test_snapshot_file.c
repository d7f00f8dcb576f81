/*
 * snapshot: what is saved is loaded again; what is no good snapshot is refused with its
 * reason, and whatever is loaded can be examined.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "doctor/comparison.h"
#include "doctor/drawn.h"
#include "doctor/filed.h"
#include "doctor/report.h"
#include "doctor/snapshot.h"

#define BASE 0x10000000ul
#define CONTENT_MOST 65536
#define FORMAT_BYTES 16

/* For each block in use another, in turn. */
static void kinds_draw(struct model *model)
{
	assert_true(kinds_open(&model->kinds, model->block_count));
	assert_true(kinds_add(&model->kinds, &(struct kind){ KIND_OBJECT, "shop::item" }));
	assert_true(kinds_add(&model->kinds, &(struct kind){ KIND_DATA, "PyUnicode_Type" }));
	for (size_t i = 0, live = 0; i < model->block_count; i++)
		if (model_block_state(model, i) == MODEL_LIVE)
			model->kinds.of[i] = (uint16_t)(live++ / 2 * 3 % (KIND_PLAIN + 2));
}

static void model_draw(struct model *model)
{
	drawn_region(model, MODEL_HEAP, 1, BASE + 0x1000000, "I2240 L64 B8000 L48 T1888", "R");
	drawn_region(model, MODEL_MAPPED, 0, BASE + 0x2000000, "I16 L131056", "R-ZS-");
	drawn_region(model, MODEL_BREAK, 0, BASE + 32, "L32 C48 F32 L20000 X64 B3000000 T4096",
	             "R-RZSR-R");
	drawn_region(model, MODEL_SLABS, 0, BASE + 0x2100000, "L1008 S1008 C1008 S62512", "RR-");
	drawn_region(model, MODEL_OWN, 0, BASE + 0x2200000, "I8192 S8192", "RRR-");
	model_add_cache(model, &(struct model_cache){ 4711, 3, 144 });
	model_add_mapping(model, &(struct model_mapping){ BASE, BASE + 0x3000000, MODEL_ANONYMOUS,
	                  900000, 4096 });
	model_add_mapping(model, &(struct model_mapping){ UINT64_MAX - 4095, UINT64_MAX, MODEL_OTHER,
	                  0, 0 });
	model->arenas[1].address = BASE + 0x1000020;
	model->arenas[1].top_shrinks = true;
	model->settings = (struct model_settings){
		.trim_threshold = 131072, .mmap_threshold = UINT64_MAX, .top_pad = 7, .trim_unit = 4096,
		.thresholds_fixed = true, .arena_max = 3, .mapped_blocks = 1, .mapped_bytes = 131072,
		.mapped_max = 65536, .spare_blocks = 2, .spare_bytes = 999424,
		.giving = MODEL_GIVES_SOON,
	};
	model->audit.passed = true;
	strcpy(model->audit.text, "all of it");
	model->lead = 16;
	kinds_draw(model);
	drawn_finish(model);
}

/* Of the blocks in use each third one is reached, each third one lost indirectly. */
static void leaks_draw(struct patient *patient)
{
	const struct model *model = &patient->model;
	size_t live = 0;

	patient->leaks_wanted = true;
	assert_true(leaks_open(&patient->leaks, model->block_count));
	for (size_t block = 0; block < model->block_count; block++)
		if (model_block_state(model, block) == MODEL_LIVE)
			leaks_mark(&patient->leaks, block, (enum leaks_mark)(live++ % LEAKS_MARKS));
	assert_int_equal(live, 6);
	assert_true(leaks_count_all(&patient->leaks, model));
}

static void patient_draw(struct patient *patient)
{
	*patient = (struct patient){
		.pid = 4711, .name = "server", .started = 123456, .taken = 1767225600000,
		.outcome = READING_DONE,
		.reading = { .version = 236, .cede = "0.1.0", .threads = 4, .stops = 2, .pause_microseconds = 12345 },
		.allocator = { .name = "jemalloc", .file = "/lib/libjemalloc.so", .is_malloc = true },
	};
	model_draw(&patient->model);
	leaks_draw(patient);
	patient->sample_count = 2;
	patient->samples = calloc(2, sizeof(*patient->samples));
	assert_non_null(patient->samples);
	patient->samples[0] = (struct patient_sample){ BASE + 48, 5, "hello" };
	patient->samples[1] = (struct patient_sample){ BASE + 160, 0, "" };
}

/* The content of a good file: what it holds before it is compressed. */
static uint8_t content[CONTENT_MOST];
static size_t content_size;

static void content_fill(const char *path)
{
	gzFile file = gzopen(path, "rb");
	int size = gzread(file, content, sizeof(content));

	assert_int_equal(gzclose(file), Z_OK);
	assert_in_range(size, 100, CONTENT_MOST - 1);
	content_size = (size_t)size;
}

static struct filed good_file(void)
{
	struct filed file = filed_make("", 0);
	char why[SNAPSHOT_WHY];
	struct patient patient;

	patient_draw(&patient);
	assert_true(snapshot_save(dup(file.descriptor), &patient, why));
	patient_discharge(&patient);
	return file;
}

static void assert_same_leaks(const struct leaks *left, const struct leaks *right)
{
	assert_memory_equal(&left->reached, &right->reached, sizeof(left->reached));
	assert_memory_equal(&left->definite, &right->definite, sizeof(left->definite));
	assert_memory_equal(&left->indirect, &right->indirect, sizeof(left->indirect));
	assert_int_equal(left->lost_bytes, right->lost_bytes);
	assert_int_equal(left->groups.count, right->groups.count);
	assert_memory_equal(left->groups.items, right->groups.items,
	                    left->groups.count * left->groups.item_bytes);
}

static void assert_same_contents(const struct patient *left, const struct patient *right)
{
	const struct kinds *a = &left->model.kinds, *b = &right->model.kinds;

	assert_int_equal(left->leaks_wanted, right->leaks_wanted);
	assert_same_leaks(&left->leaks, &right->leaks);
	assert_int_equal(left->model.lead, right->model.lead);
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++)
		assert_int_equal(kind_compare(&a->table[i], &b->table[i]), 0);
	assert_int_equal(left->sample_count, right->sample_count);
	for (size_t i = 0; i < left->sample_count; i++) {
		assert_int_equal(left->samples[i].address, right->samples[i].address);
		assert_int_equal(left->samples[i].size, right->samples[i].size);
		assert_memory_equal(left->samples[i].bytes, right->samples[i].bytes,
		                    left->samples[i].size);
	}
}

static void assert_same(const struct patient *left, const struct patient *right)
{
	const struct model *a = &left->model, *b = &right->model;

	assert_int_equal(left->pid, right->pid);
	assert_string_equal(left->name, right->name);
	assert_int_equal(left->started, right->started);
	assert_int_equal(left->taken, right->taken);
	assert_int_equal(left->outcome, right->outcome);
	assert_int_equal(left->reading.version, right->reading.version);
	assert_string_equal(left->reading.cede, right->reading.cede);
	assert_int_equal(left->reading.threads, right->reading.threads);
	assert_int_equal(left->reading.stops, right->reading.stops);
	assert_int_equal(left->reading.pause_microseconds, right->reading.pause_microseconds);
	assert_string_equal(left->allocator.name, right->allocator.name);
	assert_string_equal(left->allocator.file, right->allocator.file);
	assert_int_equal(left->allocator.is_malloc, right->allocator.is_malloc);
	assert_memory_equal(&a->settings, &b->settings, sizeof(a->settings));
	assert_int_equal(a->audit.passed, b->audit.passed);
	assert_string_equal(a->audit.text, b->audit.text);
	assert_int_equal(a->region_count, b->region_count);
	assert_int_equal(a->arena_count, b->arena_count);
	assert_int_equal(a->cache_count, b->cache_count);
	assert_int_equal(a->mapping_count, b->mapping_count);
	assert_memory_equal(a->arenas, b->arenas, a->arena_count * sizeof(*a->arenas));
	assert_memory_equal(a->caches, b->caches, a->cache_count * sizeof(*a->caches));
	assert_memory_equal(a->mappings, b->mappings, a->mapping_count * sizeof(*a->mappings));
	for (size_t i = 0; i < a->region_count; i++) {
		const struct model_region *one = &a->regions[i], *other = &b->regions[i];

		assert_int_equal(one->begin, other->begin);
		assert_int_equal(one->end, other->end);
		assert_int_equal(one->kind, other->kind);
		assert_int_equal(one->arena, other->arena);
		assert_int_equal(one->block_count, other->block_count);
		assert_memory_equal(a->blocks + one->first_block, b->blocks + other->first_block,
		                    one->block_count * sizeof(*a->blocks));
		assert_memory_equal(a->kinds.of + one->first_block,
		                    b->kinds.of + other->first_block,
		                    one->block_count * sizeof(*a->kinds.of));
		assert_memory_equal(a->pages + one->first_page, b->pages + other->first_page,
		                    model_region_pages(one));
	}
	assert_same_contents(left, right);
}

static void test_round_trip(void **state)
{
	struct filed file = good_file();
	struct patient saved, loaded;
	char why[SNAPSHOT_WHY] = "";

	(void)state;
	patient_draw(&saved);
	assert_true(snapshot_load(file.path, &loaded, why));
	assert_string_equal(why, "");
	assert_same(&saved, &loaded);
	patient_discharge(&saved);
	patient_discharge(&loaded);
	close(file.descriptor);
}

/* A process without a heap of glibc's has mappings only. */
static void test_no_heap(void **state)
{
	struct patient saved = { .pid = 7, .name = "x", .outcome = READING_ABSENT }, loaded;
	struct filed file = filed_make("", 0);
	char why[SNAPSHOT_WHY];

	(void)state;
	assert_true(model_finish(&saved.model));
	assert_true(snapshot_save(dup(file.descriptor), &saved, why));
	assert_true(snapshot_load(file.path, &loaded, why));
	assert_null(loaded.allocator.name);
	assert_int_equal(loaded.outcome, READING_ABSENT);
	assert_int_equal(loaded.model.region_count, 0);
	patient_discharge(&saved);
	patient_discharge(&loaded);
	close(file.descriptor);
}

/* --- what is refused --- */

static void assert_content_refused(const void *bytes, size_t size, const char *reason)
{
	struct filed file = filed_make(bytes, size);

	filed_refused(file.path, reason);
	close(file.descriptor);
}

static void test_no_snapshot(void **state)
{
	(void)state;
	filed_refused("/nowhere/at/all", "No such file");
	filed_refused("/", "no regular file");
	filed_refused("/dev/zero", "no regular file");
	filed_refused("/proc/self/exe", "no snapshot");
	assert_content_refused("", 0, "too early");
	assert_content_refused("hello", 5, "no snapshot");
	assert_content_refused("\x1f\x8b\x08 and then nonsense", 20, "it is damaged (unknown");
	assert_content_refused("cede-snapshot/3\n and more", 25, "(3, not 4): take it again");
	assert_content_refused("cede-snapshot/5\n and more", 25, "(5, not 4): look for a newer");
}

static void test_full_disk(void **state)
{
	struct patient patient;
	char why[SNAPSHOT_WHY] = "";

	(void)state;
	patient_draw(&patient);
	assert_false(snapshot_save(open("/dev/full", O_WRONLY), &patient, why));
	assert_non_null(strstr(why, "No space left"));
	patient_discharge(&patient);
}

static void test_cut_off(void **state)
{
	struct filed file = good_file();
	off_t size = lseek(file.descriptor, 0, SEEK_END);

	(void)state;
	content_fill(file.path);
	for (size_t length = 0; length < content_size; length++)
		assert_content_refused(content, length, "");
	while (size > FORMAT_BYTES) {
		assert_int_equal(ftruncate(file.descriptor, --size), 0);
		filed_refused(file.path, "");
	}
	content[content_size] = 0;
	assert_content_refused(content, content_size + 1, "beyond its end");
	close(file.descriptor);
}

/* What a file says of names must not steer a terminal. */
static void test_escapes(void **state)
{
	struct filed file = good_file(), forged;
	struct patient patient;
	char why[SNAPSHOT_WHY];
	uint8_t *name;

	(void)state;
	content_fill(file.path);
	name = memmem(content, content_size, "server", 6);
	assert_non_null(name);
	memcpy(name, "\033[2J\xff\n", 6);
	forged = filed_make(content, content_size);
	assert_true(snapshot_load(forged.path, &patient, why));
	assert_string_equal(patient.name, "?[2J??");
	patient_discharge(&patient);
	close(forged.descriptor);
	close(file.descriptor);
}

/* --- two of them --- */

static void test_hindrance(void **state)
{
	struct patient before = { .pid = 7, .started = 5, .taken = 9 }, after = before;

	(void)state;
	assert_null(comparison_hindrance(&before, &after));
	after.taken = 8;
	assert_non_null(strstr(comparison_hindrance(&before, &after), "the other way round"));
	/* The id belongs to another process by then. */
	after.started = 6;
	assert_non_null(strstr(comparison_hindrance(&before, &after), "different processes"));
	after = before;
	after.pid = 8;
	assert_non_null(strstr(comparison_hindrance(&before, &after), "different processes"));
}

/* --- chance --- */

/* All that is done with a patient, as far as it goes. */
static void patient_use(struct patient *patient, struct patient *good, FILE *out)
{
	struct comparison comparison;

	assert_int_equal(model_check(&patient->model), 0);
	patient_judge(patient, &VERDICT_LIMITS);
	assert_true(patient_group(patient));
	assert_int_equal(doctor_report_text(out, patient), 0);
	assert_int_equal(doctor_report_json(out, patient), 0);
	assert_true(comparison_fill(&comparison, good, patient, &VERDICT_LIMITS));
	assert_int_equal(comparison_report_text(out, &comparison), 0);
	compare_free(&comparison.compare);
	assert_true(comparison_fill(&comparison, patient, good, &VERDICT_LIMITS));
	assert_int_equal(comparison_report_json(out, &comparison), 0);
	compare_free(&comparison.compare);
}

/* Changes a byte or some, takes bytes out or repeats some. */
static size_t mutate(uint8_t *bytes, size_t size)
{
	size_t at = FORMAT_BYTES + (size_t)rand() % (size - FORMAT_BYTES);
	size_t length = (size_t)rand() % 8 + 1;

	if (at + length > size)
		length = size - at;
	switch (rand() % 5) {
	case 0:
		memmove(bytes + at, bytes + at + length, size - at - length);
		return size - length;
	case 1:
		memmove(bytes + at + length, bytes + at, size - at);
		return size + length;
	case 2:
		memset(bytes + at, 0xff, length);
		return size;
	case 3:
		bytes[at] ^= (uint8_t)(1 << rand() % 8);
		return size;
	default:
		bytes[at] = (uint8_t)rand();
		return size;
	}
}

static void test_chance(void **state)
{
	struct filed file = good_file();
	FILE *out = fopen("/dev/null", "w");
	char why[SNAPSHOT_WHY];
	struct patient good;
	int loaded = 0;

	(void)state;
	content_fill(file.path);
	assert_true(snapshot_load(file.path, &good, why));
	patient_judge(&good, &VERDICT_LIMITS);
	for (unsigned seed = 1; seed <= 30000; seed++) {
		static uint8_t bytes[CONTENT_MOST + 64];
		size_t size = content_size;
		struct patient patient;
		struct filed mutant;

		srand(seed);
		memcpy(bytes, content, size);
		for (int i = rand() % 3 + 1; i--;)
			size = mutate(bytes, size);
		mutant = filed_make(bytes, size);
		if (snapshot_load(mutant.path, &patient, why)) {
			patient_use(&patient, &good, out);
			loaded++;
		}
		patient_discharge(&patient);
		close(mutant.descriptor);
	}
	/* Some must have come so far, or nothing was tested. */
	assert_in_range(loaded, 1000, 25000);
	patient_discharge(&good);
	close(file.descriptor);
	fclose(out);
}

/* A changed bit of the compressed file is found, or changes nothing. */
static void test_bits(void **state)
{
	struct filed file = good_file();
	off_t size = lseek(file.descriptor, 0, SEEK_END);
	struct patient good, patient;
	char why[SNAPSHOT_WHY];

	(void)state;
	patient_draw(&good);
	for (off_t bit = 0; bit < 8 * size; bit++) {
		uint8_t byte, changed;

		assert_int_equal(pread(file.descriptor, &byte, 1, bit / 8), 1);
		changed = byte ^ (uint8_t)(1 << bit % 8);
		assert_int_equal(pwrite(file.descriptor, &changed, 1, bit / 8), 1);
		if (snapshot_load(file.path, &patient, why))
			assert_same(&good, &patient);
		patient_discharge(&patient);
		assert_int_equal(pwrite(file.descriptor, &byte, 1, bit / 8), 1);
	}
	patient_discharge(&good);
	close(file.descriptor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_no_heap),
		cmocka_unit_test(test_no_snapshot),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_hindrance),
		cmocka_unit_test(test_chance),
		cmocka_unit_test(test_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
