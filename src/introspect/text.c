#include "introspect/text.h"

#include <malloc.h>
#include <string.h>

#include "base/check.h"
#include "base/fmt.h"
#include "cede/cede.h"
#include "introspect/snapshot.h"

/* ptmalloc's spacing of chunk sizes: a fast bin holds the sizes of one step. */
#define CHUNK_STEP 16

struct printer {
	text_sink_fn *sink;
	void *ctx;
};

__attribute__((format(printf, 2, 3)))
static void print(const struct printer *to, const char *format, ...)
{
	char line[256];
	va_list args;

	va_start(args, format);
	size_t length = fmt_into_v(line, sizeof(line), format, args);
	va_end(args);
	to->sink(to->ctx, line, length);
}

static const char *policy_name(uint32_t policy)
{
	return policy == CEDE_POLICY_CLASSIC ? "classic" : "default";
}

static const char *purger_name(uint32_t purger)
{
	switch (purger) {
	case CEDE_PURGER_NONE:
		return "not needed yet";
	case CEDE_PURGER_ASLEEP:
		return "asleep";
	case CEDE_PURGER_AWAKE:
		return "awake";
	default:
		return "absent";
	}
}

/* Classic does without. */
static void print_default_stats(const struct printer *to, const struct cede_stats *stats)
{
	print(to, "slab bytes       = %10lu\n", stats->slab_bytes);
	print(to, "  in use         = %10lu\n", stats->slab_live_bytes);
	print(to, "  maybe resident = %10lu\n", stats->slab_resident_bytes);
	print(to, "slab free blocks = %10lu\n", stats->slab_free_blocks);
	print(to, "slab records     = %10lu\n", stats->slab_record_bytes);
	print(to, "cached bytes     = %10lu\n", stats->cached_bytes);
	print(to, "pinned bytes     = %10lu\n", stats->pinned_bytes);
	print(to, "wanted again     = %10lu\n", stats->refaulted_bytes);
	print(to, "delay, ms        = %10lu\n", stats->delay_ms);
	print(to, "memory locked    = %10lu\n", stats->memory_locked);
	print(to, "memory short, ms = %10lu\n", stats->pressure_ms);
	print(to, "thread retry, ms = %10lu\n", stats->thread_retry_ms);
}

static void print_cede_stats(const struct printer *to)
{
	struct cede_stats stats;

	cede_stats(&stats, sizeof(stats));
	print(to, "cede:\n");
	print(to, "policy           = %10s\n", policy_name(stats.policy));
	print(to, "purger           = %10s\n", purger_name(stats.purger));
	print(to, "free bytes       = %10lu\n", stats.free_bytes);
	print(to, "  maybe resident = %10lu\n", stats.free_resident_bytes);
	print(to, "given back bytes = %10lu\n", stats.purged_bytes);
	print(to, "purge calls      = %10lu\n", stats.purge_calls);
	print(to, "lock waits       = %10lu\n", stats.lock_waits);
	print(to, "  asleep         = %10lu\n", stats.lock_sleeps);
	if (stats.policy == CEDE_POLICY_DEFAULT)
		print_default_stats(to, &stats);
}

/* What a snapshot takes of the stack is free again before cede_stats takes as much. */
static NOINLINE void print_arenas(const struct printer *to, size_t *system, size_t *in_use)
{
	struct arena_snapshot arena;

	for (size_t i = 0; snapshot_arena(i, &arena); i++) {
		print(to, "Arena %zu:\n", i);
		print(to, "system bytes     = %10zu\n", arena.system_bytes);
		print(to, "in use bytes     = %10zu\n", arena_snapshot_in_use(&arena));
		*system += arena.system_bytes;
		*in_use += arena_snapshot_in_use(&arena);
	}
}

