/*
 * readers/cede_*: processes that have a descriptor of cede, and lie.  Whatever they
 * hold, the readers end, say no or sums that fit together, or a model that keeps its
 * invariants, and touch nothing that is not their own (which the sanitizers see).
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "doctor/leaks.h"
#include "doctor/verdict.h"
#include "readers/cede_stats.h"
#include "readers/made_heap.h"
#include "readers/reading.h"
#include "support/pattern.h"

#define ROUNDS  600
#define HEAP_EACH 15  /* of so many rounds the heap is read in one, too */

/* ---- reading it ---- */

static struct cede_reading reading;
static struct cede_refusal refusal;

static void fits_together(const struct cede_stats *s)
{
	assert_true(s->live_bytes + s->free_bytes == s->system_bytes);
	assert_true(s->free_resident_bytes <= s->free_bytes);
	assert_true(s->pinned_bytes <= s->free_bytes - s->free_resident_bytes);
	assert_true(s->cached_bytes <= s->live_bytes && s->system_bytes <= s->system_peak_bytes);
	assert_true(s->slab_live_bytes <= s->slab_bytes && s->slab_resident_bytes <= s->slab_bytes);
	assert_true(s->policy <= CEDE_POLICY_CLASSIC && s->purger <= CEDE_PURGER_ABSENT);
}

/* What the doctor makes of it; of use after read_by. */
static enum reading_outcome outcome;
static struct model_totals totals;
static uint64_t lost_bytes;
static char why[240];
static bool without_heap; /* where there are many: it takes some stops to call one broken */

static void heap_read(const struct cede_target *target)
{
	struct memory memory;
	struct model model = { 0 };
	struct words words = { 0 };
	struct reading done = { 0 };
	struct verdict verdict;
	struct leaks leaks;

	lost_bytes = 0;
	outcome = READING_FAILED;
	if (without_heap || memory_open(&memory, target->memory.pid) != 0)
		return;
	outcome = reading_take(&memory, &target->descriptor, &model, &words, &done);
	memcpy(why, done.why, sizeof(why));
	if (outcome == READING_DONE) {
		assert_int_equal(model_check(&model), 0);
		model_totals(&model, &totals);
		verdict_reach(&model, &VERDICT_LIMITS, false, &verdict);
		if (leaks_find(&model, &words, &leaks))
			lost_bytes = leaks.lost_bytes;
		leaks_free(&leaks);
	}
	words_free(&words);
	model_free(&model);
	memory_close(&memory);
}

/* Whether a process with this memory is read. */
static bool read_by(void (*live)(void))
{
	struct cede_target target;
	bool done;
	pid_t child = fork();

	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		live();
		_exit(0);
	}
	memset(&reading, 0, sizeof(reading));
	memset(&refusal, 0, sizeof(refusal));
	done = cede_target_open(&target, child, &refusal);
	if (done) {
		done = cede_stats_read(&target, &reading, &refusal);
		heap_read(&target);
		cede_target_close(&target);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (done)
		fits_together(&reading.stats);
	assert_true(done == (refusal.text[0] == '\0'));
	return done;
}

static void rest(void)
{
	for (;;)
		pause();
}

static void is_refused(const char *word)
{
	assert_false(read_by(rest));
	if (strstr(refusal.text, word) == NULL)
		fail_msg("'%s' is not in: %s", word, refusal.text);
}

/* So that all below fails for what it says alone. */
static void test_a_sound_one_is_read(void **state)
{
	const struct cede_stats *s = &reading.stats;

	(void)state;
	made_heap_begin();
	assert_true(read_by(rest));
	assert_false(reading.while_it_ran);
	assert_true(s->arenas == 2 && s->slab_live_bytes == 2048 && s->slab_free_blocks == 126);
	assert_true(s->slab_bytes == 2 * 65536 && s->slab_resident_bytes == 2 * 65536);
	assert_true(s->slab_free_resident_bytes == 2 * 15 * 4096);
	assert_true(s->cached_bytes == 48 && s->caching_threads == 1);
	assert_true(s->system_bytes == 3 * HEAP_SIZE + 2 * 65536 && s->purger == CEDE_PURGER_ASLEEP);
	assert_string_equal(why, "");
	assert_int_equal(outcome, READING_DONE);
	assert_int_equal(totals.arena, s->system_bytes);
	assert_int_equal(totals.fordblks, s->free_bytes);
	/* Two free chunks, blocks of two slabs, two tops, a spare. */
	assert_int_equal(totals.ordblks, 2 + 126 + 2 + 1);
	/* Two chunks and a block of a slab: the other arena does not lie in its heap here, so
	 * that its bin and its top lead to the chunks before. */
	assert_int_equal(lost_bytes, 2 * CHUNK + 1024);
}

