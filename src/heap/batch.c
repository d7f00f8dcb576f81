#include "heap/batch.h"

#include "heap/audit.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/owner.h"
#include "heap/purger.h"

static unsigned chunks_from(struct arena *a, unsigned class, void **blocks, unsigned want)
{
	unsigned got = 0;

	while (got < want) {
		struct chunk *c = alloc_chunk(a, request_to_size(class_sizes[class]));

		if (c == NULL)
			break;
		/* The arena cannot grow just now: one such block, and none to keep. */
		if (chunk_is_mapped(c) && got > 0) {
			mapped_free(c, "malloc");
			break;
		}
		blocks[got++] = chunk_to_block(c);
		if (chunk_is_mapped(c))
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
static void free_cached_chunk(struct arena *a, void *block, uint32_t least)
{
	struct chunk *c = block_to_chunk(block);

	if (unlikely(chunk_usable(c) < least))
		misuse("free_sized", block, "the block is smaller than the size given");
	if (a != NULL)
		free_chunk(a, c);
	else
		mapped_free(c, "free");
}

/* The blocks at the front of a row that are of arena a; returns how many. */
static unsigned give(struct arena *a, void **blocks, unsigned count, uint32_t least)
{
	unsigned given = 0;

	do {
		unsigned of_slabs = slab_give(a, blocks + given, count - given, least);

		given += of_slabs;
		if (of_slabs == 0)
			free_cached_chunk(a, blocks[given++], least);
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
			free_cached_chunk(NULL, blocks[i++], least);
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
