#include "support/drain.h"

#include <pthread.h>
#include <string.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/scripted_os.h"

/* ---- the scripted barrier ---- */

bool barrier_works = true;
unsigned barriers;
void (*at_barrier)(void);

bool __real_os_barrier_everywhere(void);
bool __wrap_os_barrier_everywhere(void);

bool __wrap_os_barrier_everywhere(void)
{
	void (*hook)(void) = at_barrier;

	__atomic_add_fetch(&barriers, 1, __ATOMIC_RELAXED);
	at_barrier = NULL;
	if (hook != NULL)
		hook();
	return barrier_works && __real_os_barrier_everywhere();
}

/* ---- a thread that does as it is told ---- */

static pthread_t worker;
static pthread_barrier_t begun, ended;
static void (*task)(void);
struct thread *record;

static void *work(void *unused)
{
	record = registry_self();
	for (;;) {
		pthread_barrier_wait(&begun);
		if (task == NULL)
			return unused;
		task();
		pthread_barrier_wait(&ended);
	}
}

void worker_begins(void (*what)(void))
{
	task = what;
	pthread_barrier_wait(&begun);
}

void worker_ends(void)
{
	pthread_barrier_wait(&ended);
}

void worker_does(void (*what)(void))
{
	worker_begins(what);
	worker_ends();
}

void worker_starts(void)
{
	pthread_barrier_init(&begun, NULL, 2);
	pthread_barrier_init(&ended, NULL, 2);
	EXPECT(pthread_create(&worker, NULL, work, NULL) == 0);
}

void worker_dies(void)
{
	worker_begins(NULL);
	EXPECT(pthread_join(worker, NULL) == 0);
}

void sleeps_on(const struct lock *lock)
{
	while (!(__atomic_load_n(&lock->word, __ATOMIC_RELAXED) & LOCK_WAITERS))
		os_yield();
}

/* ---- what they do ---- */

bool with_slabs;
struct arena *drain_arena;
size_t live;

size_t live_bytes(void)
{
	struct cede_stats stats;

	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	return stats.live_bytes;
}

static void nothing(void)
{
}

void drain_start(void)
{
	drain_arena = script_heap_of_slabs(true);
	if (!with_slabs)
		script_fail_from(OS_MAP_AT, 1);
	settings.arena_max = 1;
	worker_starts();
	worker_does(nothing);
	live = live_bytes();
}

static unsigned char *newest;

void fill(void)
{
	unsigned char *blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = cede_malloc(BYTES);
		EXPECT(blocks[i] != NULL);
		memset(blocks[i], (int)i, BYTES);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		for (size_t k = 0; k < BYTES; k++)
			EXPECT(blocks[i][k] == i);
		cede_free(blocks[i]);
	}
	newest = blocks[BLOCKS - 1];
}

void take_the_newest(void)
{
	EXPECT(cede_malloc(BYTES) == newest);
	cede_free(newest);
	EXPECT(cede_malloc(BYTES) == newest);
	cede_free(newest);
}

void take_one(void)
{
	EXPECT(cede_malloc(BYTES) != NULL);
}

void take_any(void)
{
	cede_free(cede_malloc(BYTES));
}

void drain_all(void)
{
	(void)cache_drain_idle(true);
}

bool is_empty(struct thread *t)
{
	size_t sum = t->reserved;

	for (unsigned c = 0; c < CLASSES; c++)
		sum += (size_t)t->capacity[c] + (thread_bin(t, c)->top != NULL);
	return sum == 0;
}

bool is_whole(struct thread *t)
{
	size_t reserved = 0;

	for (unsigned c = 0; c < CLASSES; c++) {
		const struct cache_bin *bin = thread_bin(t, c);

		reserved += (size_t)t->capacity[c] * class_sizes[c];
		if (bin->busy != 0 || bin->limit - bin->base != t->mark[c] || t->mark[c] > t->capacity[c] ||
		    bin->top < bin->base || bin->top > bin->base + t->capacity[c])
			return false;
	}
	return reserved == t->reserved && t->cache_lock.word == 0;
}

void is_used_again(struct thread *t)
{
	worker_does(fill);
	EXPECT(t->state == CACHE_OPEN && is_whole(t));
	worker_does(take_the_newest);
	EXPECT(cede_malloc_trim(0) == 1);
	EXPECT(t->state == CACHE_DRAINED && is_empty(t) && live_bytes() == live);
	lock_acquire(&drain_arena->lock);
	audit_arena(drain_arena);
	lock_release(&drain_arena->lock);
}

static bool is_held_up, may_go_on; /* atomic */

void hold_up(void)
{
	__atomic_store_n(&is_held_up, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&may_go_on, __ATOMIC_ACQUIRE))
		os_yield();
}

void worker_is_held_up(void (*what)(void))
{
	worker_begins(what);
	while (!__atomic_load_n(&is_held_up, __ATOMIC_ACQUIRE))
		os_yield();
}

void worker_goes_on(void)
{
	__atomic_store_n(&may_go_on, true, __ATOMIC_RELEASE);
	worker_ends();
}

void *drain_in_thread(void *unused)
{
	lock_thread_begin();
	drain_all();
	return unused;
}

void come_again(void)
{
	size_t bytes, threads;

	/* What is shut is cached still. */
	cache_held(&bytes, &threads);
	EXPECT(bytes >= BLOCKS * (size_t)BYTES && threads == 1);
	for (int now = 0; now < 2; now++)
		EXPECT(cache_drain_idle(now == 1) && record->state == CACHE_SHUT && barriers == 1);
}

void takes_over(void)
{
	EXPECT(thread_self == record && thread_bin(record, class_of_request(BYTES))->busy == 0);
	EXPECT(record->state != CACHE_DRAINED || is_empty(record));
	EXPECT(record->state != CACHE_OPEN || is_whole(record));
}
