#include "heap/cache.h"

#include "heap/batch.h"
#include "heap/cache_bounds.h"
#include "heap/purger.h"
#include "heap/registry.h"
#include "os/os.h"

#define PATIENCE      64 /* times that a bin could not grow */
#define PATIENCE_MOST 512
/* So many small blocks of other arenas a thread sends home. */
#define STRANGERS     64

bool cache_on;
size_t cache_free_bytes;
size_t cache_slots_bytes;

/* Both before any cache's, in this order. */
static struct lock drain_lock = LOCK_INIT(RANK_CACHE);
static struct lock orphans_lock = { .rank = RANK_CACHE, .order = 1 };
static uint32_t large_slots[CLASSES + 1]; /* where a class's place begins */

void cache_configure(void)
{
	/* Without the purger nobody would empty the caches of threads that sleep. */
	bool caching = policy_is_default() && SETTING(perturb) == 0 && !purger_is_absent();

	if (class_sizes[0] == 0) {
		classes_init();
		large_slots[0] = CLASSES * (SMALL_SLOTS + MIDDLE_SLOTS);
		for (unsigned c = 0; c < CLASSES; c++)
			large_slots[c + 1] = large_slots[c] + most_slots(c);
		cache_slots_bytes = align_up(large_slots[CLASSES] * sizeof(void *), os_page_size);
	}
	__atomic_store_n(&cache_on, caching, __ATOMIC_RELEASE);
}

static uint32_t first_slot(const struct thread *t, unsigned class)
{
	size_t capacity = t->capacity[class];

	if (capacity == 0)
		return 0;
	if (capacity <= SMALL_SLOTS)
		return class * SMALL_SLOTS;
	if (capacity <= MIDDLE_SLOTS)
		return CLASSES * SMALL_SLOTS + class * MIDDLE_SLOTS;
	return large_slots[class];
}

static void set_bounds(struct thread *t, unsigned class)
{
	uint32_t first = first_slot(t, class);
	void **base = t->capacity[class] == 0 ? NULL : t->slots + first;

	__atomic_store_n(&thread_bin(t, class)->first, first, __ATOMIC_RELAXED);
	__atomic_store_n(&thread_bin(t, class)->base, base, __ATOMIC_RELAXED);
	__atomic_store_n(&thread_bin(t, class)->limit, base + t->mark[class], __ATOMIC_RELAXED);
}

static void set_state(struct thread *t, enum cache_state state)
{
	__atomic_store_n(&t->state, state, __ATOMIC_RELAXED);
}

static void open_up(struct thread *t)
{
	for (unsigned c = 0; c < CLASSES; c++)
		set_bounds(t, c);
	set_state(t, CACHE_OPEN);
}

/* ---- emptying ---- */

/* The newest `count` blocks of a bin leave it for the heap. */
static void flush(struct thread *t, unsigned class, size_t count)
{
	struct cache_bin *bin = thread_bin(t, class);

	while (count > 0) {
		unsigned n = (unsigned)size_min(count, most_at_once(class));

		__atomic_store_n(&bin->top, bin->top - n, __ATOMIC_RELAXED);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		t->tell |= batch_give(class, bin->top, n);
		count -= n;
	}
}

static size_t held(const struct thread *t, unsigned class)
{
	const struct cache_bin *bin = &t->bins[class + 1];

	return (size_t)(bin->top - thread_bin_array(t, bin));
}

/* ---- the owner's slow paths ---- */

/*
 * A signal handler does not wait for a lock that its own thread has, nor for whoever
 * may be waiting for an arena that its thread has.
 */
static bool take_lock(struct lock *lock)
{
	if (lock_try(lock))
		return true;
	if (lock_is_mine(lock) || arena_any_mine())
		return false;
	lock_acquire(lock);
	return true;
}

/* In so many. */
static unsigned busy_bins(const struct thread *t)
{
	unsigned busy = 0;

	for (unsigned i = 0; i < CLASSES + 1; i++)
		busy += __atomic_load_n(&t->bins[i].busy, __ATOMIC_ACQUIRE) != 0;
	return busy;
}

/*
 * Takes the lock, opens the cache if it is not, and is busy in the bin.  Not in a handler
 * that interrupted an operation on another bin, if that may have read a top and is yet to
 * find the bin shut.
 */
