#include "readers/made_heap.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cede/cede.h>

uint64_t places;
struct heap heap = { .page_size = 1 }; /* in the data, not apart from the file */
uint64_t (*chunks[2])[2];
struct cede_descriptor descriptor = { .version = 1 };

/* The bins' headers lead to themselves but for the unsorted one, where the free chunk is. */
static void arena_begin(unsigned i)
{
	struct arena *a = &heap.arenas[i];
	uint64_t flag = i ? 4 : 0, header = address(a->bins) - 16, free = address(chunks[i]) + CHUNK;
	uint64_t size = HEAP_SIZE - (i ? 64 : 0);

	memset(chunks[i], 0, 4 * CHUNK);
	for (unsigned k = 0; k < 3; k++)
		chunks[i][k * CHUNK / 16][1] = CHUNK | flag | (k != 2);
	chunks[i][2 * CHUNK / 16][0] = CHUNK;
	chunks[i][CHUNK / 16 + 1][0] = chunks[i][CHUNK / 16 + 1][1] = header;
	chunks[i][TOP_AT][1] = (size - 3 * CHUNK) | 1;
	*a = (struct arena){
		.top = address(chunks[i][TOP_AT]), .system = HEAP_SIZE, .binned = CHUNK, .contiguous = 1,
		.segments = 1, .slab_units = 1, .slab_live = 1024, .slab_pages = 16, .lowest = MAIN_HEAP,
	};
	for (unsigned k = 0; k < 127; k++)
		a->bins[2 * k] = a->bins[2 * k + 1] = header + 16ul * k;
	a->bins[0] = a->bins[1] = free;
}

void made_heap_fill(void)
{
	memset(&heap, 0, sizeof(heap));
	heap.page_size = 4096;
	heap.background = 1;
	heap.purger = CEDE_PURGER_ASLEEP;
	for (unsigned i = 0; i < 2; i++) {
		arena_begin(i);
		heap.bins[i * UNITS] = 64;
		heap.records[i * UNITS] = (struct record){
			.bits = address(heap.bits[i * UNITS]), .arena = address(&heap.arenas[i]),
			.size = 1024, .blocks = 64, .free = 63, .units = 1
		};
		heap.bits[i * UNITS][0] = ~(uint64_t)1;
		heap.segments[i].touched[0] = 0xffff;
		heap.segments[i].arena = address(&heap.arenas[i]);
		heap.threads[i].caching = 1;
		heap.threads[i].id = 1 + i;
	}
	((uint64_t *)SUB_HEAP)[0] = address(&heap.arenas[1]);
	((uint64_t *)SUB_HEAP)[1] = 0;
	((uint64_t *)SUB_HEAP)[2] = HEAP_SIZE;
	heap.arenas[0].next = address(&heap.arenas[1]);
	heap.first_thread = address(&heap.threads[0]);
	heap.threads[0].next = address(&heap.threads[1]);
	for (uint32_t c = 0; c < CLASSES; c++)
		heap.sizes[c] = 16 * (c + 1);
	heap.window[0] = (uint64_t)1 << 42;
	heap.window[1] = 2 * UNITS * PAGES * 4096 / 16;
	heap.window[2] = address(heap.bins);
	heap.window[3] = address(heap.records);
	heap.window[4] = address(heap.bits);
	heap.window[5] = address(heap.segments);
	/* One block is cached: the only one in use of the first slab. */
	heap.threads[1].slots = SLOTS;
	heap.threads[1].bins[2][0] = SLOTS + 8;
	*(uint64_t *)SLOTS = heap.window[0];
	heap.slots_bytes = HEAP_SIZE;
	heap.the_claim = address(&heap.claim);
	heap.spare_places[0] = address(&heap.spare_lock);
	heap.spare_places[1] = address(&heap.spare_count);
	heap.spare_places[2] = address(heap.spare_ranges);
	heap.spare_count = 1;
	heap.spare_ranges[0][0] = SLOTS + HEAP_SIZE;
	heap.spare_ranges[0][1] = heap.spares[0] = HEAP_SIZE;
	heap.settings[4] = 1;
}

