#include "heap/slab.h"

#include "heap/arena.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/thread.h"

_Static_assert(sizeof(struct slab) == 256, "a segment's records fill whole pages");

bool slabs_on = true;

/*
 * Rings, by the share of a slab's blocks that is free: up to an eighth, up to half,
 * more.  A refill takes from those in the middle first: the fullest give it few
 * blocks each and have little memory to lose, the emptiest may soon be empty.
 */
enum { NEARLY_FULL, MIDDLE, NEARLY_EMPTY };
static const uint8_t preferred[SLAB_RINGS] = { MIDDLE, NEARLY_FULL, NEARLY_EMPTY };

static unsigned ring_of(const struct slab *s)
{
	if (s->free == 0)
		return SLAB_RINGS;
	if ((unsigned)s->free * 8 <= s->blocks)
		return NEARLY_FULL;
	return (unsigned)s->free * 2 <= s->blocks ? MIDDLE : NEARLY_EMPTY;
}

static void leave_ring(struct arena *a, struct slab *s)
{
	if (s->ring == SLAB_RINGS)
		return;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		a->slabs.rings[s->class][s->ring] = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	s->ring = SLAB_RINGS;
}

static void enter_ring(struct arena *a, struct slab *s)
{
	unsigned ring = ring_of(s);
	struct slab **head;

	if (ring == s->ring)
		return;
	leave_ring(a, s);
	if (ring == SLAB_RINGS)
		return;
	head = &a->slabs.rings[s->class][ring];
	s->ring = (uint8_t)ring;
	s->prev = NULL;
	s->next = *head;
	if (s->next != NULL)
		s->next->prev = s;
	*head = s;
}

/* ---- making and ending ---- */

static void set_bits(struct slab *s)
{
	unsigned words = s->blocks / 64u, rest = s->blocks % 64u;

	for (unsigned i = 0; i < words; i++)
		s->bits[i] = UINT64_MAX;
	if (rest != 0)
		s->bits[words] = ((uint64_t)1 << rest) - 1;
}

static void set_bins(size_t unit, unsigned count, uint16_t bin)
{
	for (unsigned i = 0; i < count; i++)
		__atomic_store_n(&window.bins[unit + i], bin, __ATOMIC_RELAXED);
}

/* In no ring yet: its first blocks are about to be taken. */
static struct slab *make(struct arena *a, unsigned class)
{
	uint32_t size = class_sizes[class];
	unsigned units = slab_class_units(size);
	size_t unit = segment_take_units(a, units);
	struct slab *s;

	if (unit == UNIT_NONE)
		return NULL;
	s = &window.slabs[unit];
	for (unsigned i = 0; i < units; i++)
		s[i].back = (uint8_t)i;
	s->arena = a;
	s->size = size;
	s->inverse = size == 16 ? 0 : (uint32_t)(((uint64_t)1 << 32) / (size / 16)) + 1;
	s->class = (uint8_t)class;
	s->units = (uint8_t)units;
	s->blocks = s->free = (uint16_t)(units * UNIT / size);
	s->bits = s->blocks <= SLAB_FEW ? s->few : window.bits[unit];
	s->ring = SLAB_RINGS;
	s->first = s->claimed = 0;
	set_bits(s);
	set_bins(unit, units, thread_bin_offset(class));
	a->slabs.units += units;
	a->slabs.most_units = size_max(a->slabs.most_units, a->slabs.units);
	return s;
}

static void end(struct arena *a, struct slab *s)
{
	size_t unit = (size_t)(s - window.slabs);

	leave_ring(a, s);
	set_bins(unit, s->units, 0);
	a->slabs.units -= s->units;
	segment_return_units(a, unit, s->units);
}

/* ---- blocks ---- */

/* Takes the blocks of these bits, to `want`; returns how many.  Some bits are set. */
static unsigned take_bits(uint64_t *bits, char *from, size_t size, void **blocks, unsigned want)
{
	unsigned first = (unsigned)__builtin_ctzll(*bits), got = 0;
	unsigned row = 64 - (unsigned)__builtin_clzll(*bits) - first;
	uint64_t left = *bits;

	/* Side by side, as in a slab that is new. */
	if ((left & (left + (left & -left))) == 0) {
		if (row > want)
			row = want;
		from += first * size;
		for (; got < row; from += size)
			blocks[got++] = from;
		left &= ~(UINT64_MAX >> (64 - row) << first);
	} else {
		for (; left != 0 && got < want; left &= left - 1)
			blocks[got++] = from + (unsigned)__builtin_ctzll(left) * size;
	}
	__atomic_store_n(bits, left, __ATOMIC_RELAXED);
	return got;
}

