#include "heap/purger.h"

#include "heap/cache.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/heap.h"
#include "heap/slab_claim.h"
#include "heap/spare.h"
#include "os/os.h"
#include "purge/regret.h"

/*
 * After a relief, ticks until the next: a second.  A pool of 100 MiB that the program takes
 * and frees all the time then costs it 6% of a CPU to fault in again; five times a
 * second would be 30.
 */
#define RELIEF_TICKS 20

/* How often a release looks at an arena again. */
#define RELEASE_ROUNDS 3

/* Without the thread: how often a free looks at the clock while nothing is due, about a
 * millisecond; and what it gives back at most. */
#define LOOK_CYCLES 2000000
#define SLICE_BYTES SEGMENT

/* After how long the system is asked again for what it refused, doubled each time. */
#define RETRY_FIRST_MS  1000
#define RETRY_MOST_MS   64000 /* the thread */
#define LOCKED_MOST_MS  8000  /* whether memory is still locked */

struct purge_counts purge_counts = { .delay_ms = DECAY_TICKS * DECAY_TICK_MS };
uint32_t purger_state;         /* enum purger_state; atomic, a futex */
uint32_t purger_asked;

static struct lock purge_lock = LOCK_INIT(RANK_PURGE);
static struct claim claim;     /* guarded by purge_lock */
struct claim *const purger_claim = &claim;
static struct regret regret;   /* likewise, as what follows */
static unsigned delay = DECAY_TICKS;
static size_t wanted_before;   /* bytes, until the last tick */
static uint64_t ticked_ms;     /* when that ended */
static uint64_t last_tick_ms;  /* that a free ended; atomic */
static uint64_t last_look;     /* cycles, likewise */
static bool slices_left;       /* of what is due, likewise */
static uint64_t retry_wait_ms; /* of who made the state AWAKE */

enum purger_state purger_now(void)
{
	if (!settings.background)
		return PURGER_ABSENT;
	return (enum purger_state)__atomic_load_n(&purger_state, __ATOMIC_SEQ_CST);
}

static bool state_change(uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&purger_state, &from, to, false, __ATOMIC_SEQ_CST,
	                                   __ATOMIC_SEQ_CST);
}

void purger_publish(struct arena *a, size_t dirty)
{
	bool each = purger_is_absent() || settings.retain_max != SIZE_MAX;

	__atomic_store_n(&a->dirty_published, dirty, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->retained, purger_retained(a), __ATOMIC_SEQ_CST);
	/* Without the thread every free is a chance to do its work. */
	a->poke_above = each ? 0 : dirty + PURGE_STEP;
}

static bool is_locked(void)
{
	return __atomic_load_n(&purge_counts.locked, __ATOMIC_RELAXED) != 0;
}

/* Gives a claim to the system, then back to its arena; returns the bytes. */
static size_t discard_claim(void)
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
	claim_return(&claim, !is_locked());
	__atomic_add_fetch(&purge_counts.calls, calls, __ATOMIC_RELAXED);
	__atomic_add_fetch(&purge_counts.bytes, gone, __ATOMIC_RELAXED);
	return gone;
}

/* With the purge lock when there may be a claim. */
static bool begin_claim(void)
{
	lock_acquire(&purge_lock);
	/* The child of a fork may find its parent's claim, half done. */
	if (claim.count != 0)
		claim_return(&claim, false);
	if (likely(!is_locked()))
		return true;
	lock_release(&purge_lock);
	return false;
}

/* Memory that was locked may no longer be. */
static void look_at_locked(void)
{
	if (likely(!is_locked()))
		return;
	lock_acquire(&purge_lock);
	__atomic_store_n(&purge_counts.locked, os_memory_is_locked(), __ATOMIC_RELAXED);
	lock_release(&purge_lock);
}