static bool begin(struct thread *t, unsigned class)
{
	if (!t->caching || !cache_is_on() || !cache_enter(thread_bin(t, class)))
		return false;
	if (!take_lock(&t->cache_lock)) {
		cache_leave(thread_bin(t, class));
		return false;
	}
	if (t->slots == NULL)
		__atomic_store_n(&t->slots, os_map(NULL, cache_slots_bytes, OS_READ_WRITE),
		                 __ATOMIC_RELAXED);
	if (t->slots == NULL || (t->state != CACHE_OPEN && busy_bins(t) > 1)) {
		lock_release(&t->cache_lock);
		cache_leave(thread_bin(t, class));
		return false;
	}
	if (t->state != CACHE_OPEN)
		open_up(t);
	return true;
}

static void end(struct thread *t, unsigned class)
{
	bool tell = t->tell;

	t->tell = false;
	lock_release(&t->cache_lock);
	cache_leave(thread_bin(t, class));
	if (tell)
		purger_tell();
}

/* A bin gives its blocks and its array up; nobody else is at work in it. */
static void empty(struct thread *t, unsigned class)
{
	size_t known = t->full[class] * class_sizes[class];

	if (held(t, class) != 0)
		flush(t, class, held(t, class));
	t->reserved -= t->capacity[class] * class_sizes[class];
	t->counted -= known;
	__atomic_sub_fetch(&cache_free_bytes, known, __ATOMIC_SEQ_CST);
	/* In this order for the child of a fork: cache_fork_child. */
	t->capacity[class] = t->mark[class] = t->full[class] = 0;
	t->ramp[class] = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&thread_bin(t, class)->top, NULL, __ATOMIC_RELAXED);
}

/* Empties a bin that is as it was at the last look. */
static void empty_if_idle(struct thread *t, unsigned class)
{
	size_t count = held(t, class);
	uintptr_t now = count == 0 ? 0 : (uintptr_t)thread_bin(t, class)->top[-1] / CLASS_STEP;

	now = now * 31 + count + 1;
	if (t->capacity[class] != 0 && t->seen[class] == (uint32_t)now) {
		empty(t, class);
		set_bounds(t, class);
	}
	t->seen[class] = (uint32_t)now;
}

/* Idle bins make room for the caller's, in which it is busy.  A signal handler may have
 * interrupted its thread in another one. */
static void empty_idle(struct thread *t)
{
	for (unsigned c = 0; c < CLASSES; c++)
		if (cache_enter(thread_bin(t, c))) {
			empty_if_idle(t, c);
			cache_leave(thread_bin(t, c));
		}
}

/*
 * Bytes that the arrays of a thread may hold beside what they do.  Where `more` are too
 * many, what is idle is looked for: now and then, and ever more seldom while that finds
 * little, for then all classes are in use at once.
 */
static size_t bytes_left(struct thread *t, size_t more)
{
	size_t before = t->reserved;

	if (t->reserved + more <= t->most || ++t->refusals >= t->patience) {
		t->refusals = 0;
		t->most = thread_bytes(t);
		if (t->reserved + more > t->most) {
			empty_idle(t);
			if (before - t->reserved >= t->most / 4)
				t->patience = PATIENCE;
			else
				t->patience = (uint16_t)size_min(t->patience + PATIENCE, PATIENCE_MOST);
		}
	}
	return t->most > t->reserved ? t->most - t->reserved : 0;
}

/* Doubles a bin's capacity, as far as its class and the thread may hold so much. */
static bool grow(struct thread *t, unsigned class)
{
	struct cache_bin *bin = thread_bin(t, class);
	size_t count = held(t, class), old = t->capacity[class], size = class_sizes[class], left;
	size_t capacity = old == 0 ? first_slots(t, class) : size_min(2 * old, most_slots(class));
	void **before = thread_bin_array(t, bin), **after;

	if (capacity == old)
		return false;
	left = bytes_left(t, (capacity - old) * size);
	if (left < size)
		return false;
	capacity = size_min(capacity, old + left / size);
	t->reserved += (capacity - old) * size;
	t->capacity[class] = (uint16_t)capacity;
	after = t->slots + first_slot(t, class);
	if (after != before && count != 0)
		__builtin_memcpy(after, before, count * sizeof(*after));
	__atomic_store_n(&bin->top, after + count, __ATOMIC_RELAXED);
	set_bounds(t, class);
	return true;
}