static unsigned take_from(struct arena *a, struct slab *s, void **blocks, unsigned want)
{
	char *start = slab_start(s), *last;
	size_t size = s->size;
	unsigned word = s->first, got = 0;

	if (want > s->free)
		want = s->free;
	for (; got < want; word++) {
		if (s->bits[word] != 0)
			got += take_bits(&s->bits[word], start + word * 64 * size, size,
			                 blocks + got, want - got);
	}
	last = blocks[got - 1];
	s->first = (uint16_t)(word - 1);
	s->free = (uint16_t)(s->free - got);
	/* All blocks between are in use now, too. */
	segment_touch(a, (size_t)(s - window.slabs), (size_t)((char *)blocks[0] - start),
	              (size_t)(last - start) + size);
	return got;
}

static struct slab *best(struct arena *a, unsigned class)
{
	for (unsigned i = 0; i < SLAB_RINGS; i++) {
		struct slab *s = a->slabs.rings[class][preferred[i]];

		if (s != NULL)
			return s;
	}
	return make(a, class);
}

unsigned slab_take(struct arena *a, unsigned class, void **blocks, unsigned want)
{
	unsigned got = 0;

	if (unlikely(__atomic_load_n(&a->deferred, __ATOMIC_RELAXED) != NULL))
		free_deferred(a);

	while (got < want) {
		struct slab *s = best(a, class);

		if (s == NULL)
			break;
		got += take_from(a, s, blocks + got, want - got);
		enter_ring(a, s);
	}
	a->slabs.live_bytes += (size_t)got * class_sizes[class];
	return got;
}

static _Noreturn COLD void reject(const struct slab *s, const void *block, const char *function)
{
	size_t offset = (size_t)((const char *)block - slab_start(s));

	if (window.bins[window_unit(block)] == 0 || slab_index(s, offset) >= s->blocks)
		misuse(function, block, "double free, or invalid pointer: no block there");
	misuse(function, block, "invalid pointer: inside a block");
}

static bool is_slab(const void *block)
{
	return __atomic_load_n(&window.bins[window_unit(block)], __ATOMIC_RELAXED) != 0;
}

struct slab *slab_of(const void *block, const char *function)
{
	struct slab *s = slab_at(block);
	size_t offset = (size_t)((const char *)block - slab_start(s));
	uint32_t index = slab_index(s, offset);

	if (unlikely(!is_slab(block) || (size_t)index * s->size != offset || index >= s->blocks))
		reject(s, block, function);
	if (unlikely(__atomic_load_n(&s->bits[index / 64], __ATOMIC_RELAXED) >> index % 64 & 1))
		misuse(function, block, "double free");
	return s;
}

static void settle(struct arena *a, struct slab *s)
{
	if (s->free == s->blocks) {
		end(a, s);
		return;
	}
	enter_ring(a, s);
	segment_queue(a, (size_t)(s - window.slabs), s->units);
}

/* The bits of [i, to) within i's word; *next: where the next word begins, or to. */
static uint64_t part(uint32_t i, uint32_t to, uint32_t *next)
{
	uint32_t count = 64 - i % 64 < to - i ? 64 - i % 64 : to - i;

	*next = i + count;
	return UINT64_MAX >> (64 - count) << i % 64;
}

/* The blocks [from, to) are free from now on. */
static void free_range(struct slab *s, uint32_t from, uint32_t to)
{
	for (uint32_t i = from, next; i < to; i = next) {
		uint64_t mask = part(i, to, &next), word = s->bits[i / 64];

		if (unlikely((word & mask) != 0))
			misuse("free", slab_start(s) + s->size * (i / 64 * 64 + (size_t)__builtin_ctzll(word & mask)),
			       "double free");
		__atomic_store_n(&s->bits[i / 64], word | mask, __ATOMIC_RELAXED);
	}
	s->first = (uint16_t)size_min(s->first, from / 64);
}

