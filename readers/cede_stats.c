#include "readers/cede_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "readers/access.h"

/* How often a reading is repeated until two agree. */
#define READINGS 5
#define ARENA_READINGS 10

/* No heap has more; whoever says so leads us in a circle. */
#define ARENAS   ((size_t)1 << 16)
#define THREADS  ((size_t)1 << 18)

/* So much is read of a process, in all: seconds.  A heap of 1 TiB needs half. */
#define READ_MOST ((uint64_t)16 << 30)
#define CALL_COST 4096u /* bytes' worth */

#define MIN_CHUNK  32u
#define SIZE_FLAGS 7u
#define BATCH      256 /* segments that are read at once */

struct reader {
	const struct memory *memory;
	const struct cede_descriptor *d;
	struct cede_stats *stats;
	uint64_t left;                        /* of READ_MOST */
	bool moved;                           /* an arena changed while it was read */
	uint64_t free_units;                  /* which no slab has, but perhaps resident */
	/* Each just as large as the descriptor says. */
	char *arena, *again;
	uint16_t *bins;                       /* of a batch of segments */
	char *segments;
	char *records;                        /* of one */
	uint64_t *bits;                       /* of one slab */
	uint64_t (*caches)[4];                /* of one thread */
	uint32_t *sizes;
};

static uint64_t word(const void *from, uint32_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)from + offset, sizeof(value));
	return value;
}

static uint32_t number(const void *from, uint32_t offset, size_t size)
{
	uint32_t value = 0;

	memcpy(&value, (const char *)from + offset, size);
	return value;
}

static uint64_t page_up(uint64_t at)
{
	return (at + MEMORY_PAGE - 1) & -MEMORY_PAGE;
}

static bool read_bytes(struct reader *r, uint64_t address, void *to, size_t size)
{
	if (r->left < size + CALL_COST)
		return false;
	r->left -= size + CALL_COST;
	return memory_read(r->memory, address, to, size);
}

/* To read again would take as long. */
static bool led_astray(struct reader *r)
{
	r->left = 0;
	return false;
}

static bool read_words(struct reader *r, uint64_t address, uint64_t *words, size_t count)
{
	return read_bytes(r, address, words, count * sizeof(*words));
}

/* ---- arenas ---- */

/* An arena and the size of its top, of one moment if the process lets us. */
static bool read_arena(struct reader *r, uint64_t address, uint64_t *top_size)
{
	size_t size = r->d->arena_size;

	for (int i = 0; i < ARENA_READINGS; i++) {
		if (!read_bytes(r, address, r->arena, size) ||
		    !read_words(r, word(r->arena, r->d->arena_top) + 8, top_size, 1) ||
		    !read_bytes(r, address, r->again, size))
			return false;
		*top_size &= ~(uint64_t)SIZE_FLAGS;
		if (!memcmp(r->arena, r->again, size))
			return true;
	}
	r->moved = true;
	return true;
}

/* Of the top: its whole pages, and those of them that may be resident. */
static uint64_t add_top_pages(struct reader *r, uint64_t size)
{
	uint64_t top = word(r->arena, r->d->arena_top), end = (top + size) & -MEMORY_PAGE;
	uint64_t start = page_up(top + MIN_CHUNK);
	uint64_t lo = word(r->arena, r->d->arena_top_dirty);
	uint64_t hi = word(r->arena, r->d->arena_top_dirty + 8);

	if (lo < start)
		lo = start;
	r->stats->free_resident_bytes += lo < hi ? hi - lo : 0;
	return start < end ? end - start : 0;
}