/*
 * The bin is full to its mark, but not its array, and one block more comes: all these
 * count as cached from now on, and the mark goes up, doubled.  So what the purger knows
 * of is never more than there was, and half of what there is, but for the first marks,
 * which are the lower the more threads have one.
 */
static void raise_mark(struct thread *t, unsigned class)
{
	size_t most = t->capacity[class], size = class_sizes[class], count = held(t, class) + 1;
	size_t first = size_min(FIRST_MARK, FIRST_MARKS / registry_count()) / size;
	size_t mark = size_max(size_max(2 * (size_t)t->mark[class], first), count);
	size_t more = (count - t->full[class]) * size;

	t->mark[class] = (uint16_t)size_min(mark, most);
	t->full[class] = (uint16_t)count;
	t->counted += more;
	t->tell |= __atomic_add_fetch(&cache_free_bytes, more, __ATOMIC_SEQ_CST) > PURGE_START;
	set_bounds(t, class);
}

/* The first is returned; the second will be next, so it goes last. */
static void reverse(void **row, unsigned count)
{
	for (void **low = row, **high = row + count - 1; low < high; low++, high--) {
		void *block = *low;

		*low = *high;
		*high = block;
	}
}

void *cache_refill(struct thread *t, unsigned class)
{
	struct cache_bin *bin = thread_bin(t, class);
	void *block = NULL, **row;
	unsigned want, got;
	bool chunks;

	if (!begin(t, class))
		return NULL;
	if (held(t, class) != 0) {
		/* It was not empty, but shut for a moment. */
		block = bin->top[-1];
		__atomic_store_n(&bin->top, bin->top - 1, __ATOMIC_RELAXED);
		end(t, class);
		cache_mark(block, 0);
		return block;
	}
	if (t->ramp[class] > t->capacity[class] / 2)
		(void)grow(t, class);
	/* One block at first, then ever more, to half of what fits. */
	want = t->ramp[class] == 0 ? 1 : t->ramp[class];
	want = (unsigned)size_min(want, size_max(t->capacity[class] / 2, 1));
	t->ramp[class] = (uint16_t)size_min(2 * (size_t)want, most_at_once(class));
	row = t->capacity[class] == 0 ? &block : bin->top;
	got = batch_take(registry_arena(t), class, row, want, &chunks);
	if (got > 0)
		block = row[0];
	if (got > 1) {
		/* A slab's blocks have the mark if they ever were cached: to write it into the
		 * others would touch pages that may never be used. */
		for (unsigned i = 1; i < got && chunks; i++)
			cache_mark(row[i], CACHE_MARK);
		reverse(row, got);
		__atomic_store_n(&bin->top, bin->top + got - 1, __ATOMIC_RELAXED);
	}
	end(t, class);
	if (got > 0)
		cache_mark(block, 0);
	return block;
}

/*
 * Whether a small block of another arena is to go home: one of the first that a thread
 * frees, into a bin that never had any.  It was handed to the thread, perhaps together with
 * some to others, and whoever takes it again may write to the lines that theirs are on.
 */
static bool is_stranger(struct thread *t, unsigned class, const struct arena *a)
{
	return class_sizes[class] < CACHE_LINE && t->mark[class] == 0 && a != registry_arena(t) &&
	       t->strangers < STRANGERS;
}

bool cache_make_room(struct thread *t, unsigned class, void *block, const struct arena *a)
{
	struct cache_bin *bin = thread_bin(t, class);
	bool room;

	if (!begin(t, class))
		return false;
	if (is_stranger(t, class, a)) {
		t->strangers++;
		end(t, class);
		return false;
	}
	if (bin->top >= bin->limit && (t->mark[class] < t->capacity[class] || grow(t, class)))
		raise_mark(t, class);
	if (bin->top >= bin->limit)
		flush(t, class, (held(t, class) + 1) / 2);
	room = bin->top < bin->limit;
	if (room) {
		cache_mark(block, CACHE_MARK);
		*bin->top = block;
		__atomic_store_n(&bin->top, bin->top + 1, __ATOMIC_RELAXED);
	}
	end(t, class);
	return room;
}

