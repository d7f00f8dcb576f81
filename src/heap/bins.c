#include "heap/bins.h"

#include "heap/misuse.h"

_Noreturn COLD void bin_corrupted(const struct chunk *c)
{
	misuse("heap", chunk_to_block(c), "corrupted links of a free chunk");
}

/* ---- large bins of classic: the list in order of size, and the size ring ---- */

static void ring_insert(struct chunk *smaller, struct chunk *c)
{
	struct chunk *larger = smaller->bk_nextsize;

	if (unlikely(larger->fd_nextsize != smaller))
		misuse("heap", chunk_to_block(smaller), "corrupted links of a free large chunk");
	c->fd_nextsize = smaller;
	c->bk_nextsize = larger;
	smaller->bk_nextsize = larger->fd_nextsize = c;
}

static void sorted_insert(struct chunk *head, struct chunk *c, size_t size)
{
	struct chunk *at = head->fd; /* the largest */

	if (at == head) {
		c->fd_nextsize = c->bk_nextsize = c;
		bin_list_insert(head, c);
		return;
	}
	if (size < chunk_size(head->bk)) {
		/* Smaller than all: the ring closes on the largest. */
		ring_insert(at, c);
		bin_list_insert(head->bk, c);
		return;
	}
	while (size < chunk_size(at))
		at = at->fd_nextsize;
	if (size == chunk_size(at)) {
		/* Second of its size, so that the ring needs no change. */
		bin_list_insert(at, c);
		c->fd_nextsize = NULL;
	} else {
		ring_insert(at, c);
		bin_list_insert(at->bk, c);
	}
}

static void ring_unlink(struct chunk *c)
{
	struct chunk *smaller = c->fd_nextsize, *larger = c->bk_nextsize, *heir = c->fd;

	if (unlikely(smaller->bk_nextsize != c || larger->fd_nextsize != c))
		misuse("heap", chunk_to_block(c), "corrupted links of a free large chunk");
	/* c is off the list already.  Off the ring are only chunks of a size whose
	 * first was c (the head's fd_nextsize is a word of the next bin, not NULL). */
	if (heir->fd_nextsize == NULL) {
		if (smaller == c) {
			heir->fd_nextsize = heir->bk_nextsize = heir;
			return;
		}
		heir->fd_nextsize = smaller;
		heir->bk_nextsize = larger;
		smaller->bk_nextsize = larger->fd_nextsize = heir;
		return;
	}
	smaller->bk_nextsize = larger;
	larger->fd_nextsize = smaller;
}

static struct chunk *sorted_best(struct chunk *head, size_t size)
{
	struct chunk *c = head->fd;

	if (c == head || chunk_size(c) < size)
		return NULL;
	c = c->bk_nextsize; /* the smallest; its bk_nextsize leads up */
	while (chunk_size(c) < size)
		c = c->bk_nextsize;
	/* Not the first of its size when there is another. */
	if (c != head->bk && c->size == c->fd->size)
		c = c->fd;
	return c;
}

/* ---- both policies ---- */

unsigned bin_tree_shift(unsigned bin)
{
	if (bin < 97)
		return 63 - 5;
	if (bin < 112)
		return 63 - 8;
	if (bin < 120)
		return 63 - 11;
	if (bin < 124)
		return 63 - 14;
	if (bin < 126)
		return 63 - 17;
	return 63 - 36; /* the last bin has no upper end: beyond 128 GiB the search is
	                   still right, but no longer the best fit */
}

void bin_insert(struct arena *a, struct chunk *c, size_t size)
{
	unsigned bin = bin_of_size(size);

	if (size_is_small(size))
		bin_list_insert(bin_head(a, bin), c);
	else if (policy_is_default())
		tree_insert(&a->trees[bin - SMALL_BINS], bin_tree_shift(bin), c, size);
	else
		sorted_insert(bin_head(a, bin), c, size);
	binmap_set(a, bin);
}

void bin_unlink_large(struct arena *a, struct chunk *c, size_t size)
{
	if (policy_is_default()) {
		tree_remove(&a->trees[large_bin(size) - SMALL_BINS], c);
	} else {
		bin_unlink_listed(c);
		ring_unlink(c);
	}
}

_Noreturn COLD void bin_corrupted_size(const struct chunk *c)
{
	misuse("heap", chunk_to_block(c), "corrupted size of a free chunk");
}

struct chunk *large_bin_best(struct arena *a, unsigned bin, size_t size)
{
	if (policy_is_default())
		return tree_best(a->trees[bin - SMALL_BINS], bin_tree_shift(bin), size);
	return sorted_best(bin_head(a, bin), size);
}

struct chunk *bin_least(struct arena *a, unsigned bin)
{
	struct chunk *head = bin_head(a, bin);

	if (bin >= SMALL_BINS && policy_is_default())
		return tree_least(a->trees[bin - SMALL_BINS]);
	return head->bk == head ? NULL : head->bk;
}
