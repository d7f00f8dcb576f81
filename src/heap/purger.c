#include "heap/purger.h"

#include "heap/cache.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/giving.h"
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

static struct regret regret;   /* guarded by purge_lock, as what follows */
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

	if (!giving_begin())
		return false;
	ticks = publish_now(a);
	above = above_bound();
	if (above != 0 && of_slabs)
		taken = slab_claim_take(giving_claim, a, ticks, true, above);
	else if (above != 0)
		taken = claim_take(giving_claim, a, above) != 0;
	(void)giving_discard();
	(void)publish_now(a);
	lock_release(&purge_lock);
	return taken;
}

static NOINLINE void give_back_above(void)
{
	(void)giving_spares(above_bound(), NULL);
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

	giving_look_at_locked();
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
	return giving_spares(due, &regret) != 0 || more;
}

/* One claim, of at most `most`, of what has been free long enough; false: nothing has. */
static bool give_due(struct arena *a, size_t most)
{
	size_t due, taken;
	uint32_t ticks;
	bool any;

	if (!giving_begin())
		return false;
	lock_acquire(&a->lock);
	due = decay_due(&a->decay, extent_dirty_bytes(a), delay);
	ticks = a->ticks;
	lock_release(&a->lock);
	taken = claim_take(giving_claim, a, size_min(due, most));
	any = taken != 0 ||
	      slab_claim_take(giving_claim, a, ticks - SLAB_TICKS_FOR(delay), false, most);
	regret_gave(&regret, giving_discard() / os_page_size);
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
	while (giving_scrub())
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
	(void)giving_release(SIZE_MAX);
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
		if (likely(!giving_is_locked())) {
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
	(void)giving_spares(SIZE_MAX, NULL);
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
	return giving_scrub();
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

NOINLINE void purger_tell(void)
{
	enum purger_state now = purger_now();

	if (unlikely(above_bound() != 0) && giving_may_wait())
		give_back_above();
	if (now == PURGER_AWAKE || (published() <= PURGE_START && !slices_are_left()))
		return;
	if (now != PURGER_ASLEEP && !giving_may_wait())
		return;
	if (now == PURGER_ABSENT)
		pass_instead();
	else if (now == PURGER_NONE)
		start(PURGER_NONE);
	else if (state_change(PURGER_ASLEEP, PURGER_AWAKE))
		os_futex_wake(&purger_state, 1);
}

void purger_fork_child(void)
{
	uint32_t now = __atomic_load_n(&purger_state, __ATOMIC_RELAXED);

	if (now == PURGER_AWAKE || now == PURGER_ASLEEP)
		__atomic_store_n(&purger_state, PURGER_NONE, __ATOMIC_RELAXED);
}
