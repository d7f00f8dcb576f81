/*
 * What malloc_trim and cede_release say and do: no more than what was asked, and nothing
 * twice.  Layer: tests; linked with the library.
 *
 *   release CASE ...
 *   release again   for calls.py, which counts system calls: waits until the purger has
 *                   given all back, calls getppid, then malloc_trim and cede_release
 */
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cede/cede.h"
#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/process.h"

#define MIB          ((size_t)1 << 20)
#define KIB          ((size_t)1 << 10)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A slab is looked at as a whole: a slice may be so much more than was asked. */
#define SLICE_SLACK (256 * KIB)
/* The heap's own tables beside the blocks. */
#define NOISE (128 * KIB)

static char *blocks[1 << 18];

/* Takes 96 MiB, half of it in slabs and half in chunks; then frees all but one in 50. */
static void scatter(void)
{
	static const size_t sizes[] = { 100, 1000, 3000, 10000, 60000, 150000 };
	size_t count = 0;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		for (size_t left = 16 * MIB / sizes[i]; left > 0; left--) {
			CHECK(count < COUNT(blocks));
			blocks[count++] = memset(malloc(sizes[i]), 'a', sizes[i]);
		}
	}
	for (size_t i = 0; i < count; i++)
		if (i % 50 != 0)
			free(blocks[i]);
}

/* malloc_trim says 1 when memory fell, and 0 when it did not. */
static void check_trim(bool goes, int line)
{
	size_t before = process_anonymous(), after;
	int said = malloc_trim(0);

	after = process_anonymous();
	CHECK_THAT(said == (after < before), "%d: malloc_trim says %d, but %zu KiB were %zu KiB before", line,
	           said, after >> 10, before >> 10);
	CHECK_THAT(goes == (said == 1), "%d: malloc_trim says %d", line, said);
}

static void trim_says_what_went(void)
{
	scatter();
	check_trim(true, __LINE__);
	check_trim(false, __LINE__);
	free(memset(malloc(MIB), 'a', MIB));
	check_trim(true, __LINE__);
	check_trim(false, __LINE__);
	/* Once the purger did it there is nothing left to do. */
	scatter();
	process_sleep_ms(1500);
	check_trim(false, __LINE__);
}

static void slices_of(size_t most)
{
	size_t before, after, gone, sum = 0;

	scatter();
	before = process_anonymous();
	for (; (gone = cede_release(most)) != 0; sum += gone)
		CHECK_THAT(gone <= most + SLICE_SLACK, "%zu KiB asked, %zu given back", most >> 10,
		           gone >> 10);
	after = process_anonymous();
	CHECK_THAT(sum >= 60 * MIB, "%zu KiB in slices of %zu", sum >> 10, most >> 10);
	CHECK_THAT(after + sum <= before + NOISE, "%zu KiB are said to be gone, but %zu became %zu",
	           sum >> 10, before >> 10, after >> 10);
	CHECK(cede_release(0) == 0);
}

/* Without the purger, who would come between. */
static void release_in_slices(void)
{
	CHECK(heap_option("background=off"));
	slices_of(8 * MIB);
	slices_of(MIB);
	slices_of(64 * KIB);
	slices_of(4 * KIB);
}

static void *scatter_thread(void *argument)
{
	scatter();
	return argument;
}

/* The main arena and another one. */
static void again(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, scatter_thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	scatter();
	process_sleep_ms(1500);
	(void)getppid();
	for (int i = 0; i < 5; i++)
		(void)malloc_trim(0);
	(void)cede_release(0);
	process_sleep_ms(1000);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "trim_says_what_went", trim_says_what_went, 20 },
		{ "release_in_slices", release_in_slices, 60 },
	};

	if (argc == 2 && strcmp(argv[1], "again") == 0) {
		again();
		return 0;
	}
	return cases_main(argc, argv, cases, COUNT(cases));
}
