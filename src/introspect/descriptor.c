/*
 * The library's description of itself in memory, complete once it is loaded.
 */
#include "cede/descriptor.h"

#include "cede/cede.h"
#include "heap/cache.h"
#include "heap/claim.h"
#include "heap/extent.h"
#include "heap/giving.h"
#include "heap/heap.h"
#include "heap/purger.h"
#include "heap/registry.h"
#include "heap/spare.h"
#include "heap/subheap.h"

/* The words that are promised. */
_Static_assert(offsetof(struct window, base) == 0 && offsetof(struct window, steps) == 8 &&
               offsetof(struct window, bins) == 16 && offsetof(struct window, slabs) == 24 &&
               offsetof(struct window, bits) == 32 && offsetof(struct window, segments) == 40,
               "the layout of the window");
_Static_assert(sizeof(struct cache_bin) == 32 && offsetof(struct cache_bin, top) == 0 &&
               offsetof(struct cache_bin, first) == 24 && offsetof(struct cache_bin, busy) == 28,
               "the layout of a cache's bin");
_Static_assert(offsetof(struct heap_info, arena) == 0 && offsetof(struct heap_info, prev) == 8 &&
               offsetof(struct heap_info, size) == 16, "the layout of a heap");
_Static_assert(offsetof(struct spare_places, lock) == 0 &&
               offsetof(struct spare_places, count) == 8 &&
               offsetof(struct spare_places, ranges) == 16 && offsetof(struct lock, word) == 0,
               "the layout of spares");
_Static_assert(offsetof(struct os_range, start) == 0 && offsetof(struct os_range, size) == 8 &&
               sizeof(struct os_range) == 16, "the layout of a range");

extern const struct cede_descriptor cede_descriptor;

__attribute__((visibility("default"))) const struct cede_descriptor cede_descriptor = {
	.magic = CEDE_DESCRIPTOR_MAGIC,
	.version = CEDE_DESCRIPTOR_VERSION,
	.size = sizeof(struct cede_descriptor),
	.library_version = { CEDE_VERSION_MAJOR, CEDE_VERSION_MINOR, CEDE_VERSION_PATCH, 0 },
	.policy = (uintptr_t)&settings.policy,
	.page_size = (uintptr_t)&os_page_size,
	.main_arena = (uintptr_t)&main_arena,
	.arena_size = sizeof(struct arena),
	.arena_lock = offsetof(struct arena, lock),
	.arena_fastbins = offsetof(struct arena, fastbins),
	.arena_top = offsetof(struct arena, top),
	.arena_bins = offsetof(struct arena, bins),
	.arena_binmap = offsetof(struct arena, binmap),
	.arena_system_bytes = offsetof(struct arena, system_bytes),
	.arena_region = offsetof(struct arena, region),
	.arena_trees = offsetof(struct arena, trees),
	.arena_dirty_bytes = offsetof(struct arena, dirty_bytes),
	.arena_claimed_bytes = offsetof(struct arena, claimed_bytes),
	.arena_top_claimed = offsetof(struct arena, top_claimed),
	.arena_next = offsetof(struct arena, next),
	.chunk_dirty_lo = offsetof(struct dirty_chunk, lo),
	.chunk_dirty_hi = offsetof(struct dirty_chunk, hi),
	.heap_max = HEAP_MAX,
	.mapped = (uintptr_t)&mapped,
	.purge_counts = (uintptr_t)&purge_counts,
	.arena_lock_waits = offsetof(struct arena, lock.waits),
	.arena_lock_sleeps = offsetof(struct arena, lock.sleeps),
	.arena_slab_live = offsetof(struct arena, slabs.live_bytes),
	.arena_slab_units = offsetof(struct arena, slabs.units),
	.arena_slab_pages = offsetof(struct arena, segments.touched),
	.unit_size = UNIT,
	.window = (uintptr_t)&window,
	.record_size = sizeof(struct slab),
	.record_arena = offsetof(struct slab, arena),
	.record_bits = offsetof(struct slab, bits),
	.record_block_size = offsetof(struct slab, size),
	.record_blocks = offsetof(struct slab, blocks),
	.record_units = offsetof(struct slab, units),
	.record_free = offsetof(struct slab, free),
	.record_claimed = offsetof(struct slab, claimed),
	.arena_binned = offsetof(struct arena, binned_bytes),
	.arena_gone = offsetof(struct arena, gone_bytes),
	.segment_size = sizeof(struct segment),
	.segment_units = SEGMENT_UNITS,
	.segment_touched = offsetof(struct segment, touched),
	.arena_segments = offsetof(struct arena, segments.count),
	.arena_slab_peak = offsetof(struct arena, slabs.most_units),
	.arena_peak = offsetof(struct arena, max_system_bytes),
	.arena_top_dirty = offsetof(struct arena, top_dirty_lo),
	.arena_refaulted = offsetof(struct arena, refaulted_bytes),
	.background = (uintptr_t)&settings.background,
	.purger = (uintptr_t)&purger_state,
	.spares = (uintptr_t)&spare_counts,
	.threads = (uintptr_t)&registry_all,
	.thread_next = offsetof(struct thread, next),
	.thread_bins = offsetof(struct thread, bins) + sizeof(struct cache_bin),
	.classes = CLASSES,
	.class_sizes = (uintptr_t)&class_sizes,
	.retain_max = (uintptr_t)&settings.retain_max,
	.purger_asked = (uintptr_t)&purger_asked,
	.arena_contiguous = offsetof(struct arena, contiguous),
	.arena_lowest = offsetof(struct arena, lowest),
	.heap_header = sizeof(struct heap_info),
	.segment_arena = offsetof(struct segment, arena),
	.thread_id = offsetof(struct thread, id),
	.thread_caching = offsetof(struct thread, caching),
	.thread_lock = offsetof(struct thread, cache_lock.word),
	.thread_slots = offsetof(struct thread, slots),
	.setting_trim_threshold = offsetof(struct settings, trim_threshold),
	.setting_mmap_threshold = offsetof(struct settings, mmap_threshold),
	.setting_top_pad = offsetof(struct settings, top_pad),
	.setting_arena_max = offsetof(struct settings, arena_max),
	.setting_mmap_max = offsetof(struct settings, mmap_max),
	.setting_dynamic = offsetof(struct settings, dynamic_threshold),
	.claim_size = sizeof(struct claim),
	.claim_arena = offsetof(struct claim, arena),
	.claim_count = offsetof(struct claim, count),
	.claim_ranges = offsetof(struct claim, ranges),
	.settings = (uintptr_t)&settings,
	.claim = (uintptr_t)&giving_claim,
	.slots_bytes = (uintptr_t)&cache_slots_bytes,
	.spare_places = (uintptr_t)&spare_places,
	.window_parts = (uintptr_t)&window_parts,
};
