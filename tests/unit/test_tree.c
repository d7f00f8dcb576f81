/*
 * heap/tree: every large bin's tree against a plain sorted array, and links that
 * somebody overwrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heap/bins.h"
#include "heap/tree.h"
#include "support/child.h"
#include "support/pattern.h"

#define NODES 300
#define STEPS 2000

/* The sizes of a bin, and the highest bit in which they differ. */
struct range {
	size_t low, high; /* multiples of 16, both within */
	unsigned bit;
};

static struct range range_of_bin(unsigned bin)
{
	struct range r = { 0, (size_t)1 << 37, 0 };

	/* The last bin has no end: as far as its tree is told to distinguish. */
	for (size_t size = SMALL_LIMIT; size <= (size_t)1 << 20; size += CHUNK_ALIGN) {
		if (large_bin(size) == bin && r.low == 0)
			r.low = size;
		if (large_bin(size) == bin + 1) {
			r.high = size;
			break;
		}
	}
	r.high -= CHUNK_ALIGN;
	r.bit = 63 - (unsigned)__builtin_clzl(r.low ^ r.high);
	return r;
}

struct model {
	struct range range;
	struct chunk *root;
	struct tree_chunk nodes[NODES];
	struct chunk *unused[NODES], *sorted[NODES];
	size_t unused_count, count;
};

static unsigned shift_of(const struct model *m)
{
	return 63 - m->range.bit;
}

static void model_start(struct model *m, unsigned bin)
{
	memset(m, 0, sizeof(*m));
	m->range = range_of_bin(bin);
	for (size_t i = 0; i < NODES; i++)
		m->unused[m->unused_count++] = &m->nodes[i].chunk;
}

/* The first place whose size is at least that. */
static size_t model_find(const struct model *m, size_t size)
{
	size_t at = 0;

	while (at < m->count && chunk_size(m->sorted[at]) < size)
		at++;
	return at;
}

static void insert(struct model *m, size_t size)
{
	struct chunk *c = m->unused[--m->unused_count];
	size_t at = model_find(m, size);

	memset(c, 0xa5, sizeof(struct tree_chunk));
	c->size = size | PREV_INUSE;
	memmove(&m->sorted[at + 1], &m->sorted[at], (m->count++ - at) * sizeof(m->sorted[0]));
	m->sorted[at] = c;
	tree_insert(&m->root, shift_of(m), c, size);
}

static void take_out(struct model *m, struct chunk *c)
{
	size_t at = 0;

	while (m->sorted[at] != c)
		at++;
	memmove(&m->sorted[at], &m->sorted[at + 1], (--m->count - at) * sizeof(m->sorted[0]));
	m->unused[m->unused_count++] = c;
	/* As bin_unlink chooses. */
	if (tree_parent(c) != NULL)
		tree_remove(&m->root, c);
	else
		bin_unlink_listed(c);
}

/* Walks below a node; `bit` is the one that its children differ in. */
static size_t verify(const struct chunk *node, const struct chunk *parent, int bit, size_t low,
                     size_t high)
{
	size_t count = 0, half;
	const struct chunk *c = node;

	if (node == NULL)
		return 0;
	assert_true(bit >= 2); /* so deep is no tree: sizes are multiples of 16 */
	assert_ptr_equal(tree_parent(node), parent);
	assert_in_range(chunk_size(node), low, high);
	do {
		assert_int_equal(chunk_size(c), chunk_size(node));
		assert_ptr_equal(c->fd->bk, c);
		if (c != node)
			assert_null(tree_parent(c));
		count++;
		c = c->fd;
	} while (c != node);
	half = ((size_t)1 << bit);
	return count + verify(node->fd_nextsize, node, bit - 1, low, low + half - 1) +
	       verify(node->bk_nextsize, node, bit - 1, low + half, high);
}

static void verify_all(const struct model *m)
{
	size_t span = (size_t)2 << m->range.bit, low = m->range.low & ~(span - 1);

	assert_int_equal(verify(m->root, TREE_ROOT, (int)m->range.bit, low, low + span - 1), m->count);
}

static void check_answer(const struct model *m, const struct chunk *answer, size_t at)
{
	if (at == m->count) {
		assert_null(answer);
		return;
	}
	assert_non_null(answer);
	assert_int_equal(chunk_size(answer), chunk_size(m->sorted[at]));
	/* With others of its size the node stays. */
	if (at + 1 < m->count && chunk_size(m->sorted[at + 1]) == chunk_size(answer))
		assert_null(tree_parent(answer));
	else
		assert_non_null(tree_parent(answer));
}