void text_malloc_stats(text_sink_fn *sink, void *ctx)
{
	const struct printer to = { sink, ctx };
	struct mapped_snapshot mapped;

	snapshot_mapped(&mapped);
	size_t system = mapped.bytes + mapped.spare_bytes, in_use = mapped.bytes;
	print_arenas(&to, &system, &in_use);
	print(&to, "Total (incl. mmap):\n");
	print(&to, "system bytes     = %10zu\n", system);
	print(&to, "in use bytes     = %10zu\n", in_use);
	print(&to, "max mmap regions = %10zu\n", mapped.max_blocks);
	print(&to, "max mmap bytes   = %10zu\n", mapped.max_bytes);
	print_cede_stats(&to);
}

static void print_bin(const struct printer *to, const char *element, size_t from,
                      const struct bin_sizes *bin)
{
	if (bin->count != 0)
		print(to, "  <%s from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", element,
		      from, bin->to, bin->total, bin->count);
}

/* What malloc_info prints once for each arena and once for all of them. */
struct info_totals {
	size_t fast_chunks, fast_bytes;
	size_t rest_chunks, rest_bytes;
	size_t system, system_max;
	size_t aspace, aspace_writable;
	size_t pinned, refaulted;
	size_t lock_waits, lock_sleeps;
	struct slab_sums slabs;
};

static struct info_totals totals_of(const struct arena_snapshot *arena)
{
	return (struct info_totals){
		.fast_chunks = arena->fast_chunks,
		.fast_bytes = arena->fast_bytes,
		.rest_chunks = arena->free_chunks,
		.rest_bytes = arena->free_bytes,
		.system = arena->system_bytes,
		.system_max = arena->max_system_bytes,
		.aspace = arena->address_space,
		.aspace_writable = arena->address_space_writable,
		.pinned = arena->pinned_bytes,
		.refaulted = arena->refaulted_bytes,
		.lock_waits = arena->lock_waits,
		.lock_sleeps = arena->lock_sleeps,
		.slabs = arena->slabs,
	};
}

static void totals_add(struct info_totals *sum, const struct info_totals *one)
{
	sum->fast_chunks += one->fast_chunks;
	sum->fast_bytes += one->fast_bytes;
	sum->rest_chunks += one->rest_chunks;
	sum->rest_bytes += one->rest_bytes;
	sum->system += one->system;
	sum->system_max += one->system_max;
	sum->aspace += one->aspace;
	sum->aspace_writable += one->aspace_writable;
	sum->pinned += one->pinned;
	sum->refaulted += one->refaulted;
	sum->lock_waits += one->lock_waits;
	sum->lock_sleeps += one->lock_sleeps;
	slab_sums_add(&sum->slabs, &one->slabs);
}

/* `mapped` is NULL for an arena: mapped blocks belong to none. */
static void print_totals(const struct printer *to, const struct info_totals *totals,
                         const struct mapped_snapshot *mapped)
{
	print(to, "<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n", totals->fast_chunks,
	      totals->fast_bytes);
	print(to, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", totals->rest_chunks,
	      totals->rest_bytes);
	if (mapped != NULL)
		print(to, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", mapped->blocks,
		      mapped->bytes);
	print(to, "<system type=\"current\" size=\"%zu\"/>\n", totals->system);
	print(to, "<system type=\"max\" size=\"%zu\"/>\n", totals->system_max);
	print(to, "<aspace type=\"total\" size=\"%zu\"/>\n", totals->aspace);
	print(to, "<aspace type=\"mprotect\" size=\"%zu\"/>\n", totals->aspace_writable);
}

/* Not glibc's: classic does without. */
static void print_more(const struct printer *to, const struct info_totals *totals)
{
	const struct slab_sums *slabs = &totals->slabs;

	if (!snapshot_is_default())
		return;
	print(to, "<slabs segments=\"%zu\" units=\"%zu\" size=\"%zu\" live=\"%zu\"",
	      slabs->segments, slabs->units, slabs->system_bytes, slabs->live_bytes);
	print(to, " resident=\"%zu\" free_resident=\"%zu\" records=\"%zu\"/>\n",
	      slabs->resident_bytes, slabs->free_resident_bytes, slabs->record_bytes);
	print(to, "<pages pinned=\"%zu\" refaulted=\"%zu\"/>\n", totals->pinned, totals->refaulted);
	print(to, "<lock waits=\"%zu\" sleeps=\"%zu\"/>\n", totals->lock_waits,
	      totals->lock_sleeps);
}

