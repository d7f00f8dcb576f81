#include "heap/registry.h"

#include <errno.h>
#include <pthread.h>

#include "heap/cache.h"
#include "heap/heap.h"
#include "os/os.h"

struct record {
	struct thread thread;
	pthread_mutex_t alive;
	uint32_t generation; /* of the process that its thread lived in */
};

/* How many records a newcomer looks at for a dead thread before it makes one. */
#define LOOK 32
#define RECORDS_BYTES ((size_t)64 << 10)

/* Where a new thread's fast paths look: nothing to take, no room to give. */
struct thread thread_nobody;
__thread struct thread *thread_self = &thread_nobody;

static struct lock registry_lock = LOCK_INIT(RANK_REGISTRY);
/* All guarded by registry_lock. */
static bool started;
static struct record first;           /* the first thread must not wait for memory */
static struct record shared;          /* of threads that find no memory for one */
static struct record interrupted = { .thread.arena = &main_arena }; /* const: of a signal
                                         handler whose thread is in registry_enter */
struct record *registry_all;
static struct record *look_next;
static struct record *spare, *spare_end;
static size_t records;
static uint32_t generation;           /* counts forks */

static struct record *make(void)
{
	if (registry_all == NULL)
		return &first;
	if (spare == spare_end) {
		spare = os_map(NULL, RECORDS_BYTES, OS_READ_WRITE);
		if (spare == NULL) {
			spare = spare_end;
			return NULL;
		}
		spare_end = spare + RECORDS_BYTES / sizeof(*spare);
	}
	return spare++;
}

static void lock_alive(struct record *r)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&r->alive, &attributes);
	pthread_mutex_lock(&r->alive);
	r->generation = generation;
	r->thread.id = lock_self;
}

static bool is_dead(struct record *r)
{
	if (r->generation != generation)
		return true; /* the thread stayed in the parent */
	if (pthread_mutex_trylock(&r->alive) != EOWNERDEAD)
		return false;
	pthread_mutex_consistent(&r->alive);
	pthread_mutex_unlock(&r->alive);
	return true;
}

/*
 * A dead thread's record, or NULL: of a bounded number the newest, so that few caches go
 * from thread to thread where few live at once; else, at a later call, one further on.
 */
static struct record *find_dead(void)
{
	struct record *r = registry_all;

	for (int i = 0; i < LOOK && r != NULL; i++) {
		if (&r->thread != thread_self && is_dead(r)) {
			cache_inherit(&r->thread);
			return r;
		}
		if (i == LOOK / 2 && look_next != NULL)
			r = look_next;
		else
			r = (struct record *)r->thread.next;
	}
	look_next = r;
	return NULL;
}

static struct record *take_record(void)
{
	struct record *r = find_dead();

	if (r != NULL)
		return r;
	r = make();
	if (r == NULL)
		return NULL;
	r->thread.next = (struct thread *)registry_all;
	r->thread.cache_lock.rank = RANK_CACHE;
	r->thread.cache_lock.order = 1;
	__atomic_store_n(&records, records + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&registry_all, r, __ATOMIC_RELEASE);
	return r;
}

size_t registry_count(void)
{
	return __atomic_load_n(&records, __ATOMIC_RELAXED) + 1;
}

struct thread *registry_first(void)
{
	return (struct thread *)__atomic_load_n(&registry_all, __ATOMIC_ACQUIRE);
}

uint32_t registry_generation(void)
{
	return generation;
}

bool registry_is_orphan(const struct thread *t)
{
	return ((const struct record *)t)->generation != generation;
}

NOINLINE struct thread *registry_enter(void)
{
	int saved = errno;
	struct record *r;

	if (lock_self != 0 && lock_is_mine(&registry_lock))
		return &interrupted.thread;
	lock_thread_begin();
	lock_acquire(&registry_lock);
	if (!started) {
		started = true;
		heap_start();
	}
	r = take_record();
	if (r != NULL) {
		struct arena *a = r->thread.arena;

		/* A fork let go of all arenas but the caller's. */
		a = a != NULL && r->generation == generation ? arena_inherit(a) : arena_attach();
		__atomic_store_n(&r->thread.arena, a, __ATOMIC_RELAXED);
		lock_alive(r);
		r->thread.caching = policy_is_default();
		/* Without a cache the fast paths need not look any further. */
		if (!r->thread.caching)
			cache_set_busy(&r->thread, true);
	} else {
		r = &shared;
		if (r->thread.arena == NULL)
			r->thread.arena = arena_attach();
	}
	lock_release(&registry_lock);
	thread_self = &r->thread;
	errno = saved;
	return thread_self;
}

void registry_fork_prepare(void)
{
	lock_fork_acquire(&registry_lock);
	cache_fork_prepare(thread_self);
}

void registry_fork_parent(void)
{
	cache_fork_parent(thread_self);
	lock_fork_release(&registry_lock);
}

void registry_fork_child(void)
{
	struct record *r = (struct record *)thread_self;

	generation++;
	lock_thread_begin();
	arena_fork_child(r->thread.arena);
	/* A thread without a cache may have forked in the middle of a pass over the others'. */
	cache_fork_child(&r->thread);
	if (&r->thread != &thread_nobody && r != &shared)
		lock_alive(r);
	lock_fork_child(&registry_lock);
}
