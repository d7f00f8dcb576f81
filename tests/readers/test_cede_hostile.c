/*
 * readers/cede_*: processes that have a descriptor of cede, and lie.  Whatever they
 * hold, the reader ends, says no or sums that fit together, and touches nothing that is
 * not its own (which the sanitizers see).
 */
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

#include "readers/cede_stats.h"
#include "support/pattern.h"

#define PAGES   16u  /* of a unit */
#define UNITS   32u
#define CLASSES 4u
#define ROUNDS  600

/* A heap made by hand: two arenas, two segments, two threads. */
struct arena {
	uint64_t top, system, dirty, claimed, top_claimed, next, waits, sleeps, slab_live, slab_units;
	uint64_t slab_pages, binned, gone, segments, slab_peak, peak, refaulted, top_dirty[2];
};

struct record {
	uint64_t bits;
	uint32_t size;
	uint16_t blocks, free, claimed;
	uint8_t units;
};

struct segment {
	uint16_t touched[UNITS];
};

struct thread {
	uint64_t next, bins[CLASSES][4];
};

static struct heap {
	struct arena arenas[2];
	uint64_t tops[2][2];
	struct record records[2 * UNITS];
	struct segment segments[2];
	uint16_t bins[2 * UNITS];
	uint64_t bits[1024 / 64];
	struct thread threads[2];
	uint64_t first_thread, window[6], mapped[4], purge[9], spares[2], page_size, retain_max;
	uint32_t policy, purger, sizes[CLASSES];
	uint8_t background;
} heap = { .page_size = 1 }; /* in the data, not apart from the file */

static struct cede_descriptor descriptor = { .version = 1 };

static uint64_t address(const void *of)
{
	return (uintptr_t)of;
}

static void heap_begin(void)
{
	memset(&heap, 0, sizeof(heap));
	heap.page_size = 4096;
	heap.background = 1;
	heap.purger = CEDE_PURGER_ASLEEP;
	for (int i = 0; i < 2; i++) {
		struct arena *a = &heap.arenas[i];

		heap.tops[i][1] = 4096 | 1;
		*a = (struct arena){ .top = address(heap.tops[i]), .system = 1 << 20, .binned = 8192,
		                     .segments = 1, .slab_units = 1, .slab_live = 1024, .slab_pages = 16 };
		heap.bins[i * UNITS] = 64;
		heap.records[i * UNITS] = (struct record){ address(heap.bits), 1024, 64, 63, 0, 1 };
		heap.segments[i].touched[0] = 0xffff;
	}
	heap.arenas[0].next = address(&heap.arenas[1]);
	memset(heap.bits, 0xff, sizeof(heap.bits));
	heap.bits[0] = ~(uint64_t)1;
	heap.first_thread = address(&heap.threads[0]);
	heap.threads[0].next = address(&heap.threads[1]);
	for (uint32_t c = 0; c < CLASSES; c++)
		heap.sizes[c] = 16 * (c + 1);
	heap.threads[1].bins[2][0] = 0x1000 + 8 * 10;
	heap.threads[1].bins[2][1] = 0x1000;
	heap.window[0] = (uint64_t)1 << 42;
	heap.window[1] = 2 * UNITS * PAGES * 4096 / 16;
	heap.window[2] = address(heap.bins);
	heap.window[3] = address(heap.records);
	heap.window[5] = address(heap.segments);
}

static void descriptor_begin(void)
{
	descriptor = (struct cede_descriptor){
		.magic = CEDE_DESCRIPTOR_MAGIC, .version = CEDE_DESCRIPTOR_VERSION,
		.size = sizeof(descriptor), .policy = address(&heap.policy),
		.page_size = address(&heap.page_size), .main_arena = address(&heap.arenas[0]),
		.arena_size = sizeof(struct arena), .arena_top = offsetof(struct arena, top),
		.arena_system_bytes = offsetof(struct arena, system),
		.arena_dirty_bytes = offsetof(struct arena, dirty),
		.arena_claimed_bytes = offsetof(struct arena, claimed),
		.arena_top_claimed = offsetof(struct arena, top_claimed),
		.arena_next = offsetof(struct arena, next),
		.mapped = address(heap.mapped), .purge_counts = address(heap.purge),
		.arena_lock_waits = offsetof(struct arena, waits),
		.arena_lock_sleeps = offsetof(struct arena, sleeps),
		.arena_slab_live = offsetof(struct arena, slab_live),
		.arena_slab_units = offsetof(struct arena, slab_units),
		.arena_slab_pages = offsetof(struct arena, slab_pages),
		.unit_size = PAGES * 4096, .window = address(heap.window),
		.record_size = sizeof(struct record), .record_bits = offsetof(struct record, bits),
		.record_block_size = offsetof(struct record, size),
		.record_blocks = offsetof(struct record, blocks),
		.record_units = offsetof(struct record, units),
		.record_free = offsetof(struct record, free),
		.record_claimed = offsetof(struct record, claimed),
		.arena_binned = offsetof(struct arena, binned), .arena_gone = offsetof(struct arena, gone),
		.segment_size = sizeof(struct segment), .segment_units = UNITS,
		.segment_touched = offsetof(struct segment, touched),
		.arena_segments = offsetof(struct arena, segments),
		.arena_slab_peak = offsetof(struct arena, slab_peak),
		.arena_peak = offsetof(struct arena, peak),
		.arena_top_dirty = offsetof(struct arena, top_dirty),
		.arena_refaulted = offsetof(struct arena, refaulted),
		.background = address(&heap.background), .purger = address(&heap.purger),
		.spares = address(heap.spares), .threads = address(&heap.first_thread),
		.thread_next = offsetof(struct thread, next), .thread_bins = offsetof(struct thread, bins),
		.classes = CLASSES, .class_sizes = address(heap.sizes),
		.retain_max = address(&heap.retain_max),
	};
}

