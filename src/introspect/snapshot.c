#include "introspect/snapshot.h"

#include "heap/bins.h"
#include "heap/extent.h"
#include "heap/spare.h"
#include "heap/subheap.h"

bool snapshot_is_default(void)
{
	return policy_is_default();
}

size_t snapshot_arena_count(void)
{
	return arena_count();
}

static void add(struct bin_sizes *s, size_t size)
{
	if (s->count == 0 || size < s->from)
		s->from = size;
	s->to = size_max(s->to, size);
	s->total += size;
	s->count++;
}

static void add_list(struct bin_sizes *s, const struct chunk *head)
{
	for (const struct chunk *c = head->bk; c != head; c = c->bk)
		add(s, chunk_size(c));
}

static void add_tree(struct bin_sizes *s, const struct chunk *node)
{
	const struct chunk *c = node;

	if (node == NULL)
		return;
	do {
		add(s, chunk_size(c));
		c = c->fd;
	} while (c != node);
	add_tree(s, node->fd_nextsize);
	add_tree(s, node->bk_nextsize);
}

static void count_heaps(const struct arena *a, struct arena_snapshot *out)
{
	if (arena_is_main(a)) {
		out->address_space = out->address_space_writable = a->system_bytes;
		return;
	}
	for (const struct heap_info *h = subheap_of(a->top); h != NULL; h = h->prev) {
		out->heaps++;
		out->address_space += h->size;
		out->address_space_writable += h->accessible;
	}
}

static void fill(struct arena *a, struct arena_snapshot *out)
{
	/* What the purger has taken aside is free, and of the top when it is its. */
	out->top_bytes = chunk_size(a->top) + a->top_claimed;
	out->free_bytes = out->top_bytes + a->claimed_bytes;
	out->free_chunks = 1;
	for (unsigned i = 0; i < FAST_BINS; i++) {
		for (const struct chunk *c = a->fastbins[i]; c != NULL; c = c->fd)
			add(&out->fast[i], chunk_size(c));
		out->fast_bytes += out->fast[i].total;
		out->fast_chunks += out->fast[i].count;
	}
	for (unsigned bin = UNSORTED; bin < BINS - 1; bin++) {
		add_list(&out->bins[bin], bin_head(a, bin));
		if (bin >= SMALL_BINS)
			add_tree(&out->bins[bin], a->trees[bin - SMALL_BINS]);
		out->free_bytes += out->bins[bin].total;
		out->free_chunks += out->bins[bin].count;
	}
	out->system_bytes = a->system_bytes;
	out->max_system_bytes = a->max_system_bytes;
	out->dirty_bytes = extent_dirty_bytes(a);
	out->lock_waits = a->lock.waits;
	out->lock_sleeps = a->lock.sleeps;
	out->is_main = arena_is_main(a);
	count_heaps(a, out);
}

bool snapshot_arena(size_t index, struct arena_snapshot *out)
{
	struct arena *a = &main_arena;

	while (a != NULL && index-- != 0)
		a = arena_following(a);
	if (a == NULL)
		return false;
	__builtin_memset(out, 0, sizeof(*out));
	lock_acquire(&a->lock);
	fill(a, out);
	lock_release(&a->lock);
	return true;
}

void snapshot_mapped(struct mapped_snapshot *out)
{
	out->blocks = __atomic_load_n(&mapped.blocks, __ATOMIC_RELAXED);
	out->bytes = __atomic_load_n(&mapped.bytes, __ATOMIC_RELAXED);
	out->max_blocks = __atomic_load_n(&mapped.max_blocks, __ATOMIC_RELAXED);
	out->max_bytes = __atomic_load_n(&mapped.max_bytes, __ATOMIC_RELAXED);
	out->spares = spare_count();
	out->spare_bytes = spare_bytes();
}
