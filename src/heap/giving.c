#include "heap/giving.h"

#include "heap/cache.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/heap.h"
#include "heap/purger.h"
#include "heap/slab_claim.h"
#include "heap/spare.h"
#include "os/os.h"
#include "purge/regret.h"

/* How often a release looks at an arena again. */
#define RELEASE_ROUNDS 3

struct lock purge_lock = LOCK_INIT(RANK_PURGE);
static struct claim claim; /* guarded by purge_lock */
struct claim *const giving_claim = &claim;

bool giving_is_locked(void)
{
	return __atomic_load_n(&purge_counts.locked, __ATOMIC_RELAXED) != 0;
}

size_t giving_discard(void)
{
	uint64_t calls = 0;
	size_t gone, want = 0;

	if (claim.count == 0)
		return 0;
	for (unsigned i = 0; i < claim.count; i++)
		want += claim.ranges[i].size;
	/* No thread waits for the system to be done. */
	ASSERT(!arena_any_mine());
	if (claim.of_slabs)
		slab_claim_split(&claim, &calls);
	gone = os_discard(claim.ranges, claim.count, &calls);
	if (unlikely(gone == 0) && os_memory_is_locked())
		__atomic_store_n(&purge_counts.locked, true, __ATOMIC_RELAXED);
	else if (unlikely(gone < want))
		__atomic_store_n(&extent_unsure, true, __ATOMIC_RELAXED);
	claim_return(&claim, !giving_is_locked());
	__atomic_add_fetch(&purge_counts.calls, calls, __ATOMIC_RELAXED);
	__atomic_add_fetch(&purge_counts.bytes, gone, __ATOMIC_RELAXED);
	return gone;
}

bool giving_begin(void)
{
	lock_acquire(&purge_lock);
	/* The child of a fork may find its parent's claim, half done. */
	if (claim.count != 0)
		claim_return(&claim, false);
	if (likely(!giving_is_locked()))
		return true;
	lock_release(&purge_lock);
	return false;
}

void giving_look_at_locked(void)
{
	if (likely(!giving_is_locked()))
		return;
	lock_acquire(&purge_lock);
	__atomic_store_n(&purge_counts.locked, os_memory_is_locked(), __ATOMIC_RELAXED);
	lock_release(&purge_lock);
}

/* Gives up to `want` bytes of an arena's chunks back; returns what the system took. */
static size_t give_back(struct arena *a, size_t want)
{
	size_t gone = 0, taken = SIZE_MAX;

	while (want >= os_page_size && taken != 0 && giving_begin()) {
		taken = claim_take(&claim, a, want);
		gone += giving_discard();
		lock_release(&purge_lock);
		want -= size_min(taken, want);
	}
	return gone;
}

/* The same of slabs that were queued at `tick` or before, until `most` bytes went. */
static size_t give_back_slabs(struct arena *a, uint32_t tick, size_t most)
{
	size_t gone = 0;
	bool more = true;

	while (more && gone < most && giving_begin()) {
		more = slab_claim_take(&claim, a, tick, true, most - gone);
		gone += giving_discard();
		lock_release(&purge_lock);
	}
	return gone;
}

bool giving_scrub(void)
{
	uint64_t calls = 0;
	bool any;

	if (unlikely(giving_is_locked()))
		return false;
	lock_acquire(&purge_lock);
	any = window_scrub(&calls);
	lock_release(&purge_lock);
	__atomic_add_fetch(&purge_counts.calls, calls, __ATOMIC_RELAXED);
	return any;
}

size_t giving_spares(size_t want, struct regret *due)
{
	size_t gone = 0, taken;

	while (want - gone >= os_page_size) {
		lock_acquire(&purge_lock);
		taken = spare_release(want - gone);
		if (due != NULL)
			regret_gave(due, taken / os_page_size);
		lock_release(&purge_lock);
		if (taken == 0)
			break;
		gone += taken;
	}
	__atomic_add_fetch(&purge_counts.bytes, gone, __ATOMIC_RELAXED);
	return gone;
}

bool giving_may_wait(void)
{
	/* The purger itself has no record, and no cache. */
	bool at_work = thread_self != NULL && lock_is_mine(&thread_self->cache_lock);

	return !at_work && !lock_is_mine(&purge_lock) && !arena_any_mine();
}

/* What is queued from now on does not count as queued before. */
static uint32_t next_tick(struct arena *a, size_t *dirty)
{
	uint32_t now;

	lock_acquire(&a->lock);
	free_deferred(a);
	now = ++a->ticks;
	*dirty = extent_dirty_bytes(a);
	lock_release(&a->lock);
	return now;
}

void giving_release_spares(size_t want)
{
	size_t taken = 1;

	while (want >= os_page_size && taken != 0 && lock_try(&purge_lock)) {
		taken = spare_release(want);
		lock_release(&purge_lock);
		want -= taken;
	}
}

/*
 * Up to `max` bytes of an arena.  Once more than once: what merges as it is returned may
 * leave a page, and two runs of pages of a slab that share a block go one at a time.
 * But not for ever beside threads that go on freeing.
 */
static size_t release_arena(struct arena *a, size_t max)
{
	size_t gone = 0, went = 1, dirty;

	for (int round = 0; round < RELEASE_ROUNDS && gone < max && went != 0; round++) {
		uint32_t before = next_tick(a, &dirty) - 1;

		went = give_back(a, size_min(dirty, max - gone));
		if (gone + went < max)
			went += give_back_slabs(a, before, max - gone - went);
		gone += went;
	}
	return gone;
}

size_t giving_release(size_t max)
{
	size_t gone = giving_spares(max, NULL);

	giving_look_at_locked();
	for (struct arena *a = &main_arena; a != NULL && gone < max; a = arena_following(a))
		gone += release_arena(a, max - gone);
	while (giving_scrub())
		;
	return gone;
}

void giving_settle(void)
{
	if (!giving_may_wait())
		return;
	lock_acquire(&purge_lock);
	lock_release(&purge_lock);
}

/*
 * The purge lock is not taken: its holder may be waiting for an arena that this
 * very thread holds, when a signal handler forks.  With all arenas' locks held
 * the claim is whole all the same, and the child puts it back (giving_begin).
 */
void giving_fork_prepare(void)
{
	purge_lock.kept = lock_is_mine(&purge_lock);
}

void giving_fork_parent(void)
{
	purge_lock.kept = false;
}

void giving_fork_child(void)
{
	lock_fork_child(&purge_lock);
	/* At once, or the arena cannot grow; the chunks can wait (giving_begin), and cost
	 * a child that soon executes another program nothing. */
	if (claim.count != 0 && !claim.of_slabs && !lock_is_mine(&claim.arena->lock))
		claim_return_top(&claim, false);
}
