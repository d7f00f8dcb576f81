#include "support/slabs.h"

#include "heap/audit.h"
#include "heap/heap.h"
#include "support/pattern.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define PAGE ((size_t)4096)

struct arena *slabs_arena;
struct claim slabs_claimed;

void slabs_start(void)
{
	slabs_arena = script_heap(POLICY_DEFAULT);
}

void slabs_audit(void)
{
	lock_acquire(&slabs_arena->lock);
	audit_arena(slabs_arena);
	lock_release(&slabs_arena->lock);
}

/* With the arena's lock, as all that calls slab.h. */
void slabs_take(unsigned class, char **to, unsigned count)
{
	lock_acquire(&slabs_arena->lock);
	EXPECT(slab_take(slabs_arena, class, (void **)to, count) == count);
	lock_release(&slabs_arena->lock);
	for (unsigned i = 0; i < count; i++)
		pattern_fill(to[i], class_sizes[class], (uintptr_t)to[i]);
}

void slabs_check(const char *block, size_t size)
{
	EXPECT(pattern_match(block, size, (uintptr_t)block) == size);
}

void slabs_give(char *block)
{
	slabs_check(block, slab_at(block)->size);
	lock_acquire(&slabs_arena->lock);
	free_block(slabs_arena, block);
	lock_release(&slabs_arena->lock);
}

unsigned slabs_blocks_of(unsigned class)
{
	return (unsigned)(slab_class_units(class_sizes[class]) * UNIT / class_sizes[class]);
}

/* ---- the purger's part ---- */

bool slabs_claim(uint32_t tick, bool at_once)
{
	bool looked = slab_claim_take(&slabs_claimed, slabs_arena, tick, at_once, SIZE_MAX);

	EXPECT(slabs_claimed.count <= OS_DISCARD_RANGES);
	slabs_audit();
	return looked;
}

size_t slabs_discard(void)
{
	uint64_t calls = 0;
	size_t gone = slabs_claimed.count == 0 ? 0 : os_discard(slabs_claimed.ranges, slabs_claimed.count, &calls);

	claim_return(&slabs_claimed, true);
	slabs_audit();
	return gone;
}

/* One pass over what was queued at `tick` or before. */
size_t slabs_pass(uint32_t tick, bool at_once)
{
	size_t gone = 0;

	while (slabs_claim(tick, at_once))
		gone += slabs_discard();
	return gone;
}

size_t slabs_tick(void)
{
	slabs_arena->ticks++;
	return slabs_pass(slabs_arena->ticks - SLAB_TICKS, false);
}

size_t slabs_ticks(unsigned count)
{
	size_t gone = 0;

	while (count-- > 0)
		gone += slabs_tick();
	return gone;
}

/* What malloc_trim does. */
size_t slabs_release(void)
{
	slabs_arena->ticks++;
	return slabs_pass(slabs_arena->ticks - 1, true);
}

size_t slabs_resident(const void *block)
{
	const struct slab *s = slab_at(block);

	return os_resident(slab_start(s), s->units * UNIT);
}

/* Each page of a block's slab is resident when a block in use is on it, or not at all. */
void slabs_keep_live_pages(const struct slab *s)
{
	for (size_t page = 0; page < s->units * UNIT; page += PAGE) {
		uint32_t first = slab_index(s, page), last = slab_index(s, page + PAGE - 1);
		bool live = false;

		for (uint32_t i = first; i <= last && i < s->blocks; i++)
			live |= !(s->bits[i / 64] >> i % 64 & 1);
		EXPECT((os_resident(slab_start(s) + page, PAGE) != 0) == live);
	}
}