static void print_class(const struct printer *to, const struct class_blocks *class)
{
	const struct bin_sizes blocks = {
		.to = class->to, .total = class->free * class->to, .count = class->free
	};

	print_bin(to, "slab", class->from, &blocks);
}

static void print_heap(const struct printer *to, size_t index,
                       const struct arena_snapshot *arena, const struct info_totals *totals)
{
	print(to, "<heap nr=\"%zu\">\n<sizes>\n", index);
	for (size_t i = 0; i < SNAPSHOT_FASTBINS; i++)
		print_bin(to, "size", arena->fast[i].to - CHUNK_STEP + 1, &arena->fast[i]);
	for (size_t i = 2; i < SNAPSHOT_BINS; i++)
		print_bin(to, "size", arena->bins[i].from, &arena->bins[i]);
	print_bin(to, "unsorted", arena->bins[1].from, &arena->bins[1]);
	for (size_t i = 0; i < SNAPSHOT_CLASSES; i++)
		print_class(to, &arena->classes[i]);
	print(to, "</sizes>\n");
	print_totals(to, totals, NULL);
	if (!arena->is_main)
		print(to, "<aspace type=\"subheaps\" size=\"%zu\"/>\n", arena->heaps);
	print_more(to, totals);
	print(to, "</heap>\n");
}

/* Of the whole process: why free memory is still there. */
static void print_purger(const struct printer *to)
{
	struct cede_stats stats;

	if (!snapshot_is_default())
		return;
	cede_stats(&stats, sizeof(stats));
	print(to, "<purger state=\"%s\" delay_ms=\"%lu\" memory_locked=\"%lu\"",
	      purger_name(stats.purger), stats.delay_ms, stats.memory_locked);
	print(to, " pressure_ms=\"%lu\" thread_retry_ms=\"%lu\"/>\n", stats.pressure_ms,
	      stats.thread_retry_ms);
}

/* As print_arenas. */
static NOINLINE void print_heaps(const struct printer *to, struct info_totals *sum)
{
	struct arena_snapshot arena;

	for (size_t i = 0; snapshot_arena(i, &arena); i++) {
		struct info_totals totals = totals_of(&arena);

		print_heap(to, i, &arena, &totals);
		totals_add(sum, &totals);
	}
}

void text_malloc_info(text_sink_fn *sink, void *ctx)
{
	const struct printer to = { sink, ctx };
	struct info_totals sum = { 0 };
	struct mapped_snapshot mapped;

	print(&to, "<malloc version=\"1\">\n");
	print_heaps(&to, &sum);
	snapshot_mapped(&mapped);
	sum.rest_chunks += mapped.spares;
	sum.rest_bytes += mapped.spare_bytes;
	sum.system += mapped.spare_bytes;
	sum.refaulted += mapped.refaulted_bytes;
	print_totals(&to, &sum, &mapped);
	print_more(&to, &sum);
	print_purger(&to);
	print(&to, "</malloc>\n");
}

void text_mallinfo2(struct mallinfo2 *out)
{
	struct mapped_snapshot mapped;
	struct arena_snapshot arena;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; snapshot_arena(i, &arena); i++) {
		out->arena += arena.system_bytes;
		out->ordblks += arena.free_chunks;
		out->smblks += arena.fast_chunks;
		out->fsmblks += arena.fast_bytes;
		out->uordblks += arena_snapshot_in_use(&arena);
		out->fordblks += arena.free_bytes + arena.fast_bytes;
		if (arena.is_main)
			out->keepcost = arena.top_bytes;
	}
	snapshot_mapped(&mapped);
	out->arena += mapped.spare_bytes;
	out->ordblks += mapped.spares;
	out->fordblks += mapped.spare_bytes;
	out->hblks = mapped.blocks;
	out->hblkhd = mapped.bytes;
}
