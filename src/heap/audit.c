#include "heap/audit.h"

#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/subheap.h"

/* What is found in the bins, and what is found by walking the memory. */
struct tally {
	size_t free_bytes, free_chunks, dirty_bytes, gone_bytes;
};

/* chunk.h I1 and I3, extent.h I1; the chunk is in a bin. */
static void audit_free_chunk(struct arena *a, const struct chunk *c, struct tally *t)
{
	size_t size = chunk_size(c);
	const struct chunk *next = chunk_at(c, size);

	CHECK(((uintptr_t)c & (CHUNK_ALIGN - 1)) == 0 && (size & (CHUNK_ALIGN - 1)) == 0);
	CHECK(size >= MIN_CHUNK && size <= a->system_bytes);
	CHECK((c->size & SIZE_BITS) == PREV_INUSE);
	CHECK(next->prev_size == size && !chunk_prev_inuse(next));
	t->free_bytes += size;
	t->free_chunks++;
	if (policy_is_default() && extent_tracked(size)) {
		const struct dirty_chunk *d = (const struct dirty_chunk *)c;

		CHECK((d->lo == 0 && d->hi == 0) ||
		      (d->lo < d->hi && d->lo >= extent_inner_start(c) &&
		       d->hi <= (uintptr_t)next && ((d->lo | d->hi) & (os_page_size - 1)) == 0));
		t->dirty_bytes += d->hi - d->lo;
		t->gone_bytes += d->gone;
		CHECK(d->gone == extent_outside(extent_inner_start(c),
		                                align_down((uintptr_t)next, os_page_size),
		                                (struct extent){ d->lo, d->hi }));
	}
}

static void audit_list(struct arena *a, unsigned bin, struct tally *t)
{
	struct chunk *head = bin_head(a, bin);

	for (struct chunk *c = head->bk; c != head; c = c->bk) {
		audit_free_chunk(a, c, t);
		CHECK(c->fd->bk == c && c->bk->fd == c);
		if (bin == UNSORTED)
			continue;
		CHECK(bin_of_size(chunk_size(c)) == bin);
		/* Large: from the smallest up, the first of a size on the ring. */
		if (bin >= SMALL_BINS) {
			CHECK(c->bk == head || chunk_size(c->bk) >= chunk_size(c));
			CHECK((c->fd_nextsize != NULL) ==
			      (c->bk == head || chunk_size(c->bk) != chunk_size(c)));
			if (c->fd_nextsize != NULL)
				CHECK(c->fd_nextsize->bk_nextsize == c && c->bk_nextsize->fd_nextsize == c);
		}
	}
	CHECK(bin == UNSORTED || head->bk == head || binmap_next(a, bin) == bin);
}

/*
 * tree.h I1 and I2: `path` is the `depth` bits that lead to the node.  Recursion is
 * as deep as a size has bits.
 */
static void audit_tree(struct arena *a, unsigned bin, struct chunk *node, struct chunk *parent,
                       size_t path, unsigned depth, struct tally *t)
{
	struct chunk *c = node;

	if (node == NULL)
		return;
	CHECK(tree_parent(node) == parent);
	CHECK(depth == 0 || chunk_size(node) << bin_tree_shift(bin) >> (64 - depth) == path);
	do {
		audit_free_chunk(a, c, t);
		CHECK(chunk_size(c) == chunk_size(node) && large_bin(chunk_size(c)) == bin);
		CHECK(c->fd->bk == c && (c == node || tree_parent(c) == NULL));
		c = c->fd;
	} while (c != node);
	CHECK(binmap_next(a, bin) == bin);
	audit_tree(a, bin, node->fd_nextsize, node, path << 1, depth + 1, t);
	audit_tree(a, bin, node->bk_nextsize, node, path << 1 | 1, depth + 1, t);
}