static void is_broken(const char *word)
{
	assert_true(read_by(rest));
	assert_int_equal(outcome, READING_CORRUPT);
	if (strstr(why, word) == NULL)
		fail_msg("'%s' is not in: %s", word, why);
}

/* What the figures alone need not show. */
static void test_heaps_that_cannot_be(void **state)
{
	(void)state;
	made_heap_begin();
	heap.arenas[0].binned += 16;
	is_broken("has 272 bytes in its bins, of which 256 were found");
	made_heap_begin();
	chunks[0][CHUNK / 16][1] += 32;
	is_broken("no block can be at");
	made_heap_begin();
	heap.policy = CEDE_POLICY_CLASSIC;
	heap.arenas[1].bins[0] += 16;
	is_broken("leads to");
	made_heap_begin();
	heap.bits[UNITS][0] |= 1;
	is_broken("has 63 free blocks, of which 64 were found");
	made_heap_begin();
	heap.arenas[1].slab_live += 16;
	is_broken("of slabs, but");
	made_heap_begin();
	heap.records[0].arena = address(&heap);
	is_broken("of no arena");
	made_heap_begin();
	*(uint64_t *)SLOTS += 16;
	is_broken("where no block is that could be in it");
	made_heap_begin();
	heap.threads[1].bins[2][0] += 8;
	((uint64_t *)SLOTS)[1] = ((uint64_t *)SLOTS)[0];
	is_broken("where no block is that could be in it");
	made_heap_begin();
	heap.threads[0].slots = SLOTS;
	is_broken("do not fit together");
	made_heap_begin();
	heap.spare_ranges[0][0]++;
	is_broken("no part of a heap can be from");
	made_heap_begin();
	heap.spares[0] += 4096;
	is_broken("mapped blocks left 20480 bytes, of which 16384 were found");
	made_heap_begin();
	heap.mapped[0] = 1;
	is_broken("1 mapped blocks");
	made_heap_begin();
	heap.claim.count = UINT32_MAX;
	is_broken("cannot be read");
}

/* A lock that nobody lets go. */
static void test_locks(void **state)
{
	uint32_t *const locks[] = { &heap.arenas[1].lock, &heap.spare_lock };

	(void)state;
	for (size_t i = 0; i < sizeof(locks) / sizeof(*locks); i++) {
		made_heap_begin();
		*locks[i] = 1;
		assert_true(read_by(rest));
		assert_int_equal(outcome, i == 0 ? READING_BUSY : READING_DONE);
	}
	/* The caches of threads that have ended bear what they like. */
	made_heap_begin();
	heap.threads[0].bins[1][3] = (uint64_t)1 << 32;
	heap.threads[1].lock = 1;
	assert_true(read_by(rest));
	assert_int_equal(outcome, READING_DONE);
}

/* What the purger holds is free. */
static void test_claims(void **state)
{
	(void)state;
	made_heap_begin();
	heap.bits[0][0] = 0;
	heap.records[0].free = 0;
	heap.records[0].claimed = 63;
	heap.claim = (struct claim){ .count = 2, .ranges = {
		{ ((uint64_t)1 << 42) + 4096, 61440 }, { ((uint64_t)1 << 42) + 1024, 3072 } } };
	assert_true(read_by(rest));
	assert_string_equal(why, "");
	assert_int_equal(outcome, READING_DONE);
	assert_int_equal(totals.ordblks, 2 + 126 + 2 + 1);
	/* The end of a top. */
	made_heap_begin();
	chunks[0][TOP_AT][1] -= 4096;
	heap.arenas[0].top_claimed = 4096;
	assert_true(read_by(rest));
	assert_int_equal(outcome, READING_DONE);
	assert_int_equal(totals.fordblks, reading.stats.free_bytes);
}

