/*
 * api/malloc in the default policy: which requests slabs serve, how their blocks are
 * resized and freed with a size, and what happens when there are no slabs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

#define MANY 20000

static struct arena *a;
static char *many[MANY];

static void *filled(void *block, size_t bytes)
{
	EXPECT(block != NULL && (uintptr_t)block % 16 == 0);
	EXPECT(cede_malloc_usable_size(block) >= bytes);
	pattern_fill(block, bytes, (uintptr_t)block);
	return block;
}

static bool is_filled(const void *block, size_t bytes, const void *was)
{
	return pattern_match(block, bytes, (uintptr_t)was) == bytes;
}

/* The purger may be at work. */
static void audit(void)
{
	lock_acquire(&a->lock);
	audit_arena(a);
	lock_release(&a->lock);
}

/* Nothing is cached, and nothing lives in slabs or chunks. */
static void ends_empty(void)
{
	(void)cede_malloc_trim(0);
	EXPECT(a->slabs.live_bytes == 0 && a->slabs.units == 0 && a->segments.count == 0);
	EXPECT(a->region == NULL || (char *)a->top == (char *)a->region);
	EXPECT(__atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED) == 0);
	audit();
}

static size_t held(size_t bytes)
{
	const struct cache_bin *bin = thread_bin(thread_self, class_of_request(bytes));

	return bin->base == NULL ? 0 : (size_t)(bin->top - bin->base);
}

/* ---- where blocks come from ---- */

static void slabs_serve_up_to_their_largest(void)
{
	for (int caching = 0; caching < 2; caching++) {
		a = script_heap_of_slabs(caching);
		for (size_t bytes = 0; bytes <= SLAB_LARGEST; bytes++) {
			void *block = filled(cede_malloc(bytes), bytes);

			EXPECT(window_has(block));
			EXPECT(cede_malloc_usable_size(block) == class_sizes[class_of_request(bytes)]);
			cede_free(block);
		}
		for (size_t bytes = SLAB_LARGEST + 1; bytes <= 2 * SLAB_LARGEST; bytes += 111) {
			void *block = filled(cede_malloc(bytes), bytes);

			EXPECT(!window_has(block));
			cede_free(block);
		}
		ends_empty();
	}
}

static void classic_has_none(void)
{
	a = script_heap(POLICY_CLASSIC);
	for (size_t bytes = 0; bytes <= SLAB_LARGEST; bytes += 7)
		EXPECT(!window_has(filled(cede_malloc(bytes), bytes)));
	EXPECT(window.steps == 0);
}

static void calloc_clears_what_was_used(void)
{
	for (int caching = 0; caching < 2; caching++) {
		a = script_heap_of_slabs(caching);
		for (size_t bytes = 1; bytes <= SLAB_LARGEST; bytes += 13) {
			unsigned char *block;

			cede_free(filled(cede_malloc(bytes), bytes));
			block = cede_calloc(1, bytes);
			for (size_t i = 0; i < bytes; i++)
				EXPECT(block[i] == 0);
			cede_free(block);
		}
		ends_empty();
	}
}

/* ---- aligned requests ---- */

/* Whether blocks of some class lie so, side by side in a slab. */
static bool a_class_is_aligned(size_t alignment, size_t bytes)
{
	for (unsigned c = 0; c < SLAB_CLASSES; c++)
		if (class_sizes[c] >= bytes && class_sizes[c] % alignment == 0)
			return true;
	return false;
}

static void aligned_requests(bool caching)
{
	a = script_heap_of_slabs(caching);
	for (size_t alignment = 16; alignment <= 32 * KIB; alignment *= 2) {
		for (size_t bytes = 0; bytes <= 2 * SLAB_LARGEST; bytes += 1 + bytes / 5) {
			void *blocks[5];

			for (size_t i = 0; i < 5; i++) {
				blocks[i] = filled(cede_memalign(alignment, bytes), bytes);
				EXPECT((uintptr_t)blocks[i] % alignment == 0);
				/* A cache may have chunks, too. */
				EXPECT(caching ||
				       window_has(blocks[i]) == a_class_is_aligned(alignment, bytes));
			}
			for (size_t i = 0; i < 5; i++) {
				EXPECT(is_filled(blocks[i], bytes, blocks[i]));
				if (i % 2 == 0)
					cede_free_aligned_sized(blocks[i], alignment, bytes);
				else
					cede_free(blocks[i]);
			}
		}
		audit();
	}
	ends_empty();
}

static void aligned_requests_come_from_slabs(void)
{
	aligned_requests(true);
	aligned_requests(false);
}