/* Gives up to `want` bytes of an arena's chunks back; returns what the system took. */
static size_t give_back(struct arena *a, size_t want)
{
	size_t gone = 0, taken = SIZE_MAX;

	while (want >= os_page_size && taken != 0 && begin_claim()) {
		taken = claim_take(&claim, a, want);
		gone += discard_claim();
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

	while (more && gone < most && begin_claim()) {
		more = slab_claim_take(&claim, a, tick, true, most - gone);
		gone += discard_claim();
		lock_release(&purge_lock);
	}
	return gone;
}

/* Some of what describes the parts of the window that nobody has; false: there was none. */
static bool scrub_window(void)
{
	uint64_t calls = 0;
	bool any;

	if (unlikely(is_locked()))
		return false;
	lock_acquire(&purge_lock);
	any = window_scrub(&calls);
	lock_release(&purge_lock);
	__atomic_add_fetch(&purge_counts.calls, calls, __ATOMIC_RELAXED);
	return any;
}

/* The same as give_back, of spares; `due`: because of their age. */
static size_t give_back_spares(size_t want, bool due)
{
	size_t gone = 0, taken;

	while (want - gone >= os_page_size) {
		lock_acquire(&purge_lock);
		taken = spare_release(want - gone);
		regret_gave(&regret, due ? taken / os_page_size : 0);
		lock_release(&purge_lock);
		if (taken == 0)
			break;
		gone += taken;
	}
	__atomic_add_fetch(&purge_counts.bytes, gone, __ATOMIC_RELAXED);
	return gone;
}

/* ---- retain_max ---- */

/* Whole pages. */
static size_t above_bound(void)
{
	size_t sum;

	if (likely(settings.retain_max == SIZE_MAX))
		return 0;
	sum = spare_bytes();
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		sum += __atomic_load_n(&a->retained, __ATOMIC_SEQ_CST);
	return sum > settings.retain_max ? align_up(sum - settings.retain_max, os_page_size) : 0;
}

/* Returns the arena's tick. */
static uint32_t publish_now(struct arena *a)
{
	uint32_t ticks;

	lock_acquire(&a->lock);
	purger_publish(a, purger_dirty(a));
	ticks = a->ticks;
	lock_release(&a->lock);
	return ticks;
}

/*
 * One claim of what is above.  Whether there was anything to take; under the purge lock,
 * so that threads which free at once do not all take the same.
 */
static bool bound_once(struct arena *a, bool of_slabs)
{
	bool taken = false;
	uint32_t ticks;
	size_t above;

	if (!begin_claim())
		return false;
	ticks = publish_now(a);
	above = above_bound();
	if (above != 0 && of_slabs)
		taken = slab_claim_take(&claim, a, ticks, true, above);
	else if (above != 0)
		taken = claim_take(&claim, a, above) != 0;
	(void)discard_claim();
	(void)publish_now(a);
	lock_release(&purge_lock);
	return taken;
}

static NOINLINE void give_back_above(void)
{
	(void)give_back_spares(above_bound(), false);
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		while (above_bound() != 0 && bound_once(a, false))
			;
		while (above_bound() != 0 && bound_once(a, true))
			;
	}
}

/* ---- passes ---- */

/* *free: what is free and resident, at most; *wanted: ever was wanted again. */
static void age(struct arena *a, size_t *free, size_t *wanted)
{
	size_t touched;

	lock_acquire(&a->lock);
	free_deferred(a);
	decay_tick(&a->decay, extent_dirty_bytes(a));
	a->ticks++;
	touched = a->segments.touched * os_page_size;
	*free += extent_dirty_bytes(a) + touched - size_min(touched, a->slabs.live_bytes);
	*wanted += a->refaulted_bytes;
	purger_publish(a, purger_dirty(a));
	lock_release(&a->lock);
}

/*
 * Ends a tick: idle caches are emptied, all that is free is older, old spares go, and what
 * the tick showed decides on the delay.  Whether another must come.
 */
static bool end_tick(void)
{
	size_t free = spare_bytes(), wanted = 0, again, due;
	bool more = cache_drain_idle(false);
	uint64_t now = os_now_ms();

	look_at_locked();
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		age(a, &free, &wanted);
	lock_acquire(&purge_lock);
	due = spare_tick(delay, &wanted);
	again = wanted - size_min(wanted, wanted_before);
	regret_tick(&regret, now - ticked_ms, again / os_page_size, free / os_page_size);
	delay = regret_delay(&regret);
	__atomic_store_n(&purge_counts.delay_ms, delay * DECAY_TICK_MS, __ATOMIC_RELAXED);
	more |= regret_is_watching(&regret);
	wanted_before = wanted;
	ticked_ms = now;
	lock_release(&purge_lock);
	return give_back_spares(due, true) != 0 || more;
}

/* One claim, of at most `most`, of what has been free long enough; false: nothing has. */
static bool give_due(struct arena *a, size_t most)
{
	size_t due, taken;
	uint32_t ticks;
	bool any;

	if (!begin_claim())
		return false;
	lock_acquire(&a->lock);
	due = decay_due(&a->decay, extent_dirty_bytes(a), delay);
	ticks = a->ticks;
	lock_release(&a->lock);
	taken = claim_take(&claim, a, size_min(due, most));
	any = taken != 0 ||
	      slab_claim_take(&claim, a, ticks - SLAB_TICKS_FOR(delay), false, most);
	regret_gave(&regret, discard_claim() / os_page_size);
	lock_acquire(&a->lock);
	decay_purged(&a->decay, taken);
	purger_publish(a, purger_dirty(a));
	lock_release(&a->lock);
	lock_release(&purge_lock);
	return any;
}