bool cache_holds(struct thread *t, unsigned class, const void *block)
{
	bool found = false;

	if (class == CLASS_NONE || !begin(t, class))
		return false;
	for (void **slot = thread_bin(t, class)->top, **all = slot - held(t, class); slot > all && !found;)
		found = *--slot == block;
	end(t, class);
	return found;
}

/* ---- other threads' caches ---- */

/* The cache is the caller's: everything goes, arrays too. */
static void empty_all(struct thread *t)
{
	struct os_range slots = { t->slots, cache_slots_bytes };
	uint64_t calls = 0;

	for (unsigned c = 0; c < CLASSES; c++)
		if (t->capacity[c] != 0)
			empty(t, c);
	t->strangers = 0;
	if (t->slots != NULL)
		(void)os_discard(&slots, 1, &calls);
}

/* A thread that stayed in the parent at work: what it held is lost. */
static void abandon(struct thread *t)
{
	__builtin_memset(t->capacity, 0, sizeof(t->capacity));
	__builtin_memset(t->mark, 0, sizeof(t->mark));
	__builtin_memset(t->full, 0, sizeof(t->full));
	__builtin_memset(t->ramp, 0, sizeof(t->ramp));
	__builtin_memset(t->bins, 0, sizeof(t->bins));
	__atomic_sub_fetch(&cache_free_bytes, t->counted, __ATOMIC_SEQ_CST);
	t->reserved = t->counted = 0;
	t->state = CACHE_OPEN;
	t->cache_lock.word = 0;
}

static bool at_work(const struct thread *t)
{
	return busy_bins(t) != 0 || __atomic_load_n(&t->cache_lock.word, __ATOMIC_RELAXED) != 0;
}

void cache_set_busy(struct thread *t, bool busy)
{
	for (unsigned i = 0; i < CLASSES + 1; i++)
		__atomic_store_n(&t->bins[i].busy, busy, __ATOMIC_RELAXED);
}

/*
 * Once for each orphan and process, before its lock and `busy` mean anything: they
 * are as a thread of the parent left them.
 */
static void settle_orphan(struct thread *t)
{
	uint32_t generation = registry_generation();

	if (!registry_is_orphan(t) || __atomic_load_n(&t->settled, __ATOMIC_ACQUIRE) == generation)
		return;
	lock_acquire(&orphans_lock);
	if (t->settled != generation && at_work(t))
		abandon(t);
	__atomic_store_n(&t->settled, generation, __ATOMIC_RELEASE);
	lock_release(&orphans_lock);
}

void cache_inherit(struct thread *t)
{
	settle_orphan(t);
	/* Nobody empties it meanwhile; and where its thread ended inside an operation the
	 * block of that is lost at worst. */
	lock_acquire(&t->cache_lock);
	cache_set_busy(t, false);
	lock_release(&t->cache_lock);
}

/* Until its owner wants it: then begin() opens it. */
static bool shut(struct thread *t)
{
	settle_orphan(t);
	if (!lock_try(&t->cache_lock))
		return false;
	for (unsigned c = 0; c < CLASSES; c++) {
		__atomic_store_n(&thread_bin(t, c)->base, (void **)UINTPTR_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&thread_bin(t, c)->limit, NULL, __ATOMIC_RELAXED);
	}
	set_state(t, CACHE_SHUT);
	lock_release(&t->cache_lock);
	return true;
}

/*
 * A cache that is shut still is emptied, or opened when it is not to be had: its owner is
 * at work, or does not know (`known`: there was a barrier).  Returns whether the purger is
 * to be told of what came out.
 */
static bool empty_shut(struct thread *t, bool known)
{
	bool tell = false;

	if (__atomic_load_n(&t->state, __ATOMIC_RELAXED) != CACHE_SHUT || !lock_try(&t->cache_lock))
		return false;
	if (t->state == CACHE_SHUT && (known || t == thread_self) && busy_bins(t) == 0) {
		empty_all(t);
		set_state(t, CACHE_DRAINED);
		t->witness = t->refused = 0;
		tell = t->tell;
		t->tell = false;
	} else if (t->state == CACHE_SHUT) {
		open_up(t);
	}
	lock_release(&t->cache_lock);
	return tell;
}