static void begin(void)
{
	heap_begin();
	descriptor_begin();
}

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
	begin();
	assert_true(read_by(rest));
	assert_false(reading.while_it_ran);
	assert_true(s->arenas == 2 && s->slab_live_bytes == 2048 && s->slab_free_blocks == 126);
	assert_true(s->slab_bytes == 2 * 65536 && s->slab_resident_bytes == 2 * 65536);
	assert_true(s->slab_free_resident_bytes == 2 * 15 * 4096);
	assert_true(s->cached_bytes == 10 * 48 && s->caching_threads == 1);
	assert_true(s->system_bytes == (2 << 20) + 2 * 65536 && s->purger == CEDE_PURGER_ASLEEP);
}

/* ---- each lie ---- */

static void test_versions(void **state)
{
	(void)state;
	begin();
	descriptor.version = 7;
	is_refused("another version of cede than this command reads (descriptor 7");
	begin();
	descriptor.size = 16;
	is_refused("another version");
	begin();
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
		begin();
		*ends[i].offset = ends[i].end - 4;
		is_refused("makes no sense");
	}
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		static const uint32_t lies[] = { 1u << 20, UINT32_MAX, UINT32_MAX - 7 };

		for (size_t k = 0; k < sizeof(lies) / sizeof(*lies); k++) {
			begin();
			*offsets[i] = lies[k];
			is_refused("makes no sense");
		}
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		begin();
		*sizes[i] = UINT32_MAX;
		is_refused("makes no sense");
	}
	for (uint32_t units = 0; units < 2; units++) {
		begin();
		descriptor.segment_units = 0;
		descriptor.unit_size = units * 65536;
		is_refused("makes no sense");
	}
}

static void test_lists_that_lead_back(void **state)
{
	(void)state;
	begin();
	heap.arenas[1].next = address(&heap.arenas[0]);
	is_refused("makes no sense");
	begin();
	heap.threads[1].next = address(&heap.threads[1]);
	is_refused("makes no sense");
	begin();
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
			begin();
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
		begin();
		record->units = i == 0 ? 0 : i == 1 ? 255 : 1;
		record->size = i == 2 ? 0 : i == 3 ? UINT32_MAX : 1024;
		record->blocks = i == 4 ? UINT16_MAX : 64;
		record->bits = i == 5 ? 8 : address(heap.bits);
		assert_true(read_by(rest) && reading.while_it_ran);
	}
	/* Of blocks without number, the bits are in the record, which is too small. */
	begin();
	record->size = 1;
	record->blocks = UINT16_MAX;
	record->bits = address(record) + 8;
	(void)read_by(rest);
	begin();
	heap.window[1] = UINT64_MAX;
	is_refused("makes no sense");
	begin();
	heap.window[1] = (uint64_t)1 << 36;
	is_refused("makes no sense");
}

static void test_counts_beyond_all_bounds(void **state)
{
	(void)state;
	begin();
	heap.arenas[0].binned = heap.arenas[1].system = UINT64_MAX / 2;
	heap.arenas[0].slab_live = heap.arenas[1].slab_pages = heap.spares[0] = UINT64_MAX - 5;
	heap.arenas[0].top_dirty[1] = UINT64_MAX;
	heap.mapped[1] = UINT64_MAX / 3;
	assert_true(read_by(rest));
	begin();
	heap.policy = 2;
	is_refused("makes no sense");
	begin();
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
		begin();
		/* The magic text and the version stay. */
		if (seed % 3 == 0)
			scatter(&descriptor.page_size, sizeof(descriptor) - offsetof(struct cede_descriptor, page_size), 1);
		if (seed % 3 != 0)
			scatter(&heap, sizeof(heap), 1 + (unsigned)rng_below(&rng, 20));
		is_read += read_by(rest);
	}
	/* Neither all nor none, or it would be no test. */
	assert_true(is_read > ROUNDS / 20 && is_read < ROUNDS);
}

static void *scatter_for_ever(void *arg)
{
	(void)arg;
	for (;;) {
		scatter(&heap, sizeof(heap), 3);
		heap_begin();
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
		begin();
		(void)read_by(churn);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_sound_one_is_read),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_sizes_that_lead_out),
		cmocka_unit_test(test_lists_that_lead_back),
		cmocka_unit_test(test_pointers_to_nowhere),
		cmocka_unit_test(test_slabs_that_cannot_be),
		cmocka_unit_test(test_counts_beyond_all_bounds),
		cmocka_unit_test(test_random_memory),
		cmocka_unit_test(test_memory_that_changes),
	};

	return cmocka_run_group_tests_name("cede_hostile", tests, NULL, NULL);
}