/* Few sizes make rings, the whole range makes depth. */
static size_t random_size(const struct model *m, struct rng *rng)
{
	size_t steps = (m->range.high - m->range.low) / CHUNK_ALIGN + 1;

	if (rng_below(rng, 2) == 0)
		return m->range.low + rng_below(rng, steps < 8 ? steps : 8) * CHUNK_ALIGN;
	if (rng_below(rng, 8) == 0)
		return m->range.high;
	return m->range.low + rng_below(rng, steps) * CHUNK_ALIGN;
}

static void random_run(unsigned bin)
{
	static struct model m;
	struct rng rng = { bin };

	model_start(&m, bin);
	for (int i = 0; i < STEPS; i++) {
		size_t size = random_size(&m, &rng);
		bool grow = i / 400 % 2 == 0;

		if (m.unused_count != 0 && rng_below(&rng, 3) < (grow ? 2 : 1))
			insert(&m, size);
		else if (m.count != 0 && rng_below(&rng, 4) == 0)
			take_out(&m, m.root);
		else if (m.count != 0)
			take_out(&m, m.sorted[rng_below(&rng, m.count)]);
		check_answer(&m, tree_best(m.root, shift_of(&m), size), model_find(&m, size));
		check_answer(&m, tree_least(m.root), 0);
		if (i % 16 == 0)
			verify_all(&m);
	}
	while (m.count != 0) {
		struct chunk *c = tree_least(m.root);

		check_answer(&m, c, 0);
		take_out(&m, c);
		verify_all(&m);
	}
	assert_null(m.root);
}

static void test_every_bin_against_a_sorted_array(void **state)
{
	(void)state;
	for (unsigned bin = SMALL_BINS; bin < SMALL_BINS + LARGE_BINS; bin++)
		random_run(bin);
}

/* Sizes in order are the worst for a tree that is never rebalanced. */
static void test_ascending_sizes_stay_shallow(void **state)
{
	static struct model m;

	(void)state;
	model_start(&m, 126);
	for (size_t i = 0; i < NODES; i++)
		insert(&m, m.range.low + i * CHUNK_ALIGN);
	verify_all(&m);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(chunk_size(tree_least(m.root)), m.range.low + i * CHUNK_ALIGN);
		take_out(&m, m.sorted[0]);
	}
}

/* ---- overwritten links ---- */

static struct model broken;

/* A root, one child on each side, and a ring of two on the left one. */
static struct chunk *plant(void)
{
	size_t low;

	model_start(&broken, 97);
	low = 3200;
	insert(&broken, low);
	insert(&broken, low + 16);
	insert(&broken, low + 16);
	insert(&broken, low + 256);
	return broken.root;
}

static void remove_after_broken_ring(void)
{
	struct chunk *node = plant();

	while (node->fd == node)
		node = node->fd_nextsize;
	node->fd->bk = node->fd;
	tree_remove(&broken.root, node);
}

static void insert_after_broken_ring(void)
{
	struct chunk *node = plant();

	while (node->fd == node)
		node = node->fd_nextsize;
	node->fd->bk = node->fd;
	insert(&broken, chunk_size(node));
}

static void remove_false_root(void)
{
	struct chunk *node = plant()->bk_nextsize;

	((struct tree_chunk *)node)->parent = TREE_ROOT;
	tree_remove(&broken.root, node);
}

static void remove_from_false_parent(void)
{
	struct chunk *root = plant();

	((struct tree_chunk *)root->bk_nextsize)->parent = root->fd_nextsize;
	tree_remove(&broken.root, root->bk_nextsize);
}

static void remove_above_false_child(void)
{
	struct chunk *root = plant();

	((struct tree_chunk *)root->bk_nextsize)->parent = root->fd_nextsize;
	tree_remove(&broken.root, root);
}

static void broken_links_are_recognised(void)
{
	static const char message[] = "corrupted links of a free large chunk";

	EXPECT(child_dies(remove_after_broken_ring, message));
	EXPECT(child_dies(insert_after_broken_ring, message));
	EXPECT(child_dies(remove_false_root, message));
	EXPECT(child_dies(remove_from_false_parent, message));
	EXPECT(child_dies(remove_above_false_child, message));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_bin_against_a_sorted_array),
		cmocka_unit_test(test_ascending_sizes_stay_shallow),
		child_test(broken_links_are_recognised),
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