static size_t dirty_published(void)
{
	size_t sum = spare_bytes();

	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		sum += __atomic_load_n(&a->dirty_published, __ATOMIC_SEQ_CST);
	return sum;
}

static size_t published(void)
{
	return __atomic_load_n(&cache_free_bytes, __ATOMIC_SEQ_CST) + dirty_published();
}

static void count_time(uint64_t began, unsigned passes)
{
	__atomic_add_fetch(&purge_counts.ns, os_thread_ns() - began, __ATOMIC_RELAXED);
	__atomic_add_fetch(&purge_counts.passes, passes, __ATOMIC_RELAXED);
}

/* The thread's: a tick ends, and all that is due goes.  Whether another must come. */
static bool pass(void)
{
	uint64_t began = os_thread_ns();
	bool more = end_tick();

	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		while (give_due(a, SIZE_MAX))
			more = true; /* it may be wanted again */
	while (scrub_window())
		;
	count_time(began, 1);
	return more || dirty_published() != 0;
}

/*
 * Sleeps until a free finds enough.  Frees publish before they look at the
 * state, and this changes the state before it looks at what they published, all
 * in one order (SEQ_CST): one of the two sees the other.
 */
static void sleep_until_told(void)
{
	(void)state_change(PURGER_AWAKE, PURGER_ASLEEP);
	if (published() > PURGE_START || __atomic_load_n(&purger_asked, __ATOMIC_SEQ_CST) != 0)
		(void)state_change(PURGER_ASLEEP, PURGER_AWAKE);
	while (__atomic_load_n(&purger_state, __ATOMIC_ACQUIRE) == PURGER_ASLEEP)
		os_futex_wait(&purger_state, PURGER_ASLEEP, -1);
}

static uint64_t longer(uint64_t wait_ms, uint64_t most_ms)
{
	return size_min(size_max(2 * wait_ms, RETRY_FIRST_MS), most_ms);
}

static void release_all(void)
{
	(void)cache_drain_idle(true);
	(void)purger_release(SIZE_MAX);
}

/* A tick, in which nobody looks whether memory is short for the first `rest`. */
static unsigned wait_a_tick(unsigned rest)
{
	uint32_t never = 0;

	if (rest != 0) {
		os_futex_wait(&never, 0, DECAY_TICK_MS);
		return rest - 1;
	}
	if (!os_pressure_wait(DECAY_TICK_MS))
		return 0;
	release_all();
	__atomic_store_n(&purge_counts.relief_ms, os_now_ms(), __ATOMIC_RELAXED);
	__atomic_add_fetch(&purge_counts.reliefs, 1, __ATOMIC_RELAXED);
	return RELIEF_TICKS;
}

static void run(void)
{
	unsigned rest = 0;

	os_pressure_begin();
	for (uint64_t wait_ms = DECAY_TICK_MS;;) {
		uint32_t never = 0;

		if (unlikely(__atomic_load_n(&purger_asked, __ATOMIC_ACQUIRE) != 0)) {
			release_all();
			__atomic_store_n(&purger_asked, 0, __ATOMIC_RELEASE);
		}
		if (!pass())
			sleep_until_told();
		if (likely(!is_locked())) {
			rest = wait_a_tick(rest);
			wait_ms = DECAY_TICK_MS;
		} else {
			wait_ms = longer(wait_ms, LOCKED_MOST_MS);
			os_futex_wait(&never, 0, (int64_t)wait_ms);
		}
	}
}

/* Memory, address space or a limit may be there another time. */
static void retry_later(void)
{
	retry_wait_ms = longer(retry_wait_ms, RETRY_MOST_MS);
	__atomic_store_n(&purge_counts.retry_ms, os_now_ms() + retry_wait_ms, __ATOMIC_RELAXED);
}

static void start(enum purger_state from)
{
	if (!state_change(from, PURGER_AWAKE))
		return;
	if (os_thread_start(run, "cede-purger")) {
		if (from == PURGER_ABSENT)
			cache_configure();
		return;
	}
	retry_later();
	(void)state_change(PURGER_AWAKE, PURGER_ABSENT);
	cache_configure();
	(void)cache_drain_idle(true);
	(void)give_back_spares(SIZE_MAX, false);
	/* From now on every free may be asked to do a pass. */
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		lock_acquire(&a->lock);
		purger_publish(a, purger_dirty(a));
		lock_release(&a->lock);
	}
}

