/*
 * introspect/snapshot: what it says of slabs, against blocks whose place is known and
 * against a model of random ones.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/cache.h"
#include "heap/purger.h"
#include "introspect/snapshot.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define MANY 20000
#define PAGE os_page_size

static struct arena *a;
static char *many[MANY];

static void start(bool caching)
{
	a = script_heap_of_slabs(caching);
	settings.background = caching;
}

static struct arena_snapshot snapshot(void)
{
	struct arena_snapshot s;

	EXPECT(snapshot_arena(0, &s));
	return s;
}

static char *get(size_t bytes)
{
	char *block = cede_malloc(bytes);

	EXPECT(block != NULL);
	return memset(block, 1, bytes);
}

static void get_many(size_t bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		many[i] = get(bytes);
}

static const struct class_blocks *class_in(const struct arena_snapshot *s, size_t bytes)
{
	return &s->classes[class_of_request(bytes)];
}

static void an_unused_heap_has_no_slabs(void)
{
	static const struct slab_sums none;
	struct arena_snapshot s;

	start(false);
	s = snapshot();
	EXPECT(memcmp(&s.slabs, &none, sizeof(none)) == 0);
	EXPECT(s.system_bytes == a->system_bytes && s.classes[0].to == 16);
	EXPECT(window.base == 0);
}

static void classes_join(void)
{
	struct arena_snapshot s;

	start(false);
	s = snapshot();
	EXPECT(s.classes[0].from == 1 && s.classes[SNAPSHOT_CLASSES - 1].to == SLAB_LARGEST);
	for (size_t c = 0; c < SNAPSHOT_CLASSES; c++) {
		EXPECT(class_of_request(s.classes[c].from) == c && class_of_request(s.classes[c].to) == c);
		EXPECT(c == 0 || s.classes[c].from == s.classes[c - 1].to + 1);
	}
}

/* Of 1024 bytes a unit holds 64 blocks, of 5120 two units hold 25. */
static void a_slab_is_counted(void)
{
	struct arena_snapshot s;

	start(false);
	get_many(1024, 65);
	(void)get(5000);
	s = snapshot();
	EXPECT(s.slabs.segments == 1 && s.slabs.units == 4 && s.slabs.free_units == 0);
	EXPECT(s.slabs.live_bytes == 65 * 1024 + 5120);
	EXPECT(class_in(&s, 1024)->free == 63 && class_in(&s, 5000)->free == 24);
	EXPECT(s.slabs.free_blocks == 63 + 24);
	EXPECT(s.slabs.system_bytes == 4 * UNIT && s.system_bytes == a->system_bytes + 4 * UNIT);
	EXPECT(arena_snapshot_in_use(&s) == s.slabs.live_bytes);
	EXPECT(s.slabs.resident_bytes == UNIT + PAGE + 2 * PAGE && s.slabs.free_resident_bytes == 0);
	EXPECT(s.slabs.record_bytes > 0 && s.slabs.record_bytes < SEGMENT / 64);
	EXPECT(s.address_space >= SEGMENT);
}

/* The bits of more than 1600 blocks lie beside the records. */
static void records_grow_by_bits(void)
{
	size_t before;

	start(false);
	(void)get(1024);
	before = snapshot().slabs.record_bytes;
	(void)get(16);
	EXPECT(snapshot().slabs.record_bytes == before + UNIT / 16 / 8);
}

/* Two blocks a page: those of one page, and of two pages one each. */
static void whole_free_pages_are_resident_until_they_go(void)
{
	struct arena_snapshot s;

	start(false);
	get_many(2048, 128);
	cede_free(many[10]);
	cede_free(many[11]);
	cede_free(many[20]);
	cede_free(many[23]);
	s = snapshot();
	EXPECT(s.slabs.free_blocks == 4 && s.slabs.free_resident_bytes == PAGE);
	EXPECT(s.slabs.resident_bytes == 4 * UNIT && s.dirty_bytes == PAGE);
	EXPECT(cede_release(0) == PAGE);
	s = snapshot();
	EXPECT(s.slabs.free_blocks == 4 && s.slabs.free_resident_bytes == 0);
	EXPECT(s.slabs.resident_bytes == 4 * UNIT - PAGE);
	EXPECT(s.slabs.system_bytes == 4 * UNIT);
}