static void add_arena(struct reader *r, uint64_t top_size)
{
	const struct cede_descriptor *d = r->d;
	struct cede_stats *s = r->stats;
	uint64_t binned = word(r->arena, d->arena_binned), dirty = word(r->arena, d->arena_dirty_bytes);

	s->arenas++;
	s->system_bytes += word(r->arena, d->arena_system_bytes);
	s->system_peak_bytes += word(r->arena, d->arena_peak) +
	                        word(r->arena, d->arena_slab_peak) * d->unit_size;
	s->free_bytes += binned + top_size + word(r->arena, d->arena_top_claimed) +
	                 word(r->arena, d->arena_claimed_bytes);
	s->lock_waits += word(r->arena, d->arena_lock_waits);
	s->lock_sleeps += word(r->arena, d->arena_lock_sleeps);
	s->refaulted_bytes += word(r->arena, d->arena_refaulted);
	s->slab_bytes += word(r->arena, d->arena_slab_units) * d->unit_size;
	s->slab_live_bytes += word(r->arena, d->arena_slab_live);
	s->slab_resident_bytes += word(r->arena, d->arena_slab_pages) * MEMORY_PAGE;
	s->slab_record_bytes += word(r->arena, d->arena_segments) *
	                        (d->segment_size + d->segment_units * (d->record_size + 2ul));
	if (s->policy == CEDE_POLICY_CLASSIC)
		return;
	s->free_resident_bytes += dirty;
	s->pinned_bytes += binned - dirty - word(r->arena, d->arena_gone);
	s->pinned_bytes += top_size - add_top_pages(r, top_size);
}

static bool read_arenas(struct reader *r)
{
	uint64_t address = r->d->main_arena, top_size;

	for (size_t i = 0; address != 0; i++) {
		if (i == ARENAS)
			return led_astray(r);
		if (!read_arena(r, address, &top_size))
			return false;
		add_arena(r, top_size);
		address = word(r->arena, r->d->arena_next);
	}
	return true;
}

/* ---- slabs ---- */

static bool all_free(const uint64_t *bits, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (!(bits[i / 64] >> i % 64 & 1))
			return false;
	return true;
}

/* Of a slab's pages that may be resident, those without a live byte; what lies behind the
 * last block is free with that. */
static uint64_t free_pages(const struct reader *r, const char *record, const char *touched,
                           uint32_t units)
{
	uint32_t size = number(record, r->d->record_block_size, 4);
	uint32_t blocks = number(record, r->d->record_blocks, 2);
	uint32_t pages = r->d->unit_size / MEMORY_PAGE;
	uint64_t count = 0;

	for (uint32_t page = 0; page < units * pages; page++) {
		uint64_t offset = (uint64_t)page * MEMORY_PAGE;
		uint64_t from = offset / size, to = (offset + MEMORY_PAGE - 1) / size + 1;

		if (number(touched, 2 * (page / pages), 2) >> page % pages & 1)
			count += all_free(r->bits, from < blocks ? (uint32_t)from : blocks - (blocks != 0),
			                  to < blocks ? (uint32_t)to : blocks);
	}
	return count;
}

/* Returns its units; 0: it makes no sense. */
static uint32_t add_slab(struct reader *r, uint64_t address, const char *record,
                         const char *touched, uint32_t room)
{
	const struct cede_descriptor *d = r->d;
	uint32_t units = number(record, d->record_units, 1), free = number(record, d->record_free, 2);
	uint32_t size = number(record, d->record_block_size, 4);
	uint32_t blocks = number(record, d->record_blocks, 2);
	uint64_t where = word(record, d->record_bits), in_record = where - address;
	size_t words = (blocks + 63) / 64;

	if (units == 0 || units > room || size == 0 ||
	    (uint64_t)blocks * size > (uint64_t)units * d->unit_size)
		return 0;
	if (in_record < d->record_size && words * 8 <= d->record_size - in_record)
		memcpy(r->bits, record + in_record, words * 8);
	else if (!read_words(r, where, r->bits, words))
		return 0;
	r->stats->slab_free_blocks += free + number(record, d->record_claimed, 2);
	if (in_record >= d->record_size)
		r->stats->slab_record_bytes += d->unit_size / 128;
	if (free != 0)
		r->stats->slab_free_resident_bytes +=
			free_pages(r, record, touched, units) * MEMORY_PAGE;
	return units;
}

static bool add_segment(struct reader *r, uint64_t records, const uint16_t *bins,
                        const char *segment)
{
	const struct cede_descriptor *d = r->d;
	const char *touched = segment + d->segment_touched;
	bool any = false;

	for (uint32_t i = 0; i < d->segment_units; i++)
		any |= bins[i] != 0;
	if (any && !read_bytes(r, records, r->records, (size_t)d->segment_units * d->record_size))
		return false;
	for (uint32_t i = 0, units; i < d->segment_units; i += units) {
		uint32_t pages = number(touched, 2 * i, 2);

		units = 1;
		if (bins[i] == 0) {
			r->free_units += pages != 0;
			r->stats->slab_free_resident_bytes +=
				(unsigned)__builtin_popcount(pages) * MEMORY_PAGE;
			continue;
		}
		units = add_slab(r, records + (uint64_t)i * d->record_size,
		                 r->records + (size_t)i * d->record_size, touched + 2 * i,
		                 d->segment_units - i);
		/* It began or ended just now. */
		if (units == 0) {
			r->moved = true;
			units = 1;
		}
	}
	return true;
}

