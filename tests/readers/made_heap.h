/*
 * A heap of cede made by hand, for what reads one: two arenas of a slab and some chunks
 * each, two threads, of which one caches a block, a spare; and a descriptor that leads to
 * it.  A test changes what it likes, and makes it anew.
 */
#ifndef TESTS_READERS_MADE_HEAP_H
#define TESTS_READERS_MADE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include <cede/descriptor.h>

#define PAGES   16u  /* of a unit */
#define UNITS   32u
#define CLASSES 4u

/* Memory of the heaps, where another arena's may lie; then of a cache, and a spare. */
#define HEAP_MAX  ((uint64_t)64 << 20)
#define HEAP_SIZE ((uint64_t)16384)
#define MAIN_HEAP places
#define SUB_HEAP  (places + HEAP_MAX)
#define SLOTS     (places + 2 * HEAP_MAX)
extern uint64_t places;

struct arena {
	uint32_t lock, contiguous;
	uint64_t lowest, fast[10], bins[254];
	uint64_t top, system, dirty, claimed, top_claimed, next, waits, sleeps, slab_live, slab_units;
	uint64_t slab_pages, binned, gone, segments, slab_peak, peak, refaulted, top_dirty[2];
};

struct record {
	uint64_t bits, arena;
	uint32_t size;
	uint16_t blocks, free, claimed;
	uint8_t units;
};

struct segment {
	uint64_t arena;
	uint16_t touched[UNITS];
};

struct thread {
	uint64_t next, slots;
	uint32_t id, lock;
	uint8_t caching, room[128];
	uint64_t bins[CLASSES][4];
};

struct claim {
	uint64_t arena, ranges[8][2];
	uint32_t count;
};

struct heap {
	/* What describes slabs are whole pages. */
	_Alignas(4096) struct record records[2 * UNITS];
	_Alignas(4096) struct segment segments[2];
	_Alignas(4096) uint16_t bins[2 * UNITS];
	_Alignas(4096) uint64_t bits[2 * UNITS][512 / 8];
	_Alignas(4096) struct arena arenas[2];
	struct thread threads[2];
	struct claim claim;
	uint64_t first_thread, window[6], mapped[4], purge[9], spares[2], page_size, the_claim, retain_max;
	uint64_t slots_bytes, spare_places[3], spare_ranges[2][2], settings[5], parts[2];
	uint32_t policy, purger, sizes[CLASSES], spare_lock, spare_count;
	uint8_t background;
};

extern struct heap heap;

/* The chunks themselves, in both heaps alike: one in use, one free, one in use, the top. */
extern uint64_t (*chunks[2])[2];
#define CHUNK 256u                          /* bytes of each */
#define TOP_AT (3u * CHUNK / 16)

extern struct cede_descriptor descriptor;

static inline uint64_t address(const void *of)
{
	return (uintptr_t)of;
}

/* Takes the memory, once; false: there is none. */
bool made_heap_take(void);

/* The heap as it should be; the same, and the descriptor. */
void made_heap_fill(void);
void made_heap_begin(void);

#endif