/* What is free on a page with a live block, here two of four, stays. */
static void free_blocks_beside_live_ones_are_pinned(void)
{
	size_t before;

	start(false);
	get_many(2048, 128);
	before = snapshot().pinned_bytes;
	cede_free(many[10]);
	cede_free(many[11]);
	cede_free(many[20]);
	cede_free(many[23]);
	EXPECT(snapshot().pinned_bytes == before + 2 * 2048);
	EXPECT(cede_release(0) == PAGE && snapshot().pinned_bytes == before + 2 * 2048);
	cede_free(many[21]);
	EXPECT(snapshot().pinned_bytes == before + 2048);
}

/* Of a chunk the ends, beside its whole pages, whether those are there or not. */
static void a_free_chunks_ends_are_pinned(void)
{
	struct arena_snapshot before, s;
	char *hole;
	size_t whole;

	start(false);
	hole = get(100000);
	(void)get(9000);
	before = snapshot();
	cede_free(hole);
	s = snapshot();
	whole = s.dirty_bytes - before.dirty_bytes;
	EXPECT(whole >= 100000 - 2 * PAGE && whole % PAGE == 0);
	EXPECT(s.pinned_bytes - before.pinned_bytes == s.free_bytes - before.free_bytes - whole);
	EXPECT(cede_release(0) >= whole);
	EXPECT(snapshot().pinned_bytes == s.pinned_bytes && snapshot().refaulted_bytes == 0);
	EXPECT(get(100000) == hole && snapshot().refaulted_bytes == whole);
	EXPECT(snapshot().pinned_bytes == before.pinned_bytes);
}

/* A thread caches what it freed, to the block. */
static void cached_blocks_are_counted(void)
{
	struct cede_stats stats;
	size_t size = 0, bytes, threads;

	start(true);
	for (size_t i = 0; i < 300; i++) {
		many[i] = get(i);
		size += class_sizes[class_of_request(i)];
	}
	for (size_t i = 0; i < 300; i++)
		cede_free(many[i]);
	cache_held(&bytes, &threads);
	EXPECT(bytes >= size && bytes == snapshot().slabs.live_bytes && threads == 1);
	/* Which asks for what can be had of the caches first. */
	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	EXPECT(stats.cached_bytes == 0 && stats.caching_threads == 0 && stats.live_bytes == 0);
}

/* Free units are part of the heap while they may be resident, and address space is not. */
static void free_units_count_until_they_go(void)
{
	struct arena_snapshot s;

	start(false);
	get_many(1024, 3 * 64);
	for (size_t i = 64; i < 3 * 64; i++)
		cede_free(many[i]);
	s = snapshot();
	EXPECT(s.slabs.units == 1 && s.slabs.free_units == 2);
	EXPECT(s.slabs.system_bytes == 3 * UNIT && s.slabs.free_resident_bytes == 2 * UNIT);
	EXPECT(s.slabs.free_blocks == 0 && s.free_chunks == 1 + 2);
	EXPECT(s.free_bytes == 2 * UNIT + s.top_bytes);
	EXPECT(cede_release(0) >= 2 * UNIT);
	s = snapshot();
	EXPECT(s.slabs.free_units == 0 && s.slabs.system_bytes == UNIT && s.slabs.segments == 1);
	for (size_t i = 0; i < 64; i++)
		cede_free(many[i]);
	EXPECT(cede_release(0) == UNIT);
	EXPECT(snapshot().slabs.segments == 0 && snapshot().slabs.record_bytes == 0);
}

static void the_peak_stays(void)
{
	struct arena_snapshot s;

	start(false);
	get_many(1024, 3 * 64);
	for (size_t i = 0; i < 3 * 64; i++)
		cede_free(many[i]);
	EXPECT(cede_release(0) == 3 * UNIT);
	s = snapshot();
	EXPECT(s.slabs.system_bytes == 0);
	EXPECT(s.max_system_bytes == a->max_system_bytes + 3 * UNIT);
}

static struct arena_snapshot during;

static void look(const struct os_range *ranges, unsigned count)
{
	EXPECT(count == 1 && ranges->size == PAGE);
	script_discarding = NULL;
	during = snapshot();
}

