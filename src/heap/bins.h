/*
 * The bins of an arena: where free chunks wait.  Layer: heap.
 *
 *   1        unsorted: chunks just freed, and remainders, in order of arrival
 *   2..63    small: one size each, 32 to 1008 bytes, first in first out
 *   64..126  large: a range of sizes each
 *
 * Small and unsorted bins are circular lists through fd and bk.  A large bin of
 * classic is such a list too, largest chunk first; the first chunk of each size
 * is also on a ring through fd_nextsize (towards smaller) and bk_nextsize, so a
 * search steps over equal sizes.  That step is linear in the number of sizes,
 * so a large bin of the default policy is a tree instead (tree.h).
 *
 * A bit of binmap is set while its bin may hold chunks; it is cleared when a
 * search finds the bin empty.
 *
 * I1: fd->bk and bk->fd of every listed chunk lead back to it.
 * I2: a small bin holds chunks of its size, a large one of its range.
 * Asserted by audit_arena(), and I1 by every unlink in release builds.
 */
#ifndef CEDE_HEAP_BINS_H
#define CEDE_HEAP_BINS_H

#include "heap/heap.h"
#include "heap/tree.h"

#define SMALL_LIMIT ((size_t)1024)
#define UNSORTED    1u

static inline bool size_is_small(size_t size)
{
	return size < SMALL_LIMIT;
}

static inline unsigned small_bin(size_t size)
{
	return (unsigned)(size >> 4);
}

/* ptmalloc's spacing: 64, 512, 4096, 32768 and 262144 bytes, then all the rest. */
static inline unsigned large_bin(size_t size)
{
	if (size >> 6 <= 48)
		return 48 + (unsigned)(size >> 6);
	if (size >> 9 <= 20)
		return 91 + (unsigned)(size >> 9);
	if (size >> 12 <= 10)
		return 110 + (unsigned)(size >> 12);
	if (size >> 15 <= 4)
		return 119 + (unsigned)(size >> 15);
	if (size >> 18 <= 2)
		return 124 + (unsigned)(size >> 18);
	return 126;
}

static inline unsigned bin_of_size(size_t size)
{
	return size_is_small(size) ? small_bin(size) : large_bin(size);
}

static inline unsigned fast_bin(size_t size)
{
	return (unsigned)(size >> 4) - 2;
}

/*
 * A list's head, read as a chunk: only its fd and bk exist, and they are the two
 * words of the bin.
 */
static inline struct chunk *bin_head(struct arena *a, unsigned bin)
{
	return (struct chunk *)((char *)&a->bins[2 * (bin - 1)] - offsetof(struct chunk, fd));
}

static inline void binmap_set(struct arena *a, unsigned bin)
{
	a->binmap[bin / BINMAP_BITS] |= 1u << bin % BINMAP_BITS;
}

static inline void binmap_clear(struct arena *a, unsigned bin)
{
	a->binmap[bin / BINMAP_BITS] &= ~(1u << bin % BINMAP_BITS);
}

/* The first bin >= `bin` whose bit is set, or BINS; bin < BINS. */
static inline unsigned binmap_next(const struct arena *a, unsigned bin)
{
	unsigned word = bin / BINMAP_BITS;
	uint32_t bits = a->binmap[word] & (~0u << bin % BINMAP_BITS);

	while (bits == 0) {
		if (++word == BINMAP_SIZE)
			return BINS;
		bits = a->binmap[word];
	}
	return word * BINMAP_BITS + (unsigned)__builtin_ctz(bits);
}

/* ---- lists ---- */

_Noreturn void bin_corrupted(const struct chunk *c);
_Noreturn void bin_corrupted_size(const struct chunk *c);

static inline void bin_list_insert(struct chunk *before, struct chunk *c)
{
	struct chunk *after = before->fd;

	if (unlikely(after->bk != before))
		bin_corrupted(after);
	c->fd = after;
	c->bk = before;
	after->bk = c;
	before->fd = c;
}

static inline void bin_unlink_listed(struct chunk *c)
{
	struct chunk *fd = c->fd, *bk = c->bk;

	if (unlikely(fd->bk != c || bk->fd != c))
		bin_corrupted(c);
	fd->bk = bk;
	bk->fd = fd;
}

/* ---- all bins ---- */

/*
 * Puts a free chunk of `size` at the young end of the unsorted bin.  A large one
 * has no third link there, which is how bin_unlink knows it.
 */
static inline void bin_insert_unsorted(struct arena *a, struct chunk *c, size_t size)
{
	if (!size_is_small(size)) {
		if (policy_is_default())
			tree_mark_outside(c);
		else
			c->fd_nextsize = NULL;
	}
	bin_list_insert(bin_head(a, UNSORTED), c);
	a->binned_bytes += size;
}

/* Puts it into the small or large bin of its size, and sets the bin's bit. */
void bin_insert(struct arena *a, struct chunk *c, size_t size);

/* A large chunk that is on the size ring (classic) or in the tree (default). */
void bin_unlink_large(struct arena *a, struct chunk *c, size_t size);

/* Takes a free chunk from whatever bin holds it. */
static inline void bin_unlink(struct arena *a, struct chunk *c)
{
	size_t size = chunk_size(c);

	if (unlikely(chunk_at(c, size)->prev_size != size))
		bin_corrupted_size(c);
	a->binned_bytes -= size;
	if (!size_is_small(size) &&
	    (policy_is_default() ? tree_parent(c) != NULL : c->fd_nextsize != NULL))
		bin_unlink_large(a, c, size);
	else
		bin_unlink_listed(c);
}

/* Brings the highest bit that varies among the sizes of a large bin to bit 63. */
unsigned bin_tree_shift(unsigned bin);

/* The smallest chunk of a large bin that has `size` bytes, or NULL. */
struct chunk *large_bin_best(struct arena *a, unsigned bin, size_t size);

/* The chunk a search should take from a bin, or NULL when it is empty. */
struct chunk *bin_least(struct arena *a, unsigned bin);

#endif