static bool read_slabs(struct reader *r)
{
	const struct cede_descriptor *d = r->d;
	uint64_t window[6], segment_bytes = (uint64_t)d->unit_size * d->segment_units, count;

	if (!read_words(r, d->window, window, 6))
		return false;
	if (window[0] == 0)
		return true;
	count = window[1] / (segment_bytes / 16);
	for (uint64_t i = 0; i < count; i += BATCH) {
		size_t batch = count - i < BATCH ? count - i : BATCH;

		if (!read_bytes(r, window[2] + i * d->segment_units * 2, r->bins,
		                 batch * d->segment_units * 2) ||
		    !read_bytes(r, window[5] + i * d->segment_size, r->segments,
		                 batch * d->segment_size))
			return false;
		for (size_t k = 0; k < batch; k++)
			if (!add_segment(r, window[3] + (i + k) * d->segment_units * d->record_size,
			                 r->bins + k * d->segment_units, r->segments + k * d->segment_size))
				return false;
	}
	return true;
}

/* ---- the rest ---- */

static bool read_caches(struct reader *r)
{
	const struct cede_descriptor *d = r->d;
	uint64_t thread, slots;

	if (!read_bytes(r, d->class_sizes, r->sizes, d->classes * sizeof(*r->sizes)) ||
	    !read_words(r, d->threads, &thread, 1))
		return false;
	for (size_t i = 0; thread != 0; i++) {
		uint64_t bytes = 0;

		if (i == THREADS)
			return led_astray(r);
		if (!read_words(r, thread + d->thread_slots, &slots, 1) ||
		    !read_bytes(r, thread + d->thread_bins, r->caches, d->classes * sizeof(*r->caches)))
			return false;
		for (uint32_t c = 0; c < d->classes; c++) {
			uint64_t top = r->caches[c][0], base = slots + 8 * (uint64_t)(uint32_t)r->caches[c][3];

			/* The thread may be moving them. */
			if (base < top && (top - base) / 8 <= UINT16_MAX)
				bytes += (top - base) / 8 * r->sizes[c];
		}
		r->stats->cached_bytes += bytes;
		r->stats->caching_threads += bytes != 0;
		if (!read_words(r, thread + d->thread_next, &thread, 1))
			return false;
	}
	return true;
}