static bool holds_none(const struct thread *t)
{
	return __atomic_load_n(&t->state, __ATOMIC_RELAXED) == CACHE_DRAINED ||
	       __atomic_load_n(&t->slots, __ATOMIC_RELAXED) == NULL;
}

/* Since the last look. */
static bool is_unchanged(struct thread *t)
{
	uintptr_t before = t->witness, seen = 0;

	for (unsigned c = 0; c < CLASSES; c++)
		seen = seen * 31 + (uintptr_t)__atomic_load_n(&thread_bin(t, c)->top, __ATOMIC_RELAXED);
	t->witness = seen;
	return seen == before;
}

/* So many ticks a cache may be found unchanged and yet not to be had, before it is
 * ignored: the system has no barrier, or a thread was killed inside an operation. */
#define REFUSALS 20

/*
 * One barrier for all: it costs much, and the more the more processors are at work.
 * What is found shut at the second look was so before this one's barrier, as long as
 * nobody else shuts any meanwhile; what a fork or a lost thread left shut was, too.
 */
bool cache_drain_idle(bool now)
{
	bool left = false, tell = false, others = false, known;

	if (now ? !take_lock(&drain_lock) : !lock_try(&drain_lock))
		return true;
	for (struct thread *t = registry_first(); t != NULL; t = t->next) {
		bool unchanged;

		if (holds_none(t))
			continue;
		unchanged = is_unchanged(t);
		t->refused = unchanged ? t->refused + 1 : 0;
		if (now || unchanged)
			others |= shut(t) && t != thread_self;
	}
	known = others && os_barrier_everywhere();
	for (struct thread *t = registry_first(); t != NULL; t = t->next) {
		tell |= empty_shut(t, known);
		left |= !holds_none(t) && t->refused < REFUSALS;
	}
	lock_release(&drain_lock);
	/* Its owner sleeps, and cannot. */
	if (tell && now)
		purger_tell();
	return left;
}

void cache_held(size_t *bytes, size_t *threads)
{
	*bytes = *threads = 0;
	for (struct thread *t = registry_first(); t != NULL; t = t->next) {
		size_t of_thread = 0;

		for (unsigned c = 0; c < CLASSES; c++) {
			void **base = __atomic_load_n(&t->slots, __ATOMIC_RELAXED) +
			              __atomic_load_n(&thread_bin(t, c)->first, __ATOMIC_RELAXED);
			void **top = __atomic_load_n(&thread_bin(t, c)->top, __ATOMIC_RELAXED);

			/* It may have none, or the owner may be moving them. */
			if (base < top && top - base <= CLASS_SLOTS)
				of_thread += (size_t)(top - base) * class_sizes[c];
		}
		*bytes += of_thread;
		*threads += of_thread != 0;
	}
}

void cache_fork_prepare(struct thread *own)
{
	drain_lock.kept = lock_is_mine(&drain_lock);
	own->cache_lock.kept = lock_is_mine(&own->cache_lock);
}

void cache_fork_parent(struct thread *own)
{
	own->cache_lock.kept = drain_lock.kept = false;
}

/* The child was made between two stores of whoever emptied this cache, perhaps. */
static void mend(struct thread *own)
{
	own->reserved = own->counted = 0;
	for (unsigned c = 0; c < CLASSES; c++) {
		if (own->capacity[c] == 0)
			__atomic_store_n(&thread_bin(own, c)->top, NULL, __ATOMIC_RELAXED);
		own->reserved += (size_t)own->capacity[c] * class_sizes[c];
		own->counted += (size_t)own->full[c] * class_sizes[c];
	}
	open_up(own);
}

void cache_fork_child(struct thread *own)
{
	bool at_work_here = own->cache_lock.kept;
	size_t counted = 0;

	lock_fork_child(&drain_lock);
	lock_fork_child(&orphans_lock);
	lock_fork_child(&own->cache_lock);
	/* What a handler's fork interrupted goes on by itself. */
	if (!at_work_here && own->state != CACHE_DRAINED)
		mend(own);
	for (const struct thread *t = registry_first(); t != NULL; t = t->next)
		counted += t->counted;
	__atomic_store_n(&cache_free_bytes, counted, __ATOMIC_SEQ_CST);
}