/* How many blocks at the front of a row are `step` bytes apart, of at most `most`. */
static unsigned side_by_side(void *const *blocks, unsigned most, ptrdiff_t step)
{
	const char *next = (const char *)blocks[0] + step;
	unsigned n = 1;

	for (; n < most && blocks[n] == next; n++)
		next += step;
	return n;
}

/*
 * Frees the blocks at the front of a row that lie in this slab; returns how many.  Mostly
 * they lie side by side, as they were taken or the other way round.
 */
static unsigned free_row(struct slab *s, void *const *blocks, unsigned count)
{
	const char *start = slab_start(s);
	size_t size = s->size, used = s->blocks * size, offset;
	unsigned given = 0, row;

	for (; given < count; given += row) {
		unsigned left = count - given;
		uint32_t index;

		offset = (size_t)((const char *)blocks[given] - start);
		if (offset >= used)
			break;
		index = slab_index(s, offset);
		if (unlikely(index * size != offset))
			reject(s, blocks[given], "free");
		row = side_by_side(blocks + given, (unsigned)size_min(left, s->blocks - index), (ptrdiff_t)size);
		if (row == 1) {
			row = side_by_side(blocks + given, (unsigned)size_min(left, index + 1), -(ptrdiff_t)size);
			index -= row - 1;
		}
		free_range(s, index, index + row);
	}
	return given;
}

/* Takes the blocks at the front of a row back that are of this slab; returns how many. */
static unsigned give_to(struct arena *a, struct slab *s, void **blocks, unsigned count)
{
	unsigned given = free_row(s, blocks, count);

	if (unlikely(given == 0))
		reject(s, blocks[0], "free");
	s->free = (uint16_t)(s->free + given);
	a->slabs.live_bytes -= (size_t)given * s->size;
	a->slabs.freed += (size_t)given * s->size;
	settle(a, s);
	return given;
}

unsigned slab_give(struct arena *a, void **blocks, unsigned count, uint32_t least)
{
	unsigned given = 0;

	while (given < count && window_has(blocks[given])) {
		struct slab *s = slab_at(blocks[given]);

		if (unlikely(!is_slab(blocks[given])))
			reject(s, blocks[given], "free");
		if (s->arena != a)
			break;
		if (unlikely(s->size < least))
			misuse("free_sized", blocks[given], "the block is smaller than the size given");
		given += give_to(a, s, blocks + given, count - given);
	}
	return given;
}

/* ---- the purger's ---- */

bool slab_range_is(const struct slab *s, uint32_t from, uint32_t to, bool is_free)
{
	for (uint32_t i = from, next; i < to; i = next) {
		uint64_t mask = part(i, to, &next);

		if ((s->bits[i / 64] & mask) != (is_free ? mask : 0))
			return false;
	}
	return true;
}

static void set_range(struct slab *s, uint32_t from, uint32_t to, bool is_free)
{
	for (uint32_t i = from, next; i < to; i = next) {
		uint64_t mask = part(i, to, &next), word = s->bits[i / 64];

		__atomic_store_n(&s->bits[i / 64], is_free ? word | mask : word & ~mask,
		                 __ATOMIC_RELAXED);
	}
}

void slab_hide(struct arena *a, struct slab *s, uint32_t from, uint32_t to)
{
	set_range(s, from, to, false);
	s->free = (uint16_t)(s->free - (to - from));
	s->claimed = (uint16_t)(s->claimed + (to - from));
	enter_ring(a, s);
}

void slab_show(struct arena *a, struct slab *s, uint32_t from, uint32_t to)
{
	/* Meanwhile they counted as in use, so this is the place to notice. */
	if (unlikely(!slab_range_is(s, from, to, false)))
		misuse("heap", slab_start(s) + (size_t)from * s->size, "double free");
	set_range(s, from, to, true);
	s->free = (uint16_t)(s->free + (to - from));
	s->claimed = (uint16_t)(s->claimed - (to - from));
	if (from / 64 < s->first)
		s->first = (uint16_t)(from / 64);
	if (s->free == s->blocks)
		end(a, s);
	else
		enter_ring(a, s);
}
