#include "introspect/stats.h"

#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/purger.h"
#include "introspect/snapshot.h"

void stats_fill(struct cede_stats *out)
{
	struct slab_sums slabs = { 0 };
	struct arena_snapshot a;
	struct mapped_snapshot m;

	__builtin_memset(out, 0, sizeof(*out));
	for (size_t i = 0; snapshot_arena(i, &a); i++) {
		out->arenas++;
		out->live_bytes += arena_snapshot_in_use(&a);
		out->free_bytes += a.free_bytes + a.fast_bytes;
		out->free_resident_bytes += a.dirty_bytes;
		out->system_bytes += a.system_bytes;
		out->system_peak_bytes += a.max_system_bytes;
		out->lock_waits += a.lock_waits;
		out->lock_sleeps += a.lock_sleeps;
		out->pinned_bytes += a.pinned_bytes;
		out->refaulted_bytes += a.refaulted_bytes;
		slab_sums_add(&slabs, &a.slabs);
	}
	out->slab_bytes = slabs.system_bytes;
	out->slab_live_bytes = slabs.live_bytes;
	out->slab_free_blocks = slabs.free_blocks;
	out->slab_resident_bytes = slabs.resident_bytes;
	out->slab_record_bytes = slabs.record_bytes;
	out->slab_free_resident_bytes = slabs.free_resident_bytes;
	cache_held(&out->cached_bytes, &out->caching_threads);
	snapshot_mapped(&m);
	out->mapped_blocks = m.blocks;
	out->mapped_bytes = m.bytes;
	out->live_bytes += m.bytes;
	out->free_bytes += m.spare_bytes;
	out->free_resident_bytes += m.spare_bytes;
	out->spare_bytes = m.spare_bytes;
	out->refaulted_bytes += m.refaulted_bytes;
	out->system_bytes += m.bytes + m.spare_bytes;
	out->system_peak_bytes += m.max_bytes;
	out->policy = settings.policy;
	out->purger = policy_is_default() ? purger_now() : PURGER_NONE;
	out->purged_bytes = __atomic_load_n(&purge_counts.bytes, __ATOMIC_RELAXED);
	out->purge_calls = __atomic_load_n(&purge_counts.calls, __ATOMIC_RELAXED);
	out->purge_passes = __atomic_load_n(&purge_counts.passes, __ATOMIC_RELAXED);
	out->pressure_releases = __atomic_load_n(&purge_counts.reliefs, __ATOMIC_RELAXED);
	out->purge_ns = __atomic_load_n(&purge_counts.ns, __ATOMIC_RELAXED);
	out->pressure_ms = __atomic_load_n(&purge_counts.relief_ms, __ATOMIC_RELAXED);
	out->memory_locked = __atomic_load_n(&purge_counts.locked, __ATOMIC_RELAXED);
	out->delay_ms = __atomic_load_n(&purge_counts.delay_ms, __ATOMIC_RELAXED);
	if (settings.background && out->purger == CEDE_PURGER_ABSENT)
		out->thread_retry_ms = __atomic_load_n(&purge_counts.retry_ms, __ATOMIC_RELAXED);
}