/* ---- each lie ---- */

static void test_versions(void **state)
{
	(void)state;
	made_heap_begin();
	descriptor.version = 7;
	is_refused("another version of cede than this command reads (descriptor 7");
	made_heap_begin();
	descriptor.size = 16;
	is_refused("another version");
	made_heap_begin();
	heap.arenas[0].top = 0;
	is_refused("has not used its heap yet");
}

static void test_sizes_that_lead_out(void **state)
{
	uint32_t *const offsets[] = {
		&descriptor.arena_top, &descriptor.arena_next, &descriptor.arena_top_dirty,
		&descriptor.record_bits, &descriptor.record_claimed, &descriptor.record_units,
		&descriptor.segment_touched, &descriptor.arena_refaulted,
	};
	uint32_t *const sizes[] = {
		&descriptor.arena_size, &descriptor.record_size, &descriptor.segment_size,
		&descriptor.segment_units, &descriptor.unit_size, &descriptor.classes,
	};

	static const struct {
		uint32_t *offset, end;
	} ends[] = {
		{ &descriptor.arena_gone, sizeof(struct arena) },
		{ &descriptor.record_bits, sizeof(struct record) },
		{ &descriptor.arena_top_dirty, sizeof(struct arena) - 8 },
		{ &descriptor.segment_touched, sizeof(struct segment) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		made_heap_begin();
		*ends[i].offset = ends[i].end - 4;
		is_refused("makes no sense");
	}
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		static const uint32_t lies[] = { 1u << 20, UINT32_MAX, UINT32_MAX - 7 };

		for (size_t k = 0; k < sizeof(lies) / sizeof(*lies); k++) {
			made_heap_begin();
			*offsets[i] = lies[k];
			is_refused("makes no sense");
		}
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		made_heap_begin();
		*sizes[i] = UINT32_MAX;
		is_refused("makes no sense");
	}
	for (uint32_t units = 0; units < 2; units++) {
		made_heap_begin();
		descriptor.segment_units = 0;
		descriptor.unit_size = units * 65536;
		is_refused("makes no sense");
	}
}

static void test_lists_that_lead_back(void **state)
{
	(void)state;
	made_heap_begin();
	heap.arenas[1].next = address(&heap.arenas[0]);
	is_refused("makes no sense");
	made_heap_begin();
	heap.threads[1].next = address(&heap.threads[1]);
	is_refused("makes no sense");
	made_heap_begin();
	descriptor.thread_next = offsetof(struct thread, bins[2][1]) & ~7u;
	heap.threads[0].bins[2][1] = address(&heap.threads[0]);
	is_refused("makes no sense");
}

static void test_pointers_to_nowhere(void **state)
{
	uint64_t *const pointers[] = {
		&heap.arenas[0].top, &heap.arenas[0].next, &heap.first_thread, &heap.threads[0].next,
		&heap.window[2], &heap.window[3], &heap.window[5], &descriptor.mapped,
		&descriptor.purge_counts, &descriptor.spares, &descriptor.threads, &descriptor.class_sizes,
		&descriptor.retain_max, &descriptor.window, &descriptor.background, &descriptor.purger,
		&descriptor.policy,
	};
	static const uint64_t lies[] = { 8, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 0xfff };

	(void)state;
	for (size_t i = 0; i < sizeof(pointers) / sizeof(*pointers); i++) {
		for (size_t k = 0; k < sizeof(lies) / sizeof(*lies); k++) {
			made_heap_begin();
			*pointers[i] = lies[k];
			is_refused("makes no sense");
		}
	}
}