static void audit_dirty_list(struct arena *a, const struct tally *t)
{
	size_t bytes = 0;

	for (struct dirty_chunk *d = a->dirty_newest; d != NULL; d = d->older) {
		CHECK(d->lo < d->hi);
		CHECK(d->older != NULL ? d->older->newer == d : a->dirty_oldest == d);
		bytes += d->hi - d->lo;
	}
	CHECK(bytes == a->dirty_bytes && bytes == t->dirty_bytes);
}

/*
 * From `c` to `end`: sizes lead from chunk to chunk, no two free ones touch
 * (chunk.h I2), and the last is the top or a pair of fence posts.
 */
static void audit_walk(struct arena *a, struct chunk *c, const char *end, struct tally *t)
{
	bool prev_inuse = true;

	while (c != a->top && chunk_at(c, CHUNK_HEADER) != (const struct chunk *)end) {
		size_t size = chunk_size(c);
		bool inuse;

		CHECK((char *)c < end && size >= CHUNK_HEADER && size <= (size_t)(end - (char *)c));
		CHECK(chunk_prev_inuse(c) == prev_inuse);
		inuse = chunk_inuse_at(c, size);
		CHECK(inuse || prev_inuse);
		CHECK(!inuse || size < MIN_CHUNK || (c->size & NON_MAIN_ARENA) == arena_bit(a));
		if (!inuse) {
			t->free_bytes += size;
			t->free_chunks++;
		}
		prev_inuse = inuse;
		c = chunk_at(c, size);
	}
	CHECK(c != a->top || prev_inuse);
}

/* Returns their bytes. */
static size_t audit_fast(struct arena *a)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < FAST_BINS; i++) {
		CHECK(a->fastbins[i] == NULL || (a->have_fastchunks && !policy_is_default()));
		for (struct chunk *c = a->fastbins[i]; c != NULL; c = c->fd) {
			CHECK(fast_bin(chunk_size(c)) == i);
			CHECK(chunk_inuse_at(c, chunk_size(c)));
			bytes += chunk_size(c);
		}
	}
	return bytes;
}

/* Regions of the main arena that lie before a foreign break are not walked: only
 * the bins know what is free there. */
static void audit_memory(struct arena *a, const struct tally *binned)
{
	struct tally walked = { 0 };
	char *end = (char *)a->top + chunk_size(a->top);

	if (arena_is_main(a)) {
		if (a->region == NULL)
			return;
		audit_walk(a, (struct chunk *)a->region, end, &walked);
		CHECK(walked.free_bytes <= binned->free_bytes);
		if (a->regions == 1)
			CHECK(walked.free_bytes == binned->free_bytes &&
			      walked.free_chunks == binned->free_chunks);
		return;
	}
	for (struct heap_info *h = subheap_of(a->top); h != NULL; h = h->prev)
		audit_walk(a, subheap_first_chunk(h), (char *)h + h->size, &walked);
	CHECK(walked.free_bytes == binned->free_bytes && walked.free_chunks == binned->free_chunks);
	CHECK(a->top_claimed != 0 || end == (char *)subheap_of(a->top) + subheap_of(a->top)->size);
}

void audit_arena(struct arena *a)
{
	struct tally binned = { 0 };
	size_t fast = audit_fast(a);

	for (unsigned bin = UNSORTED; bin < BINS - 1; bin++)
		audit_list(a, bin, &binned);
	for (unsigned bin = SMALL_BINS; bin < BINS - 1; bin++)
		audit_tree(a, bin, a->trees[bin - SMALL_BINS], TREE_ROOT, 0, 0, &binned);
	CHECK(!policy_is_default() || extent_dirty_bytes(a) >= a->dirty_bytes);
	audit_dirty_list(a, &binned);
	CHECK(a->binned_bytes == fast + binned.free_bytes && a->gone_bytes == binned.gone_bytes);
	CHECK(chunk_prev_inuse(a->top) || a->top == arena_initial_top(a));
	audit_memory(a, &binned);
	audit_slabs(a);
}