/* The cache of a slab's class may hold chunks: they were freed with their size. */
static void an_aligned_request_refuses_a_cached_chunk(void)
{
	void *block, *chunk;

	a = script_heap_of_slabs(true);
	cede_free(cede_malloc(1024));
	chunk = cede_malloc(40 * KIB);
	cede_free_sized(chunk, 1024);
	EXPECT(held(1024) == 2 && (uintptr_t)chunk % 1024 != 0);
	block = cede_memalign(1024, 1000);
	EXPECT((uintptr_t)block % 1024 == 0);
	cede_free(block);
	EXPECT(cede_malloc(40 * KIB) == chunk);
	cede_free(chunk);
	ends_empty();
}

/* ---- resized ---- */

static void stays_while_half_of_it_is_used(void)
{
	a = script_heap_of_slabs(true);
	for (unsigned c = 1; c < SLAB_CLASSES; c++) {
		size_t size = class_sizes[c];
		char *block = filled(cede_malloc(size), size), *moved;

		for (size_t bytes = size; bytes >= size / 2; bytes--)
			EXPECT(cede_realloc(block, bytes) == block);
		moved = cede_realloc(block, size / 2 - 1);
		EXPECT(moved != block && is_filled(moved, size / 2 - 1, block));
		EXPECT(cede_malloc_usable_size(moved) < size);
		block = filled(moved, size / 2 - 1);
		moved = cede_realloc(block, size + 1);
		EXPECT(moved != block && is_filled(moved, size / 2 - 1, block));
		EXPECT(cede_malloc_usable_size(moved) > size);
		cede_free(moved);
	}
	ends_empty();
}

static void goes_from_slab_to_chunk_to_mapping_and_back(void)
{
	static const size_t sizes[] = { 100, 8000, 60 * KIB, 2 * MIB, 60 * KIB, 8000, 100 };
	size_t had = 0;
	char *block, *was;

	a = script_heap_of_slabs(true);
	settings.mmap_threshold = MIB;
	block = filled(cede_malloc(0), 0);
	for (size_t i = 0; i < 7; i++) {
		size_t kept = had < sizes[i] ? had : sizes[i];

		was = block;
		block = cede_realloc(block, sizes[i]);
		EXPECT(is_filled(block, kept, was));
		/* A small block does not stay mapped. */
		EXPECT(window_has(block) == (i < 2 || i > 4));
		had = sizes[i];
		block = filled(block, had);
	}
	cede_free(block);
	ends_empty();
}

static void without_memory_it_stays_as_it_is(void)
{
	char *block;

	a = script_heap_of_slabs(false);
	block = filled(cede_malloc(100), 100);
	script_fail_from(OS_SBRK, 1);
	script_fail_from(OS_MAP, 1);
	script_fail_from(OS_PROTECT, 1);
	EXPECT(cede_realloc(block, MIB) == NULL);
	EXPECT(is_filled(block, 100, block));
	script_reset();
	cede_free(block);
	ends_empty();
}

/* ---- freed with a size ---- */

static void a_size_leads_to_its_bin(void)
{
	a = script_heap_of_slabs(true);
	for (size_t bytes = 1; bytes <= CLASS_EVEN; bytes++) {
		void *block = filled(cede_malloc(bytes), bytes);

		cede_free_sized(block, bytes);
		EXPECT(cede_malloc(bytes) == block);
		cede_free(block);
	}
	ends_empty();
}

static void larger_sizes_are_not_needed(void)
{
	a = script_heap_of_slabs(true);
	for (size_t bytes = CLASS_EVEN + 1; bytes <= 2 * SLAB_LARGEST; bytes += 55) {
		void *block = filled(cede_malloc(bytes), bytes);

		cede_free_sized(block, bytes);
		EXPECT(cede_malloc(bytes) == block);
		cede_free(block);
	}
	cede_free_sized(NULL, 0);
	cede_free_sized(NULL, 100);
	cede_free_sized(cede_malloc(0), 0);
	cede_free_aligned_sized(NULL, 64, 100);
	ends_empty();
}

/* The size is less than the block holds: it serves so much, and goes home later. */
static void served_by(char *block)
{
	size_t usable = cede_malloc_usable_size(block);

	cede_free(cede_malloc(48));
	cede_free_sized(filled(block, usable), 40);
	EXPECT(held(48) == 2 && cede_malloc(48) == block);
	EXPECT(cede_malloc_usable_size(block) == usable);
	cede_free_sized(filled(block, 48), 48);
	EXPECT(held(48) == 2);
	ends_empty();
}

static void a_bin_may_hold_a_block_of_a_larger_class(void)
{
	a = script_heap_of_slabs(true);
	served_by(cede_malloc(1000));
	served_by(cede_malloc(SLAB_LARGEST));
}

