#include "heap/tree.h"

#include "heap/misuse.h"

static struct chunk **child(struct chunk *c, unsigned which)
{
	return which == 0 ? &c->fd_nextsize : &c->bk_nextsize;
}

static _Noreturn COLD void corrupted(const struct chunk *c)
{
	misuse("heap", chunk_to_block(c), "corrupted links of a free large chunk");
}

static void set_parent(struct chunk *c, struct chunk *parent)
{
	((struct tree_chunk *)c)->parent = parent;
}

static void insert_leaf(struct chunk **slot, struct chunk *parent, struct chunk *c)
{
	*slot = c;
	set_parent(c, parent);
	c->fd_nextsize = c->bk_nextsize = NULL;
	c->fd = c->bk = c;
}

static void insert_ring(struct chunk *node, struct chunk *c)
{
	struct chunk *next = node->fd;

	if (unlikely(next->bk != node))
		corrupted(node);
	c->fd = next;
	c->bk = node;
	next->bk = node->fd = c;
	tree_mark_outside(c);
}

void tree_insert(struct chunk **root, unsigned shift, struct chunk *c, size_t size)
{
	size_t bits = size << shift;
	struct chunk *node = *root;

	if (node == NULL) {
		insert_leaf(root, TREE_ROOT, c);
		return;
	}
	while (chunk_size(node) != size) {
		struct chunk **slot = child(node, (unsigned)(bits >> 63));

		if (*slot == NULL) {
			insert_leaf(slot, node, c);
			return;
		}
		node = *slot;
		bits <<= 1;
	}
	insert_ring(node, c);
}

/* Puts `heir` (or nothing) where `c` was, children and all. */
static void replace(struct chunk **root, struct chunk *c, struct chunk *heir)
{
	struct chunk *parent = tree_parent(c);

	if (parent == TREE_ROOT ? *root != c
	                        : parent->fd_nextsize != c && parent->bk_nextsize != c)
		corrupted(c);
	if (parent == TREE_ROOT)
		*root = heir;
	else
		*child(parent, parent->bk_nextsize == c) = heir;
	if (heir == NULL)
		return;
	set_parent(heir, parent);
	for (unsigned i = 0; i < 2; i++) {
		struct chunk *below = *child(c, i);

		*child(heir, i) = below;
		if (below == NULL)
			continue;
		if (unlikely(tree_parent(below) != c))
			corrupted(c);
		set_parent(below, heir);
	}
}

void tree_remove(struct chunk **root, struct chunk *c)
{
	struct chunk *heir = c->fd;

	if (heir != c) {
		struct chunk *last = c->bk;

		if (unlikely(heir->bk != c || last->fd != c))
			corrupted(c);
		last->fd = heir;
		heir->bk = last;
	} else {
		/* Any leaf below shares the path: the first one found is the heir. */
		struct chunk **slot = NULL;

		heir = NULL;
		for (struct chunk *at = c;;) {
			struct chunk **next = child(at, at->bk_nextsize != NULL);

			if (*next == NULL)
				break;
			if (unlikely(tree_parent(*next) != at))
				corrupted(at);
			slot = next;
			at = *next;
		}
		if (slot != NULL) {
			heir = *slot;
			*slot = NULL;
		}
	}
	replace(root, c, heir);
}

/* From the ring when there is one: taking it leaves the tree as it is. */
static struct chunk *easiest(struct chunk *node)
{
	return node != NULL ? node->fd : NULL;
}

/* The better of `best` and the smallest chunk below `node`. */
static struct chunk *least_below(struct chunk *node, struct chunk *best)
{
	while (node != NULL) {
		if (best == NULL || chunk_size(node) < chunk_size(best))
			best = node;
		node = node->fd_nextsize != NULL ? node->fd_nextsize : node->bk_nextsize;
	}
	return best;
}

struct chunk *tree_best(struct chunk *root, unsigned shift, size_t size)
{
	size_t bits = size << shift;
	struct chunk *best = NULL, *larger = NULL;

	/* Along the path of `size`; `larger` is the deepest subtree left to its
	 * right, all of whose sizes are larger, and smaller than any other's. */
	for (struct chunk *node = root; node != NULL; bits <<= 1) {
		size_t have = chunk_size(node);
		struct chunk *right = node->bk_nextsize;

		if (have >= size && (best == NULL || have < chunk_size(best))) {
			best = node;
			if (have == size)
				return easiest(best);
		}
		node = *child(node, (unsigned)(bits >> 63));
		if (right != NULL && right != node)
			larger = right;
	}
	return easiest(least_below(larger, best));
}

struct chunk *tree_least(struct chunk *root)
{
	return easiest(least_below(root, NULL));
}
