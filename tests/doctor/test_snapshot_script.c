/*
 * snapshot: files written by hand, number by number, which claim what cannot be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "doctor/filed.h"
#include "doctor/snapshot.h"

#define BASE 0x10000000ul
#define FORMAT_BYTES 16

struct script {
	uint8_t bytes[512];
	size_t size;
};

static void script_number(struct script *script, uint64_t number)
{
	for (; number > 127; number >>= 7)
		script->bytes[script->size++] = (uint8_t)(number | 128);
	script->bytes[script->size++] = (uint8_t)number;
}

static void script_numbers(struct script *script, int count)
{
	while (count--)
		script_number(script, 0);
}

/* All that comes before the regions: nothing of anything, but so many arenas. */
static struct script script_begin(size_t arenas)
{
	struct script script = { .bytes = "cede-snapshot/4\n", .size = FORMAT_BYTES };

	script_numbers(&script, 5 + 5 + 3);
	script_numbers(&script, 12 + 2);
	script_number(&script, arenas);
	script_numbers(&script, 11 * (int)arenas);
	script_numbers(&script, 2);
	return script;
}

static void script_region(struct script *script, enum model_region_kind kind, uint64_t begin,
                          uint64_t blocks)
{
	script_number(script, kind);
	script_number(script, 0);
	script_number(script, begin / MODEL_GRAIN);
	script_number(script, blocks);
}

static void script_block(struct script *script, uint64_t bytes, unsigned state)
{
	script_number(script, bytes / MODEL_GRAIN << 3 | state);
}

static void assert_script_refused(const struct script *script, uint64_t size, const char *reason)
{
	struct filed file = filed_make(script->bytes, script->size);

	if (size)
		assert_int_equal(ftruncate(file.descriptor, (off_t)size), 0);
	filed_refused(file.path, reason);
	close(file.descriptor);
}

/* A region of one block and one page: all that comes before what blocks hold. */
static struct script script_of_region(uint64_t begin, uint64_t bytes, unsigned state, uint8_t page)
{
	struct script script = script_begin(1);

	script_number(&script, 1);
	script_region(&script, MODEL_BREAK, begin, 1);
	script_block(&script, bytes, state);
	script.bytes[script.size++] = page;
	return script;
}

/* No bytes before a block's memory, no names; of a block in use that it is unknown. */
static void script_kinds(struct script *script, unsigned state)
{
	script_numbers(script, 2);
	if (state != MODEL_LIVE)
		return;
	script_number(script, 1);
	script_number(script, KIND_UNKNOWN);
}

/* That nothing was looked for which is lost, and no samples. */
static struct script script_of_block(uint64_t begin, uint64_t bytes, unsigned state, uint8_t page)
{
	struct script script = script_of_region(begin, bytes, state, page);

	script_kinds(&script, state);
	script_numbers(&script, 2);
	return script;
}

/* Of a block in use what is lost of it: so many blocks are so. */
static struct script script_of_marks(uint64_t blocks, unsigned mark)
{
	struct script script = script_of_region(BASE, 4096, MODEL_LIVE, MODEL_RESIDENT);

	script_kinds(&script, MODEL_LIVE);
	script_number(&script, 1);
	script_number(&script, blocks);
	script_number(&script, mark);
	script_number(&script, 0);
	return script;
}

static void test_small_script(void **state)
{
	struct script script = script_of_marks(1, LEAKS_INDIRECT);
	struct filed file = filed_make(script.bytes, script.size);
	struct patient patient;
	char why[SNAPSHOT_WHY];

	(void)state;
	assert_true(snapshot_load(file.path, &patient, why));
	assert_int_equal(patient.model.block_count, 1);
	assert_true(patient.leaks_wanted);
	assert_int_equal(patient.leaks.indirect.bytes, 4096);
	assert_int_equal(patient.leaks.lost_bytes, 4096);
	patient_discharge(&patient);
	close(file.descriptor);
}

static void test_claims(void **state)
{
	struct script script;

	(void)state;
	/* More arenas, regions, blocks and pages than a file so small can hold. */
	script = script_begin(0);
	script.size -= 3;
	script_number(&script, 1ul << 40);
	assert_script_refused(&script, 0, "more than fits");
	script = script_begin(0);
	script_number(&script, 1ul << 40);
	assert_script_refused(&script, 0, "more than fits");
	script = script_begin(1);
	script_number(&script, 1);
	script_region(&script, MODEL_BREAK, BASE, 1ul << 40);
	assert_script_refused(&script, 0, "more than fits");
	script = script_of_block(BASE, 1ul << 55, MODEL_LIVE, 0);
	assert_script_refused(&script, 0, "more than fits");
	/* A file that is large enough, for a machine that is not. */
	assert_script_refused(&script, 1ul << 40, "more memory than this machine has");
	/* Arenas times regions. */
	script = script_begin(40);
	script_number(&script, 1ul << 26);
	assert_script_refused(&script, 1ul << 40, "regions, 40 arenas");
}

