#include "heap/batch.h"

#include "heap/audit.h"
#include "heap/bins.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"

/*
 * What a chunk was cut from follows it, or the top does: the best fit for the next ones,
 * too.  The chunk grows by as many as there is room for, to `most` times `size`.
 */
static struct chunk *grow(struct arena *a, struct chunk *c, size_t size, unsigned most)
{
	struct chunk *next = chunk_next(c);
	size_t room = chunk_size(next), more;

	if (next == a->top)
		room -= MIN_CHUNK;
	else if (size_is_small(size) || chunk_inuse_at(next, room))
		return c;
	more = size_min(room / size, most - 1);
	return more == 0 ? c : realloc_in_place(a, c, chunk_size(c) + more * size);
}

/* Cuts a chunk into blocks of `size`, its last the rest; returns how many. */
static unsigned cut(struct arena *a, struct chunk *c, size_t size, void **blocks)
{
	unsigned count = 0;

	for (size_t have = chunk_size(c); have >= 2 * size; have -= size) {
		struct chunk *rest = chunk_at(c, size);

		rest->size = (have - size) | PREV_INUSE | arena_bit(a);
		c->size = size | (c->size & SIZE_BITS);
		blocks[count++] = chunk_to_block(c);
		c = rest;
	}
	blocks[count++] = chunk_to_block(c);
	return count;
}

static unsigned chunks_from(struct arena *a, unsigned class, void **blocks, unsigned want)
{
	size_t size = request_to_size(class_sizes[class]);
	unsigned got = 0;

	while (got < want) {
		struct chunk *c = alloc_chunk(a, size);

		if (c == NULL)
			break;
		if (!chunk_is_mapped(c)) {
			got += cut(a, grow(a, c, size, want - got), size, blocks + got);
			continue;
		}
		/* The arena cannot grow just now: one such block, and none to keep. */
		if (got > 0)
			mapped_free(c, "malloc");
		else
			blocks[got++] = chunk_to_block(c);
		break;
	}
	return got;
}

unsigned batch_take(struct arena *a, unsigned class, void **blocks, unsigned want, bool *chunks)
{
	unsigned got = 0;

	*chunks = false;
	if (!lock_try(&a->lock) && !arena_enter_slow(a))
		return 0;
	if (class < SLAB_CLASSES && slabs_are_on())
		got = slab_take(a, class, blocks, want);
	if (got == 0) {
		got = chunks_from(a, class, blocks, want);
		*chunks = true;
	}
	AUDIT(a);
	lock_release(&a->lock);
	return got;
}

/* The arena of a cached block; NULL: it is mapped by itself. */
static struct arena *arena_of(void *block)
{
	if (unlikely(((uintptr_t)block & (CHUNK_ALIGN - 1)) != 0))
		misuse("free_sized", block, "invalid pointer: not a multiple of 16");
	return likely(window_has(block)) ? slab_of(block, "free")->arena
	                                 : owner_of(block_to_chunk(block), "free");
}

/* free_sized took the program's word for what its block holds. */
static struct chunk *cached_chunk(void *block, uint32_t least)
{
	struct chunk *c = block_to_chunk(block);

	if (unlikely(chunk_usable(c) < least))
		misuse("free_sized", block, "the block is smaller than the size given");
	return c;
}

/* Whether the second of two chunks lies behind the first, which is in use. */
static bool follows(const struct arena *a, const struct chunk *c, const struct chunk *second)
{
	return chunk_next(c) == second && second != a->top && chunk_prev_inuse(second);
}

/*
 * Frees the chunks at the front of a row, of which the first is of arena a; returns how
 * many.  Those that lie side by side, as they were cut, are freed as one.
 */
static unsigned free_chunks(struct arena *a, void **blocks, unsigned count, uint32_t least)
{
	struct chunk *c = cached_chunk(blocks[0], least);
	unsigned n = 1;

	for (; n < count && arena_of(blocks[n]) == a && !window_has(blocks[n]); n++) {
		struct chunk *other = cached_chunk(blocks[n], least), *low = c, *high = other;

		if (other < c) {
			low = other;
			high = c;
		}
		if (!follows(a, low, high))
			break;
		low->size = (chunk_size(low) + chunk_size(high)) | (low->size & SIZE_BITS);
		high->size = ABSORBED;
		c = low;
	}
	free_chunk(a, c);
	return n;
}

/* The blocks at the front of a row that are of arena a; returns how many. */
static unsigned give(struct arena *a, void **blocks, unsigned count, uint32_t least)
{
	unsigned given = 0;

	do {
		unsigned of_slabs = slab_give(a, blocks + given, count - given, least);

		given += of_slabs;
		if (of_slabs == 0)
			given += free_chunks(a, blocks + given, count - given, least);
	} while (given < count && arena_of(blocks[given]) == a);
	return given;
}

bool batch_give(unsigned class, void **blocks, unsigned count)
{
	uint32_t least = class_sizes[class];
	bool tell = false;

	for (unsigned i = 0; i < count;) {
		struct arena *a = arena_of(blocks[i]);

		if (a == NULL) {
			mapped_free(cached_chunk(blocks[i++], least), "free");
			continue;
		}
		if (!lock_try(&a->lock) && !arena_enter_slow(a)) {
			/* In a handler that interrupted this thread in an arena. */
			free_defer(a, blocks[i++]);
			continue;
		}
		i += give(a, blocks + i, count - i, least);
		tell |= purger_should_tell(a);
		AUDIT(a);
		lock_release(&a->lock);
	}
	return tell;
}