/* All that one free does; whether there may be more. */
static bool give_slice(void)
{
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		if (give_due(a, SLICE_BYTES))
			return true;
	return scrub_window();
}

static bool slices_are_left(void)
{
	return purger_is_absent() && __atomic_load_n(&slices_left, __ATOMIC_RELAXED);
}

/*
 * Without the thread: a free of this one ends the tick, and each gives back a slice of what
 * is due.  They are asked often, so while nothing is the processor's counter says first
 * whether the clock is worth a call.
 */
static void pass_instead(void)
{
	uint64_t cycles = __builtin_ia32_rdtsc(), now, last, began;
	bool ticks;

	if (!slices_are_left() && cycles - __atomic_load_n(&last_look, __ATOMIC_RELAXED) < LOOK_CYCLES)
		return;
	/* Whoever is giving back now would be waited for. */
	if (__atomic_load_n(&purge_lock.word, __ATOMIC_RELAXED) != 0)
		return;
	__atomic_store_n(&last_look, cycles, __ATOMIC_RELAXED);
	began = os_thread_ns();
	now = os_now_ms();
	last = __atomic_load_n(&last_tick_ms, __ATOMIC_RELAXED);
	ticks = now - last >= DECAY_TICK_MS &&
	        __atomic_compare_exchange_n(&last_tick_ms, &last, now, false, __ATOMIC_RELAXED,
	                                    __ATOMIC_RELAXED);
	if (ticks) {
		(void)end_tick();
		if (settings.background && now >= __atomic_load_n(&purge_counts.retry_ms, __ATOMIC_RELAXED))
			start(PURGER_ABSENT);
	}
	__atomic_store_n(&slices_left, give_slice(), __ATOMIC_RELAXED);
	count_time(began, ticks);
}

/* A handler may have interrupted its thread where this would wait for it. */
static bool may_wait(void)
{
	/* The purger itself has no record, and no cache. */
	bool at_work = thread_self != NULL && lock_is_mine(&thread_self->cache_lock);

	return !at_work && !lock_is_mine(&purge_lock) && !arena_any_mine();
}

NOINLINE void purger_tell(void)
{
	enum purger_state now = purger_now();

	if (unlikely(above_bound() != 0) && may_wait())
		give_back_above();
	if (now == PURGER_AWAKE || (published() <= PURGE_START && !slices_are_left()))
		return;
	if (now != PURGER_ASLEEP && !may_wait())
		return;
	if (now == PURGER_ABSENT)
		pass_instead();
	else if (now == PURGER_NONE)
		start(PURGER_NONE);
	else if (state_change(PURGER_ASLEEP, PURGER_AWAKE))
		os_futex_wake(&purger_state, 1);
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

void purger_release_spares(size_t want)
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

size_t purger_release(size_t max)
{
	size_t gone = give_back_spares(max, false);

	look_at_locked();
	for (struct arena *a = &main_arena; a != NULL && gone < max; a = arena_following(a))
		gone += release_arena(a, max - gone);
	while (scrub_window())
		;
	return gone;
}

void purger_settle(void)
{
	if (!may_wait())
		return;
	lock_acquire(&purge_lock);
	lock_release(&purge_lock);
}

/*
 * The purge lock is not taken: its holder may be waiting for an arena that this
 * very thread holds, when a signal handler forks.  With all arenas' locks held
 * the claim is whole all the same, and the child puts it back (give_back).
 */
void purger_fork_prepare(void)
{
	purge_lock.kept = lock_is_mine(&purge_lock);
}

void purger_fork_parent(void)
{
	purge_lock.kept = false;
}

void purger_fork_child(void)
{
	uint32_t now = __atomic_load_n(&purger_state, __ATOMIC_RELAXED);

	lock_fork_child(&purge_lock);
	/* At once, or the arena cannot grow; the chunks can wait (give_back), and cost
	 * a child that soon executes another program nothing. */
	if (claim.count != 0 && !claim.of_slabs && !lock_is_mine(&claim.arena->lock))
		claim_return_top(&claim, false);
	if (now == PURGER_AWAKE || now == PURGER_ASLEEP)
		__atomic_store_n(&purger_state, PURGER_NONE, __ATOMIC_RELAXED);
}