/* What the purger holds looks in use to the heap, and is free. */
static void blocks_that_the_purger_holds_are_free(void)
{
	struct arena_snapshot before;

	start(false);
	get_many(2048, 128);
	cede_free(many[10]);
	cede_free(many[11]);
	before = snapshot();
	script_discarding = look;
	EXPECT(cede_release(0) == PAGE);
	EXPECT(during.slabs.free_blocks == 2 && class_in(&during, 2048)->free == 2);
	EXPECT(during.slabs.live_bytes == before.slabs.live_bytes);
	EXPECT(during.slabs.resident_bytes == before.slabs.resident_bytes - PAGE);
	EXPECT(during.free_bytes == before.free_bytes && during.system_bytes == before.system_bytes);
}

/* ---- a model ---- */

static struct rng rng;
static size_t expected_live, expected_used[SLAB_CLASSES];

static void is_as_expected(void)
{
	size_t capacity = 0, blocks = 0;
	struct arena_snapshot s;
	struct mallinfo2 info;

	cede_mallinfo2(&info);
	s = snapshot();
	EXPECT(s.slabs.live_bytes == expected_live);
	EXPECT(arena_snapshot_in_use(&s) == expected_live);
	for (size_t c = 0; c < SLAB_CLASSES; c++) {
		size_t units = slab_class_units(s.classes[c].to);
		size_t all = expected_used[c] + s.classes[c].free, each = units * UNIT / s.classes[c].to;

		EXPECT(all % each == 0);
		capacity += all / each * units;
		blocks += s.classes[c].free;
	}
	EXPECT(s.slabs.units == capacity && s.slabs.free_blocks == blocks);
	EXPECT(s.slabs.resident_bytes >= expected_live + s.slabs.free_resident_bytes);
	EXPECT(s.slabs.resident_bytes <= s.slabs.system_bytes);
	EXPECT(s.pinned_bytes + s.dirty_bytes <= s.free_bytes);
	EXPECT(s.max_system_bytes >= s.system_bytes && s.address_space >= s.system_bytes);
	EXPECT(info.uordblks == expected_live && info.arena == info.uordblks + info.fordblks);
	EXPECT(cache_on || (info.arena == s.system_bytes && info.ordblks == s.free_chunks));
}

/* What the statistics say may go, goes, and no more.  Only where the purger does not. */
static void release_is_as_said(void)
{
	struct arena_snapshot before = snapshot(), after;

	EXPECT(cede_release(0) == before.dirty_bytes);
	after = snapshot();
	EXPECT(after.dirty_bytes == 0);
	EXPECT(after.slabs.resident_bytes ==
	       before.slabs.resident_bytes - before.slabs.free_resident_bytes);
}

static void change(size_t i, bool wanted)
{
	size_t bytes = rng_below(&rng, rng_below(&rng, 4) == 0 ? SLAB_LARGEST + 1 : 300);
	unsigned class;

	if ((many[i] != NULL) == wanted)
		return;
	class = class_of_request(wanted ? bytes : cede_malloc_usable_size(many[i]));
	if (wanted) {
		many[i] = get(bytes);
		expected_live += class_sizes[class];
		expected_used[class]++;
	} else {
		cede_free(many[i]);
		many[i] = NULL;
		expected_live -= class_sizes[class];
		expected_used[class]--;
	}
}

static void random_blocks_are_as_expected(void)
{
	for (int caching = 0; caching < 2; caching++) {
		start(caching);
		rng.state = (uint64_t)caching;
		for (int round = 0; round < 30; round++) {
			uint64_t share = rng_below(&rng, 100);

			for (size_t i = 0; i < MANY; i++)
				change(rng_below(&rng, MANY), rng_below(&rng, 100) < share);
			is_as_expected();
			if (round % 4 == 3 && !caching)
				release_is_as_said();
		}
		for (size_t i = 0; i < MANY; i++)
			change(i, false);
		is_as_expected();
		EXPECT(expected_live == 0 && cede_release(0) != 0);
		EXPECT(caching || snapshot().slabs.system_bytes == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(an_unused_heap_has_no_slabs),
		child_test(classes_join),
		child_test(a_slab_is_counted),
		child_test(records_grow_by_bits),
		child_test(whole_free_pages_are_resident_until_they_go),
		child_test(free_blocks_beside_live_ones_are_pinned),
		child_test(a_free_chunks_ends_are_pinned),
		child_test(cached_blocks_are_counted),
		child_test(free_units_count_until_they_go),
		child_test(the_peak_stays),
		child_test(blocks_that_the_purger_holds_are_free),
		child_test(random_blocks_are_as_expected),
	};

	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