static void test_damage(void **state)
{
	struct script script;

	(void)state;
	script = script_of_block(BASE, 0, MODEL_LIVE, 0);
	assert_script_refused(&script, 0, "a block of 0 bytes");
	script = script_of_block(1ul << 56, 4096, MODEL_LIVE, 0);
	assert_script_refused(&script, 0, "a block of 4096 bytes");
	script = script_of_block(BASE, 4096, MODEL_LIVE, 4);
	assert_script_refused(&script, 0, "page 0 of a region is 4");
	script = script_of_marks(1, LEAKS_MARKS);
	assert_script_refused(&script, 0, "3, where at most 2");
	script = script_of_marks(0, LEAKS_DEFINITE);
	assert_script_refused(&script, 0, "a loss of no block");
	/* The arena counts none. */
	script = script_of_block(BASE, 4096, MODEL_BIN, 0);
	assert_script_refused(&script, 0, "invariant 6");
	script = script_begin(0);
	script_number(&script, 1);
	script_region(&script, MODEL_BREAK, BASE, 0);
	assert_script_refused(&script, 0, "without a block");
	script = script_begin(0);
	memset(script.bytes + script.size, 0xff, 20);
	script.size += 20;
	assert_script_refused(&script, 0, "without an end");
}

/* A name of the table, behind the number of names. */
static void script_name(struct script *script, enum kind_form form, const char *name)
{
	script_number(script, form);
	script_number(script, strlen(name));
	memcpy(script->bytes + script->size, name, strlen(name));
	script->size += strlen(name);
}

static void test_damaged_kinds(void **state)
{
	const struct script region = script_of_region(BASE, 4096, MODEL_LIVE, 0);
	struct script script = region;

	(void)state;
	/* The lead is farther than any. */
	script_number(&script, 4097);
	assert_script_refused(&script, 0, "4097, where at most 4096");
	/* Names that are not in order, or of a form that has none. */
	script = region;
	script_number(&script, 0);
	script_number(&script, 2);
	script_name(&script, KIND_OBJECT, "b");
	script_name(&script, KIND_OBJECT, "a");
	assert_script_refused(&script, 0, "kind 1 of blocks is out of order");
	script = region;
	script_number(&script, 0);
	script_number(&script, 1);
	script_name(&script, KIND_TEXT, "a");
	assert_script_refused(&script, 0, "kind 0 of blocks is out of order");
	script = region;
	script_number(&script, 0);
	script_number(&script, KINDS_MOST + 1);
	assert_script_refused(&script, 0, "16385, where at most 16384");
	/* A kind that the table has not; of no block; of more than there are. */
	script = region;
	script_numbers(&script, 2);
	script_number(&script, 1);
	script_number(&script, KIND_PLAIN);
	assert_script_refused(&script, 0, "5, where at most 4");
	script = region;
	script_numbers(&script, 4);
	assert_script_refused(&script, 0, "a kind of no block");
	script = region;
	script_numbers(&script, 2);
	script_number(&script, 2);
	assert_script_refused(&script, 0, "2, where at most 1");
	script = script_begin(1);
	script_number(&script, 1);
	script_region(&script, MODEL_BREAK, BASE, 2);
	script_block(&script, 2048, MODEL_LIVE);
	script_block(&script, 2048, MODEL_INTERNAL);
	script.bytes[script.size++] = MODEL_ABSENT;
	script_numbers(&script, 2);
	script_number(&script, 2);
	script_number(&script, KIND_ZEROS);
	assert_script_refused(&script, 0, "a kind of more blocks");
}

static void test_damaged_samples(void **state)
{
	struct script block = script_of_block(BASE, 4096, MODEL_LIVE, 0), script;

	(void)state;
	block.size--;
	script = block;
	script_number(&script, 1ul << 40);
	assert_script_refused(&script, 0, "more than fits");
	script = block;
	script_number(&script, 1);
	script_number(&script, BASE);
	script_number(&script, PATIENT_SAMPLE + 1);
	assert_script_refused(&script, 0, "65, where at most 64");
	script = block;
	script_number(&script, 2);
	script_number(&script, BASE);
	script_number(&script, 0);
	script_number(&script, BASE);
	script_number(&script, 0);
	assert_script_refused(&script, 0, "sample 1 is out of order");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_script),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_damaged_kinds),
		cmocka_unit_test(test_damaged_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