static bool read_counts(struct reader *r, struct cede_reading *reading)
{
	const struct cede_descriptor *d = r->d;
	struct cede_stats *s = r->stats;
	uint64_t mapped[4], purge[9], spares[2];
	uint32_t purger;
	uint8_t may;

	if (!read_bytes(r, d->policy, &s->policy, sizeof(s->policy)) ||
	    !read_bytes(r, d->background, &may, sizeof(may)) ||
	    !read_bytes(r, d->purger, &purger, sizeof(purger)) ||
	    !read_words(r, d->mapped, mapped, 4) || !read_words(r, d->purge_counts, purge, 9) ||
	    !read_words(r, d->spares, spares, 2) ||
	    !read_words(r, d->retain_max, &reading->retain_max, 1))
		return false;
	if (s->policy > CEDE_POLICY_CLASSIC || purger > CEDE_PURGER_ABSENT)
		return false;
	reading->background = may != 0;
	s->purger = may ? purger : CEDE_PURGER_ABSENT;
	if (s->policy == CEDE_POLICY_CLASSIC)
		s->purger = CEDE_PURGER_NONE;
	s->mapped_blocks = mapped[0];
	s->mapped_bytes = mapped[1];
	s->system_peak_bytes = mapped[3];
	s->purged_bytes = purge[0];
	s->purge_calls = purge[1];
	s->purge_passes = purge[2];
	s->purge_ns = purge[3];
	s->pressure_releases = purge[4];
	s->pressure_ms = purge[5];
	s->memory_locked = purge[6];
	s->delay_ms = purge[7];
	s->thread_retry_ms = may && s->purger == CEDE_PURGER_ABSENT ? purge[8] : 0;
	s->spare_bytes = spares[0];
	s->refaulted_bytes = spares[1];
	return true;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sums of sums.  Where the parts are of different moments, they stay within the whole. */
static void add_up(struct reader *r)
{
	struct cede_stats *s = r->stats;
	uint64_t slab_free;

	s->slab_bytes += r->free_units * r->d->unit_size;
	s->slab_live_bytes = least(s->slab_live_bytes, s->slab_bytes);
	s->slab_resident_bytes = least(s->slab_resident_bytes, s->slab_bytes);
	slab_free = s->slab_resident_bytes - least(s->slab_live_bytes, s->slab_resident_bytes);
	s->slab_free_resident_bytes = least(s->slab_free_resident_bytes, slab_free);
	if (s->policy == CEDE_POLICY_DEFAULT)
		s->pinned_bytes += slab_free - s->slab_free_resident_bytes;
	s->free_resident_bytes += s->slab_free_resident_bytes + s->spare_bytes;
	s->system_bytes += s->slab_bytes + s->spare_bytes + s->mapped_bytes;
	s->free_bytes += s->slab_bytes - s->slab_live_bytes + s->spare_bytes;
	s->free_bytes = least(s->free_bytes, s->system_bytes);
	s->free_resident_bytes = least(s->free_resident_bytes, s->free_bytes);
	s->pinned_bytes = least(s->pinned_bytes, s->free_bytes - s->free_resident_bytes);
	s->live_bytes = s->system_bytes - s->free_bytes;
	s->cached_bytes = least(s->cached_bytes, s->live_bytes);
	if (s->system_peak_bytes < s->system_bytes)
		s->system_peak_bytes = s->system_bytes;
}

static bool read_once(struct reader *r, struct cede_reading *reading)
{
	memset(reading, 0, sizeof(*reading));
	r->stats = &reading->stats;
	r->moved = false;
	r->free_units = 0;
	if (!read_counts(r, reading) || !read_arenas(r) || !read_slabs(r) ||
	    !read_caches(r))
		return false;
	add_up(r);
	reading->while_it_ran = r->moved;
	return true;
}

/* As often as it takes for two readings to agree, but not for ever. */
static bool read_settled(struct reader *r, struct cede_reading *reading)
{
	struct cede_reading before;
	bool was_read = false, is_read = false;

	for (int i = 0; i < READINGS; i++) {
		before = *reading;
		was_read = is_read;
		errno = 0;
		is_read = read_once(r, reading);
		if (was_read && is_read && !reading->while_it_ran &&
		    !memcmp(&before, reading, sizeof(before)))
			return true;
	}
	reading->while_it_ran = true;
	return is_read;
}

static bool allocate(struct reader *r)
{
	const struct cede_descriptor *d = r->d;

	r->arena = calloc(1, d->arena_size);
	r->again = calloc(1, d->arena_size);
	r->bins = calloc(BATCH * d->segment_units, sizeof(*r->bins));
	r->segments = calloc(BATCH, d->segment_size);
	r->records = calloc(d->segment_units, d->record_size);
	r->bits = calloc((UINT16_MAX + 1) / 64, sizeof(*r->bits));
	r->caches = calloc(d->classes, sizeof(*r->caches));
	r->sizes = calloc(d->classes, sizeof(*r->sizes));
	return r->arena && r->again && r->bins && r->segments && r->records && r->bits && r->caches &&
	       r->sizes;
}

static void release(struct reader *r)
{
	free(r->arena);
	free(r->again);
	free(r->bins);
	free(r->segments);
	free(r->records);
	free(r->bits);
	free(r->caches);
	free(r->sizes);
}

bool cede_stats_read(const struct cede_target *target, struct cede_reading *reading,
                     struct cede_refusal *refusal)
{
	struct reader r = {
		.memory = &target->memory, .d = &target->descriptor, .left = READ_MOST
	};
	pid_t pid = target->memory.pid;
	bool done = false;

	if (!allocate(&r)) {
		release(&r);
		return cede_target_refuse(refusal, "out of memory");
	}
	done = read_settled(&r, reading);
	if (!done && errno == ESRCH)
		access_explain(pid, errno, refusal->text, sizeof(refusal->text));
	else if (!done)
		(void)cede_target_refuse(refusal, "the heap of process %d makes no sense: its memory was "
		                         "overwritten, or it is no cede", pid);
	release(&r);
	return done;
}
