/*
 * heap/bins: which bin a size belongs to, stated independently; the order within
 * bins in both policies after random operations; overwritten links.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heap/bins.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/scripted_os.h"

/* ---- boundaries ---- */

/* ptmalloc's large bins, as runs of bins with equal spacing. */
static const struct {
	unsigned first, last;
	size_t from, spacing;
} large_runs[] = {
	{ 64, 96, 1024, 64 },
	{ 97, 97, 3136, 0 },
	{ 98, 111, 3584, 512 },
	{ 112, 112, 10752, 0 },
	{ 113, 120, 12288, 4096 },
	{ 121, 123, 65536, 32768 },
	{ 124, 124, 163840, 0 },
	{ 125, 126, 262144, 262144 },
};

#define RUNS (sizeof(large_runs) / sizeof(large_runs[0]))

/* The smallest size of each large bin; [127]: beyond all. */
static size_t large_from[BINS];

static void table_fill(void)
{
	for (size_t i = 0; i < RUNS; i++) {
		for (unsigned bin = large_runs[i].first; bin <= large_runs[i].last; bin++)
			large_from[bin] = large_runs[i].from +
			                  (bin - large_runs[i].first) * large_runs[i].spacing;
	}
	large_from[BINS - 1] = SIZE_MAX;
}

static void test_every_size_has_ptmallocs_bin(void **state)
{
	unsigned bin = SMALL_BINS, small_seen = 0;

	(void)state;
	for (size_t size = MIN_CHUNK; size < 1024; size += CHUNK_ALIGN, small_seen++) {
		assert_true(size_is_small(size));
		assert_int_equal(bin_of_size(size), size / 16);
	}
	assert_int_equal(small_seen, 62);
	for (size_t size = 1024; size <= (size_t)1 << 20; size += CHUNK_ALIGN) {
		while (size >= large_from[bin + 1])
			bin++;
		assert_false(size_is_small(size));
		assert_int_equal(bin_of_size(size), bin);
	}
	assert_int_equal(bin, 126);
	assert_int_equal(bin_of_size((size_t)PTRDIFF_MAX & ~(size_t)15), 126);
}

static void test_the_map_finds_the_next_bin(void **state)
{
	struct arena a = { 0 };
	struct rng rng = { 7 };
	bool set[BINS] = { false };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		unsigned bin = (unsigned)rng_below(&rng, BINS), from = (unsigned)rng_below(&rng, BINS);

		set[bin] = i / 500 % 2 == 0;
		if (set[bin])
			binmap_set(&a, bin);
		else
			binmap_clear(&a, bin);
		bin = from;
		while (bin < BINS && !set[bin])
			bin++;
		assert_int_equal(binmap_next(&a, from), bin);
	}
}

/* ---- chunks to put into bins: each in a room of its own ---- */

#define ROOMS     160
#define ROOM_SIZE ((size_t)2 << 20)

static struct arena arena;
static char *rooms;
static struct chunk *binned[ROOMS];

