/*
 * A large bin of the default policy: a bitwise tree of sizes.  Layer: heap.
 *
 * Each node is the first free chunk of its size; others of that size hang on a
 * ring through its fd and bk.  Below a node, the next bit of the size (from the
 * highest that varies within the bin downwards) chooses child 0 or 1.  A node's
 * own size is any that shares the bits of its path, so a tree is at most as deep
 * as a size has bits, whatever the order of insertion, and never rebalanced.
 * Source: Doug Lea's malloc 2.8, treebins.
 *
 * I1: every size below child b has bit b at that level.
 * I2: `parent` is NULL for chunks on a ring or in the unsorted bin, TREE_ROOT
 *     for a root.
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_TREE_H
#define CEDE_HEAP_TREE_H

#include "heap/chunk.h"

struct tree_chunk {
	struct chunk chunk; /* fd_nextsize and bk_nextsize: children 0 and 1 */
	struct chunk *parent;
};

#define TREE_ROOT ((struct chunk *)1)

static inline struct chunk *tree_parent(const struct chunk *c)
{
	return ((const struct tree_chunk *)c)->parent;
}

/* A chunk that lies in no tree: on a ring, or in the unsorted bin. */
static inline void tree_mark_outside(struct chunk *c)
{
	((struct tree_chunk *)c)->parent = NULL;
}

/* `shift` brings the highest varying bit of the bin's sizes to bit 63. */
void tree_insert(struct chunk **root, unsigned shift, struct chunk *c, size_t size);

/* Takes out a node; the next of its ring, when there is one, replaces it. */
void tree_remove(struct chunk **root, struct chunk *c);

/* The smallest with at least `size` bytes, not the node when a ring hangs on it;
 * NULL when there is none. */
struct chunk *tree_best(struct chunk *root, unsigned shift, size_t size);

/* The smallest, likewise. */
struct chunk *tree_least(struct chunk *root);

#endif