static void test_slabs_that_cannot_be(void **state)
{
	struct record *const record = &heap.records[0];

	(void)state;
	for (int i = 0; i < 6; i++) {
		made_heap_begin();
		record->units = i == 0 ? 0 : i == 1 ? 255 : 1;
		record->size = i == 2 ? 0 : i == 3 ? UINT32_MAX : 1024;
		record->blocks = i == 4 ? UINT16_MAX : 64;
		record->bits = i == 5 ? 8 : address(heap.bits);
		assert_true(read_by(rest) && reading.while_it_ran);
	}
	/* Of blocks without number, the bits are in the record, which is too small. */
	made_heap_begin();
	record->size = 1;
	record->blocks = UINT16_MAX;
	record->bits = address(record) + 8;
	(void)read_by(rest);
	made_heap_begin();
	heap.window[1] = UINT64_MAX;
	is_refused("makes no sense");
	made_heap_begin();
	heap.window[1] = (uint64_t)1 << 36;
	is_refused("makes no sense");
}

static void test_counts_beyond_all_bounds(void **state)
{
	(void)state;
	made_heap_begin();
	heap.arenas[0].binned = heap.arenas[1].system = UINT64_MAX / 2;
	heap.arenas[0].slab_live = heap.arenas[1].slab_pages = heap.spares[0] = UINT64_MAX - 5;
	heap.arenas[0].top_dirty[1] = UINT64_MAX;
	heap.mapped[1] = UINT64_MAX / 3;
	assert_true(read_by(rest));
	made_heap_begin();
	heap.policy = 2;
	is_refused("makes no sense");
	made_heap_begin();
	heap.purger = 4;
	is_refused("makes no sense");
}

/* ---- at random ---- */

static struct rng rng;

static uint64_t random_word(void)
{
	switch (rng_below(&rng, 4)) {
	case 0:
		return rng_below(&rng, 100);
	case 1:
		return address(&heap) + rng_below(&rng, sizeof(heap));
	case 2:
		return UINT64_MAX - rng_below(&rng, 100);
	default:
		return rng_next(&rng);
	}
}

static void scatter(void *to, size_t size, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t word = random_word();
		size_t width = (size_t)1 << rng_below(&rng, 4), at = rng_below(&rng, size / width) * width;

		memcpy((char *)to + at, &word, width);
	}
}

static void test_random_memory(void **state)
{
	unsigned is_read = 0;

	(void)state;
	for (uint64_t seed = 0; seed < ROUNDS; seed++) {
		rng.state = seed;
		without_heap = seed % HEAP_EACH != 0;
		made_heap_begin();
		/* The magic text and the version stay. */
		if (seed % 3 == 0)
			scatter(&descriptor.page_size, sizeof(descriptor) - offsetof(struct cede_descriptor, page_size), 1);
		if (seed % 3 != 0)
			scatter(&heap, sizeof(heap), 1 + (unsigned)rng_below(&rng, 20));
		if (seed % 5 == 0)
			scatter(chunks[seed % 2], 4 * CHUNK, 1 + (unsigned)rng_below(&rng, 3));
		is_read += read_by(rest);
	}
	without_heap = false;
	/* Neither all nor none, or it would be no test. */
	assert_true(is_read > ROUNDS / 20 && is_read < ROUNDS);
}

static void *scatter_for_ever(void *arg)
{
	(void)arg;
	for (;;) {
		scatter(&heap, sizeof(heap), 3);
		made_heap_fill();
	}
	return NULL;
}

static void churn(void)
{
	pthread_t thread;

	rng.state = (uint64_t)getpid();
	(void)pthread_create(&thread, NULL, scatter_for_ever, NULL);
	rest();
}

static void test_memory_that_changes(void **state)
{
	(void)state;
	for (int i = 0; i < 40; i++) {
		without_heap = i % HEAP_EACH != 0;
		made_heap_begin();
		(void)read_by(churn);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_sound_one_is_read),
		cmocka_unit_test(test_heaps_that_cannot_be),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_sizes_that_lead_out),
		cmocka_unit_test(test_lists_that_lead_back),
		cmocka_unit_test(test_pointers_to_nowhere),
		cmocka_unit_test(test_slabs_that_cannot_be),
		cmocka_unit_test(test_counts_beyond_all_bounds),
		cmocka_unit_test(test_random_memory),
		cmocka_unit_test(test_memory_that_changes),
	};

	if (!made_heap_take())
		return errno;
	return cmocka_run_group_tests_name("cede_hostile", tests, NULL, NULL);
}