static void a_bin_may_hold_a_chunk(void)
{
	a = script_heap_of_slabs(true);
	served_by(cede_malloc(40 * KIB));
	served_by(cede_malloc(500 * KIB));
}

static void a_bin_may_hold_a_mapped_chunk(void)
{
	a = script_heap_of_slabs(true);
	settings.mmap_threshold = MIB;
	served_by(cede_malloc(2 * MIB));
}

/* All sizes and kinds beside each other, each with any size that it holds. */
static void sizes_at_random(void)
{
	static struct { char *block; size_t bytes; } live[1000];
	struct rng rng = { 29 };

	a = script_heap_of_slabs(true);
	settings.mmap_threshold = 256 * KIB;
	for (unsigned round = 0; round < 100000; round++) {
		size_t i = rng_below(&rng, 1000);

		if (live[i].block == NULL) {
			size_t most = (size_t)16 << rng_below(&rng, 12 + (round % 50 == 0) * 4);

			live[i].bytes = rng_below(&rng, most);
			live[i].block = filled(cede_malloc(live[i].bytes), live[i].bytes);
			continue;
		}
		EXPECT(is_filled(live[i].block, live[i].bytes, live[i].block));
		if (rng_below(&rng, 2) == 0)
			cede_free_sized(live[i].block, rng_below(&rng, live[i].bytes + 1));
		else
			cede_free(live[i].block);
		live[i].block = NULL;
		if (round % 1000 == 0)
			audit();
	}
	for (size_t i = 0; i < 1000; i++)
		cede_free(live[i].block);
	ends_empty();
}

/* ---- no slabs ---- */

static void without_a_window_all_are_chunks(void)
{
	for (int caching = 0; caching < 2; caching++) {
		a = script_heap_of_slabs(caching);
		script_fail_from(OS_MAP_AT, 1);
		for (size_t i = 0; i < 3000; i++) {
			many[i] = filled(cede_malloc(i), i);
			EXPECT(!window_has(many[i]));
		}
		for (size_t i = 0; i < 3000; i++) {
			EXPECT(is_filled(many[i], i, many[i]));
			many[i] = cede_realloc(many[i], i + 100);
			EXPECT(many[i] != NULL);
		}
		EXPECT((uintptr_t)cede_memalign(4096, 100) % 4096 == 0);
		EXPECT(window.steps == 0);
		for (size_t i = 0; i < 3000; i++)
			cede_free(many[i]);
		(void)cede_malloc_trim(0);
		audit();
	}
}

/* It ends, and comes back: blocks of both kinds beside each other. */
static void the_window_may_end_and_go_on(void)
{
	size_t in_window = 0;

	for (int caching = 0; caching < 2; caching++) {
		a = script_heap_of_slabs(caching);
		for (size_t i = 0; i < MANY; i++) {
			if (i % 4096 == 2048)
				script_fail_from(OS_MAP_AT, 1);
			if (i % 4096 == 0)
				script_reset();
			many[i] = filled(cede_malloc(i % 5000), i % 5000);
			in_window += window_has(many[i]);
		}
		EXPECT(in_window > MANY / 2 && in_window < 2 * MANY);
		for (size_t i = 0; i < MANY; i += 2) {
			EXPECT(is_filled(many[i], i % 5000, many[i]));
			cede_free(many[i]);
			many[i] = filled(cede_malloc(i % 5000), i % 5000);
		}
		for (size_t i = 0; i < MANY; i++) {
			EXPECT(is_filled(many[i], i % 5000, many[i]));
			cede_free(many[i]);
		}
		ends_empty();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(slabs_serve_up_to_their_largest),
		child_test(classic_has_none),
		child_test(calloc_clears_what_was_used),
		child_test(aligned_requests_come_from_slabs),
		child_test(an_aligned_request_refuses_a_cached_chunk),
		child_test(stays_while_half_of_it_is_used),
		child_test(goes_from_slab_to_chunk_to_mapping_and_back),
		child_test(without_memory_it_stays_as_it_is),
		child_test(a_size_leads_to_its_bin),
		child_test(larger_sizes_are_not_needed),
		child_test(a_bin_may_hold_a_block_of_a_larger_class),
		child_test(a_bin_may_hold_a_chunk),
		child_test(a_bin_may_hold_a_mapped_chunk),
		child_test(sizes_at_random),
		child_test(without_a_window_all_are_chunks),
		child_test(the_window_may_end_and_go_on),
	};

	return cmocka_run_group_tests_name("malloc", tests, NULL, NULL);
}
