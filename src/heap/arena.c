#include "heap/arena.h"

#include "heap/bins.h"
#include "heap/purger.h"
#include "heap/subheap.h"
#include "os/os.h"

/*
 * Once M_ARENA_TEST arenas exist, at most so many for each CPU.  ptmalloc's, and the
 * default policy's: there the caches leave less to contend for, and what lies free in
 * one arena serves no other (docs/locking.md has the figures).  A program of two threads
 * does not pay for counting.
 */
#define CLASSIC_TEST    8
#define CLASSIC_PER_CPU 8
#define DEFAULT_TEST    2
#define DEFAULT_PER_CPU 2

struct arena main_arena = { .lock = LOCK_INIT(RANK_ARENA) };
struct lock arenas_lock = LOCK_INIT(RANK_ARENAS);

/* All guarded by arenas_lock. */
static size_t arenas = 1;
static size_t classic_limit;           /* 0: not computed yet */
static struct arena *free_arenas = &main_arena; /* no thread is attached */
static struct arena *last_arena = &main_arena;
static struct arena *next_reused;      /* where the search for another one goes on */

void arena_init(struct arena *a, uint16_t order)
{
	a->lock = (struct lock){ .rank = RANK_ARENA, .order = order };
	for (unsigned bin = 1; bin < BINS; bin++)
		bin_head(a, bin)->fd = bin_head(a, bin)->bk = bin_head(a, bin);
	a->top = arena_initial_top(a);
}

size_t arena_count(void)
{
	return __atomic_load_n(&arenas, __ATOMIC_RELAXED);
}

bool arena_any_mine(void)
{
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		if (lock_is_mine(&a->lock))
			return true;
	return false;
}

bool arena_enter_slow(struct arena *a)
{
	if (arena_any_mine())
		return false;
	lock_acquire(&a->lock);
	return true;
}

static bool may_create(void)
{
	size_t test = SETTING(arena_test), max = SETTING(arena_max);

	if (max != 0)
		return arenas < max;
	if (test == 0)
		test = policy_is_default() ? DEFAULT_TEST : CLASSIC_TEST;
	if (arenas < test)
		return true;
	/* Each time: a thread may bring CPUs that the ones before were not allowed. */
	if (policy_is_default())
		return arenas < (size_t)os_cpu_count() * DEFAULT_PER_CPU;
	if (classic_limit == 0)
		classic_limit = (size_t)os_cpu_affinity() * CLASSIC_PER_CPU;
	return arenas < classic_limit;
}

static struct arena *create(void)
{
	struct arena *a = subheap_new_arena((uint16_t)arenas);

	if (a == NULL)
		return NULL;
	/* Readers walk the list without the lock: complete first, then listed. */
	__atomic_store_n(&last_arena->next, a, __ATOMIC_RELEASE);
	last_arena = a;
	__atomic_store_n(&arenas, arenas + 1, __ATOMIC_RELAXED);
	return a;
}

static struct arena *after(struct arena *a)
{
	return a != NULL && arena_following(a) != NULL ? arena_following(a) : &main_arena;
}

/* One whose lock is free, going round from the last choice; else the next. */
static struct arena *reuse(const struct arena *avoid)
{
	struct arena *first = after(next_reused), *a = first;

	do {
		if (a != avoid && __atomic_load_n(&a->lock.word, __ATOMIC_RELAXED) == 0)
			break;
		a = after(a);
	} while (a != first);
	if (a == avoid)
		a = after(a);
	next_reused = a;
	return a;
}

/* That of the fewest threads; of several the next, so that they take turns. */
static struct arena *least_used(void)
{
	struct arena *first = after(next_reused), *best = first;

	for (struct arena *a = after(first); a != first; a = after(a))
		if (a->threads < best->threads)
			best = a;
	next_reused = best;
	return best;
}

static struct arena *pop_free(void)
{
	struct arena *a = free_arenas;

	if (a != NULL)
		free_arenas = a->next_free;
	return a;
}

struct arena *arena_attach(void)
{
	struct arena *a;

	lock_acquire(&arenas_lock);
	a = pop_free();
	if (a == NULL && may_create())
		a = create();
	if (a == NULL)
		a = policy_is_default() ? least_used() : reuse(NULL);
	a->threads++;
	lock_release(&arenas_lock);
	return a;
}

void arena_detach(struct arena *a)
{
	lock_acquire(&arenas_lock);
	ASSERT(a->threads > 0);
	if (--a->threads == 0) {
		a->next_free = free_arenas;
		free_arenas = a;
	}
	lock_release(&arenas_lock);
}

struct arena *arena_inherit(struct arena *dead)
{
	bool best;

	lock_acquire(&arenas_lock);
	best = policy_is_default() && !may_create() &&
	       dead->threads - 1 <= least_used()->threads;
	lock_release(&arenas_lock);
	if (best)
		return dead;
	arena_detach(dead);
	return arena_attach();
}

struct arena *arena_other(struct arena *avoid)
{
	struct arena *a = NULL;

	/* A handler must not wait here for who waits for what its thread holds. */
	if (!lock_try(&arenas_lock)) {
		if (lock_is_mine(&arenas_lock) || arena_any_mine())
			return avoid;
		lock_acquire(&arenas_lock);
	}
	if (arenas == 1 && may_create())
		a = create();
	if (a == NULL)
		a = reuse(avoid);
	lock_release(&arenas_lock);
	return a;
}

void arena_fork_child(struct arena *of_caller)
{
	lock_fork_child(&arenas_lock);
	free_arenas = NULL;
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		lock_fork_child(&a->lock);
		a->poke_above = 0;
		a->threads = a == of_caller;
		if (a == of_caller)
			continue;
		a->next_free = free_arenas;
		free_arenas = a;
	}
}

void arena_fork_prepare(void)
{
	lock_fork_acquire(&arenas_lock);
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		lock_fork_acquire(&a->lock);
}

void arena_fork_parent(void)
{
	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a))
		lock_fork_release(&a->lock);
	lock_fork_release(&arenas_lock);
}
