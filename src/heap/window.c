#include "heap/window.h"

#include "base/bits.h"
#include "heap/segment.h"
#include "heap/slab.h"
#include "os/lock.h"
#include "os/os.h"

#define WINDOW   ((size_t)1 << 40)
#define SEGMENTS (WINDOW / SEGMENT)
/*
 * Where it may lie: above what programs and other runtimes ask for by address, below
 * where the system puts mappings, and within what emulators and valgrind serve.
 * Sanitizers keep their own records there, and have other places for a program's memory.
 */
#if defined(__SANITIZE_ADDRESS__)
#define LOWEST   ((uintptr_t)20 << 40)
#define HIGHEST  ((uintptr_t)32 << 40)
#elif defined(__SANITIZE_THREAD__)
#define LOWEST   ((uintptr_t)0x7e80 << 32)
#define HIGHEST  ((uintptr_t)0x7fa0 << 32)
#else
#define LOWEST   ((uintptr_t)2 << 40)
#define HIGHEST  ((uintptr_t)14 << 40)
#endif
/* Segments that are opened at once: an eighth of those open, and at most so many. */
#define STEP_PART 8
#define STEP_MOST 16
#define SCRUB_RANGES 64

struct window window __attribute__((aligned(64)));

static struct lock window_lock = LOCK_INIT(RANK_WINDOW);

/* The window and what describes it, in the order of opening. */
static struct part {
	char *start;
	size_t each; /* bytes for a segment */
	size_t open; /* bytes, whole pages */
} parts[] = {
	{ .each = sizeof(*window.segments) },
	{ .each = SEGMENT_UNITS * sizeof(*window.slabs) },
	{ .each = SEGMENT_UNITS * sizeof(*window.bits) },
	{ .each = SEGMENT_UNITS * sizeof(*window.bins) },
	{ .each = SEGMENT },
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))
const struct os_range window_parts = { parts, sizeof(parts) };

/* All guarded by window_lock. */
static size_t segments_open, segments_used;
static struct segment *spare;   /* nothing of them is in memory */
static struct segment *retired; /* their pages are not, their descriptions may be */
static struct segment *scrubbed, *scrubbed_last; /* out of retired, for window_scrub */

/* Another place in each process, as the system's own mappings have. */
static void choose_place(void)
{
	size_t places = (HIGHEST - LOWEST - WINDOW) / SEGMENT;
	uintptr_t at = LOWEST + os_random() % places * SEGMENT;

	for (size_t i = 0; i < PARTS; i++) {
		parts[i].start = (char *)at;
		at = align_up(at + SEGMENTS * parts[i].each, SEGMENT);
	}
	window.segments = (struct segment *)parts[0].start;
	window.slabs = (struct slab *)parts[1].start;
	window.bits = (void *)parts[2].start;
	window.bins = (uint16_t *)parts[3].start;
	__atomic_store_n(&window.base, (uintptr_t)parts[4].start, __ATOMIC_RELEASE);
}

static bool open_part(struct part *p, size_t count)
{
	size_t to = align_up(count * p->each, os_page_size);

	if (to > p->open) {
		if (!os_map_at(p->start + p->open, to - p->open))
			return false;
		/* Where the system would take huge pages unasked, one touch fills 2 MiB that
		 * nobody knows of; an arena that wants them says so (segment.c). */
		(void)os_advise_huge(p->start + p->open, to - p->open, false);
		p->open = to;
	}
	return true;
}

static bool open_segments(size_t step)
{
	size_t to = segments_open + step;

	if (to > SEGMENTS)
		return false;
	if (window.base == 0)
		choose_place();
	for (size_t i = 0; i < PARTS; i++)
		if (!open_part(&parts[i], to))
			return false;
	segments_open = to;
	__atomic_store_n(&window.steps, to * SEGMENT / 16, __ATOMIC_RELEASE);
	return true;
}

static struct segment *take(void)
{
	struct segment **list = retired != NULL ? &retired : &spare, *s = *list;

	if (s != NULL) {
		*list = s->next;
		return s;
	}
	if (segments_used == segments_open) {
		size_t step = size_max(size_min(segments_open / STEP_PART, STEP_MOST), 1);

		if (!open_segments(step) && !open_segments(1))
			return NULL;
	}
	return &window.segments[segments_used++];
}

struct segment *window_take_segment(void)
{
	struct segment *s;

	/* A handler may have interrupted its thread in window_scrub. */
	if (!lock_try(&window_lock)) {
		if (lock_is_mine(&window_lock))
			return NULL;
		lock_acquire(&window_lock);
	}
	s = take();
	lock_release(&window_lock);
	return s;
}

void window_return_segment(struct segment *s)
{
	lock_acquire(&window_lock);
	s->next = retired;
	retired = s;
	lock_release(&window_lock);
}

/* The whole pages of what describes the units of a segment. */
static void add_ranges(const struct segment *s, struct os_range *ranges, unsigned *count)
{
	size_t unit = (size_t)(s - window.segments) * SEGMENT_UNITS;
	struct os_range all[] = {
		{ &window.slabs[unit], SEGMENT_UNITS * sizeof(*window.slabs) },
		{ &window.bits[unit], SEGMENT_UNITS * sizeof(*window.bits) },
	};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].size % os_page_size == 0)
			ranges[(*count)++] = all[i];
}

/* With the lock. */
static void put_scrubbed(struct segment **list)
{
	if (scrubbed == NULL)
		return;
	scrubbed_last->next = *list;
	*list = scrubbed;
	scrubbed = NULL;
}

bool window_scrub(uint64_t *calls)
{
	struct os_range ranges[SCRUB_RANGES];
	unsigned count = 0;
	bool any;

	lock_acquire(&window_lock);
	any = retired != NULL;
	scrubbed = retired;
	for (; retired != NULL && count + 2 <= SCRUB_RANGES; retired = retired->next) {
		scrubbed_last = retired;
		add_ranges(retired, ranges, &count);
	}
	lock_release(&window_lock);
	if (count != 0)
		(void)os_discard(ranges, count, calls);
	lock_acquire(&window_lock);
	put_scrubbed(&spare);
	lock_release(&window_lock);
	return any;
}

void window_fork_prepare(void)
{
	lock_fork_acquire(&window_lock);
}

void window_fork_parent(void)
{
	lock_fork_release(&window_lock);
}

void window_fork_child(void)
{
	/* Nobody here is scrubbing them; or this thread, when its handler forks, and it will
	 * find none.  One that had the lock goes on where it was. */
	if (!window_lock.kept)
		put_scrubbed(&retired);
	lock_fork_child(&window_lock);
}