static void descriptor_begin(void)
{
	descriptor = (struct cede_descriptor){
		.magic = CEDE_DESCRIPTOR_MAGIC, .version = CEDE_DESCRIPTOR_VERSION,
		.size = sizeof(descriptor), .policy = address(&heap.policy),
		.page_size = address(&heap.page_size), .main_arena = address(&heap.arenas[0]),
		.arena_size = sizeof(struct arena), .arena_top = offsetof(struct arena, top),
		.arena_system_bytes = offsetof(struct arena, system),
		.arena_dirty_bytes = offsetof(struct arena, dirty),
		.arena_claimed_bytes = offsetof(struct arena, claimed),
		.arena_top_claimed = offsetof(struct arena, top_claimed),
		.arena_next = offsetof(struct arena, next),
		.mapped = address(heap.mapped), .purge_counts = address(heap.purge),
		.arena_lock_waits = offsetof(struct arena, waits),
		.arena_lock_sleeps = offsetof(struct arena, sleeps),
		.arena_slab_live = offsetof(struct arena, slab_live),
		.arena_slab_units = offsetof(struct arena, slab_units),
		.arena_slab_pages = offsetof(struct arena, slab_pages),
		.unit_size = PAGES * 4096, .window = address(heap.window),
		.record_size = sizeof(struct record), .record_bits = offsetof(struct record, bits),
		.record_block_size = offsetof(struct record, size),
		.record_blocks = offsetof(struct record, blocks),
		.record_units = offsetof(struct record, units),
		.record_free = offsetof(struct record, free),
		.record_claimed = offsetof(struct record, claimed),
		.arena_binned = offsetof(struct arena, binned), .arena_gone = offsetof(struct arena, gone),
		.segment_size = sizeof(struct segment), .segment_units = UNITS,
		.segment_touched = offsetof(struct segment, touched),
		.arena_segments = offsetof(struct arena, segments),
		.arena_slab_peak = offsetof(struct arena, slab_peak),
		.arena_peak = offsetof(struct arena, peak),
		.arena_top_dirty = offsetof(struct arena, top_dirty),
		.arena_refaulted = offsetof(struct arena, refaulted),
		.background = address(&heap.background), .purger = address(&heap.purger),
		.spares = address(heap.spares), .threads = address(&heap.first_thread),
		.thread_next = offsetof(struct thread, next), .thread_bins = offsetof(struct thread, bins),
		.classes = CLASSES, .class_sizes = address(heap.sizes),
		.retain_max = address(&heap.retain_max),
		.arena_lock = offsetof(struct arena, lock), .arena_fastbins = offsetof(struct arena, fast),
		.arena_bins = offsetof(struct arena, bins),
		.arena_contiguous = offsetof(struct arena, contiguous),
		.arena_lowest = offsetof(struct arena, lowest), .heap_header = 64,
		.record_arena = offsetof(struct record, arena),
		.segment_arena = offsetof(struct segment, arena),
		.thread_id = offsetof(struct thread, id),
		.thread_caching = offsetof(struct thread, caching),
		.thread_lock = offsetof(struct thread, lock),
		.thread_slots = offsetof(struct thread, slots), .claim_size = sizeof(struct claim),
		.claim_arena = offsetof(struct claim, arena), .claim_count = offsetof(struct claim, count),
		.claim_ranges = offsetof(struct claim, ranges), .setting_mmap_threshold = 8,
		.setting_top_pad = 16, .setting_arena_max = 24, .setting_dynamic = 32,
		.settings = address(heap.settings), .claim = address(&heap.the_claim),
		.slots_bytes = address(&heap.slots_bytes), .spare_places = address(heap.spare_places),
		.window_parts = address(heap.parts),
	};
}

void made_heap_begin(void)
{
	made_heap_fill();
	descriptor_begin();
}

/* Wherever the sanitizers let them be, apart from one another. */
bool made_heap_take(void)
{
	void *room = mmap(NULL, 4 * HEAP_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		return false;
	places = (address(room) + HEAP_MAX - 1) & -HEAP_MAX;
	chunks[0] = (uint64_t (*)[2])MAIN_HEAP;
	chunks[1] = (uint64_t (*)[2])(SUB_HEAP + 64);
	return mprotect((void *)MAIN_HEAP, HEAP_SIZE, PROT_READ | PROT_WRITE) == 0 &&
	       mprotect((void *)SUB_HEAP, HEAP_SIZE, PROT_READ | PROT_WRITE) == 0 &&
	       mprotect((void *)SLOTS, 2 * HEAP_SIZE, PROT_READ | PROT_WRITE) == 0;
}