static void bins_start(enum policy policy)
{
	(void)script_heap(policy);
	memset(&arena, 0, sizeof(arena));
	memset(binned, 0, sizeof(binned));
	arena_init(&arena, 0);
	if (rooms != NULL)
		return;
	rooms = mmap(NULL, ROOMS * ROOM_SIZE, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	EXPECT(rooms != MAP_FAILED);
}

static struct chunk *chunk_in(size_t room, size_t size)
{
	struct chunk *c = chunk_at(rooms, room * ROOM_SIZE);

	memset(c, 0x5a, sizeof(struct tree_chunk));
	c->size = size | PREV_INUSE;
	chunk_set_foot(c, size);
	return c;
}

static void put(size_t room, size_t size)
{
	binned[room] = chunk_in(room, size);
	bin_insert(&arena, binned[room], size);
}

static void take_out(size_t room)
{
	bin_unlink(&arena, binned[room]);
	binned[room] = NULL;
}

static size_t room_of(const struct chunk *c)
{
	return (size_t)((char *)c - rooms) / ROOM_SIZE;
}

/* The smallest binned size >= size below `end`; SIZE_MAX: none. */
static size_t model_best(size_t size, size_t end, size_t *of_that_size)
{
	size_t best = SIZE_MAX;

	*of_that_size = 0;
	for (size_t i = 0; i < ROOMS; i++) {
		size_t have = binned[i] != NULL ? chunk_size(binned[i]) : 0;

		if (have < size || have >= end || have > best)
			continue;
		*of_that_size = have == best ? *of_that_size + 1 : 1;
		best = have;
	}
	return best;
}

/* First of its size: on the ring (classic) or the node (default). */
static bool is_first_of_its_size(const struct chunk *c)
{
	return policy_is_default() ? tree_parent(c) != NULL : c->fd_nextsize != NULL;
}

static void check_large(unsigned bin, size_t size)
{
	size_t others, best = model_best(size, large_from[bin + 1], &others);
	struct chunk *c = large_bin_best(&arena, bin, size);

	if (best == SIZE_MAX) {
		EXPECT(c == NULL);
		return;
	}
	EXPECT(c != NULL && c == binned[room_of(c)]);
	EXPECT(chunk_size(c) == best);
	EXPECT(is_first_of_its_size(c) == (others == 1));
	EXPECT(binmap_next(&arena, bin) == bin);
}

/* classic: largest first, the first of each size on a ring in the same order. */
static void check_sorted(unsigned bin)
{
	struct chunk *head = bin_head(&arena, bin), *first = head->fd, *last_size = NULL;
	size_t listed = 0, expected = 0;

	for (size_t i = 0; i < ROOMS; i++)
		expected += binned[i] != NULL && bin_of_size(chunk_size(binned[i])) == bin;
	for (struct chunk *c = head->fd; c != head; c = c->fd, listed++) {
		EXPECT(c->fd->bk == c && c->bk->fd == c);
		EXPECT(c == first || chunk_size(c->bk) >= chunk_size(c));
		if (c != first && chunk_size(c->bk) == chunk_size(c)) {
			EXPECT(c->fd_nextsize == NULL);
			continue;
		}
		EXPECT(c->fd_nextsize->bk_nextsize == c && c->bk_nextsize->fd_nextsize == c);
		EXPECT(last_size == NULL || last_size->fd_nextsize == c);
		last_size = c;
	}
	EXPECT(last_size == NULL || last_size->fd_nextsize == first);
	EXPECT(listed == expected);
}

static size_t random_size(struct rng *rng, unsigned bin)
{
	size_t from = large_from[bin], end = size_min(large_from[bin + 1], ROOM_SIZE - 4096);
	size_t sizes = (end - from) / CHUNK_ALIGN;

	if (rng_below(rng, 2) == 0)
		sizes = size_min(sizes, 5);
	return from + rng_below(rng, sizes) * CHUNK_ALIGN;
}

static void random_large(enum policy policy)
{
	bins_start(policy);
	for (unsigned bin = SMALL_BINS; bin < BINS - 1; bin++) {
		struct rng rng = { bin };

		for (int i = 0; i < 600; i++) {
			size_t room = rng_below(&rng, ROOMS);

			if (binned[room] != NULL)
				take_out(room);
			else
				put(room, random_size(&rng, bin));
			check_large(bin, random_size(&rng, bin));
			check_large(bin, large_from[bin]);
			if (policy == POLICY_CLASSIC && i % 8 == 0)
				check_sorted(bin);
		}
		for (struct chunk *c; (c = bin_least(&arena, bin)) != NULL;) {
			size_t others;

			EXPECT(chunk_size(c) == model_best(MIN_CHUNK, SIZE_MAX, &others));
			take_out(room_of(c));
		}
		EXPECT(large_bin_best(&arena, bin, large_from[bin]) == NULL);
	}
}

static void large_bins_of_classic(void)
{
	random_large(POLICY_CLASSIC);
}

static void large_bins_of_default(void)
{
	random_large(POLICY_DEFAULT);
}

static void small_and_unsorted_bins_are_queues(void)
{
	for (int policy = POLICY_DEFAULT; policy <= POLICY_CLASSIC; policy++) {
		struct chunk *unsorted;

		bins_start((enum policy)policy);
		unsorted = bin_head(&arena, UNSORTED);
		for (size_t i = 0; i < 8; i++) {
			put(i, 512);
			bin_insert_unsorted(&arena, chunk_in(20 + i, 512 * (i + 1)), 512 * (i + 1));
		}
		EXPECT(binmap_next(&arena, 0) == 32);
		for (size_t i = 0; i < 8; i++) {
			EXPECT(room_of(bin_least(&arena, 32)) == i);
			take_out(i);
			EXPECT(room_of(unsorted->bk) == 20 + i);
			/* A large one there is in no tree and on no ring. */
			bin_unlink(&arena, unsorted->bk);
		}
		EXPECT(bin_least(&arena, 32) == NULL && unsorted->fd == unsorted);
	}
}

/* ---- overwritten chunks ---- */

static void plant(size_t size)
{
	bins_start(POLICY_CLASSIC);
	for (size_t i = 0; i < 3; i++)
		put(i, size + i * CHUNK_ALIGN);
	put(3, size);
}

static void unlink_with_false_foot(void)
{
	plant(512);
	chunk_at(binned[0], 512)->prev_size = 528;
	take_out(0);
}

static void unlink_with_false_list(void)
{
	plant(512);
	binned[0]->fd = binned[2];
	take_out(0);
}

static void unlink_with_false_ring(void)
{
	plant(4352);
	binned[1]->fd_nextsize = binned[2];
	take_out(1);
}

static void insert_with_false_ring(void)
{
	plant(4352);
	binned[2]->bk_nextsize = binned[1];
	put(4, 4352 - CHUNK_ALIGN);
}

static void insert_with_false_list(void)
{
	plant(512);
	bin_head(&arena, 32)->fd = binned[1];
	put(4, 512);
}

static void overwritten_chunks_are_recognised(void)
{
	EXPECT(child_dies(unlink_with_false_foot, "corrupted size of a free chunk"));
	EXPECT(child_dies(unlink_with_false_list, "corrupted links of a free chunk"));
	EXPECT(child_dies(unlink_with_false_ring, "corrupted links of a free large chunk"));
	EXPECT(child_dies(insert_with_false_ring, "corrupted links of a free large chunk"));
	EXPECT(child_dies(insert_with_false_list, "corrupted links of a free chunk"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size_has_ptmallocs_bin),
		cmocka_unit_test(test_the_map_finds_the_next_bin),
		child_test(large_bins_of_classic),
		child_test(large_bins_of_default),
		child_test(small_and_unsorted_bins_are_queues),
		child_test(overwritten_chunks_are_recognised),
	};

	table_fill();
	return cmocka_run_group_tests_name("bins", tests, NULL, NULL);
}
