#include "heap/spare.h"

#include "base/bits.h"
#include "heap/misuse.h"
#include "os/lock.h"
#include "purge/decay.h"

/* Beyond so many, what blocks leave is unmapped at once. */
#define SPARES 64

/* What one release gives back. */
#define RELEASE_BYTES ((size_t)8 << 20)

static struct lock lock = LOCK_INIT(RANK_SPARES);
/* All below: guarded by lock; the counts are read without it, too. */
struct spare_counts spare_counts;
static struct os_range spares[SPARES]; /* the oldest first */
static unsigned count;
static struct os_range leaving;        /* taken aside by spare_release */
static struct decay decay;
const struct spare_places spare_places = { &lock, &count, spares };
static size_t unmapped;                /* bytes that went and were not mapped anew since */

static bool enter(void)
{
	/* A thread whose first call here frees a block of another. */
	if (unlikely(lock_self == 0))
		lock_thread_begin();
	if (likely(lock_try(&lock)))
		return true;
	if (lock_is_mine(&lock))
		return false;
	lock_acquire(&lock);
	return true;
}

static char *end_of(const struct os_range *r)
{
	return (char *)r->start + r->size;
}

static void set_bytes(size_t now)
{
	__atomic_store_n(&spare_counts.bytes, now, __ATOMIC_SEQ_CST);
	decay_fell(&decay, now);
}

static void drop(unsigned at)
{
	count--;
	for (; at < count; at++)
		spares[at] = spares[at + 1];
}

/* Takes `size` bytes of a spare's front. */
static void *cut(unsigned at, size_t size)
{
	void *start = spares[at].start;

	spares[at].start = (char *)start + size;
	spares[at].size -= size;
	if (spares[at].size == 0)
		drop(at);
	set_bytes(spare_counts.bytes - size);
	return start;
}

void *spare_take(size_t size, size_t room)
{
	void *start = NULL;
	unsigned best;

	/* The greatest requests' room is beyond what a number holds. */
	room = size_max(room, size);
	if (spare_bytes() < room || !enter())
		return NULL;
	best = count;
	for (unsigned i = 0; i < count; i++)
		if (spares[i].size >= room && (best == count || spares[i].size < spares[best].size))
			best = i;
	if (best != count)
		start = cut(best, size);
	lock_release(&lock);
	return start;
}

bool spare_take_whole(struct os_range *out)
{
	unsigned largest = 0;
	bool found;

	if (spare_bytes() == 0 || !enter())
		return false;
	for (unsigned i = 1; i < count; i++)
		if (spares[i].size > spares[largest].size)
			largest = i;
	found = count != 0;
	if (found) {
		*out = spares[largest];
		(void)cut(largest, out->size);
	}
	lock_release(&lock);
	return found;
}

size_t spare_take_behind(void *start, size_t size)
{
	size_t got = 0;

	if (spare_bytes() == 0 || !enter())
		return 0;
	for (unsigned i = 0; i < count; i++) {
		if (spares[i].start == start) {
			got = size_min(size, spares[i].size);
			(void)cut(i, got);
			break;
		}
	}
	lock_release(&lock);
	return got;
}

/* Takes the spares that `r` touches into it. */
static void merge(struct os_range *r)
{
	for (unsigned i = 0; i < count;) {
		struct os_range *s = &spares[i];

		if (unlikely((char *)r->start < end_of(s) && (char *)s->start < end_of(r)))
			misuse("free", r->start, "double free, or corrupted size of a mapped block");
		if ((char *)r->start != end_of(s) && (char *)s->start != end_of(r)) {
			i++;
			continue;
		}
		if (s->start < r->start)
			r->start = s->start;
		r->size += s->size;
		drop(i);
	}
}

/* With the lock. */
static bool put(void *start, size_t size)
{
	struct os_range r = { start, size };

	merge(&r);
	if (count == SPARES)
		return false;
	spares[count++] = r;
	set_bytes(spare_counts.bytes + size);
	return true;
}

bool spare_put(void *start, size_t size)
{
	bool kept;

	if (!enter())
		return false;
	kept = put(start, size);
	lock_release(&lock);
	return kept;
}

void spare_missed(size_t size)
{
	if (!enter())
		return;
	size = size_min(size, unmapped);
	unmapped -= size;
	__atomic_store_n(&spare_counts.refaulted_bytes, spare_counts.refaulted_bytes + size,
	                 __ATOMIC_RELAXED);
	lock_release(&lock);
}

size_t spare_bytes(void)
{
	return __atomic_load_n(&spare_counts.bytes, __ATOMIC_SEQ_CST);
}

size_t spare_count(void)
{
	return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

size_t spare_tick(unsigned delay, size_t *wanted)
{
	size_t old;

	lock_acquire(&lock);
	decay_tick(&decay, spare_counts.bytes);
	old = decay_due(&decay, spare_counts.bytes, delay);
	*wanted += spare_counts.refaulted_bytes;
	lock_release(&lock);
	return old;
}

size_t spare_release(size_t want)
{
	uint64_t calls = 0;
	size_t size = 0;

	if (spare_bytes() + leaving.size == 0 || !enter())
		return 0;
	/* The child of a fork may find what its parent took aside. */
	if (leaving.size != 0 && put(leaving.start, leaving.size))
		leaving.size = 0;
	if (leaving.size == 0 && count != 0) {
		struct os_range *oldest = &spares[0];

		size = size_min(size_min(want & -os_page_size, RELEASE_BYTES), oldest->size);
		oldest->size -= size;
		leaving = (struct os_range){ end_of(oldest), size };
		if (oldest->size == 0)
			drop(0);
		set_bytes(spare_counts.bytes - size);
	}
	lock_release(&lock);
	if (size == 0)
		return 0;
	/* Unmapping the empty range is quick, and a fork meanwhile would not know
	 * whether the range is still there. */
	(void)os_discard(&leaving, 1, &calls);
	lock_acquire(&lock);
	os_release(leaving.start, leaving.size);
	leaving.size = 0;
	decay_purged(&decay, size);
	unmapped += size;
	lock_release(&lock);
	return size;
}

void spare_fork_prepare(void)
{
	lock_fork_acquire(&lock);
}

void spare_fork_parent(void)
{
	lock_fork_release(&lock);
}

void spare_fork_child(void)
{
	lock_fork_child(&lock);
}
