#include "doctor/leaks.h"

#include <stdlib.h>

/* So many are looked up or followed at once, that the memory they ask for comes in the
 * meantime: there is little else to wait for. */
#define BATCH 32
#define NO_BLOCK UINT32_MAX

/*
 * What leads where.  A block's targets are those from its start to the next one's.
 * Four bytes for each block and each word: a walk through millions of them waits for
 * memory at every step.
 */
struct graph {
	const struct model *model;
	uint32_t *starts;          /* by block, and one more */
	uint32_t *targets;         /* blocks in use, or NO_BLOCK */
	uint32_t *roots;
	size_t root_count;
};

/* Targets still to be followed. */
struct slice {
	const uint32_t *targets;
	size_t count;
};

struct marker {
	const struct graph *graph;
	uint64_t *reached, *lost, *indirect; /* a bit for each block; `lost`: met from others */
	uint64_t *seen;                      /* `reached`, then `lost` */
	size_t leader;                       /* the lost block whose targets are followed */
	struct slice *slices;
	size_t slice_count, slice_room;
	bool failed;
};

static bool bit_get(const uint64_t *bits, size_t index)
{
	return bits[index / 64] >> index % 64 & 1;
}

static void bit_set(uint64_t *bits, size_t index)
{
	bits[index / 64] |= 1ul << index % 64;
}

/* --- from addresses to blocks --- */

/* An address on its way to its block: the first block beyond it is from `low` to `high`,
 * and about at `guess`, where it would be if all blocks of the page were alike. */
struct meeting {
	uint64_t address;
	uint32_t *target;
	size_t low, guess, high;
};

static void meeting_begin(const struct model *model, const struct model_region *region,
                          struct meeting *meeting)
{
	size_t page = meeting->address / MODEL_PAGE - region->begin / MODEL_PAGE;
	const size_t *first = &model->page_blocks[region->first_page + page];

	meeting->low = first[0];
	meeting->high = page + 1 < model_region_pages(region) ? first[1] :
	                region->first_block + region->block_count;
	meeting->guess = meeting->low + (meeting->high - meeting->low) *
	                 (meeting->address % MODEL_PAGE) / MODEL_PAGE;
	__builtin_prefetch(&model->blocks[meeting->guess]);
}

static void meeting_end(const struct model *model, const struct meeting *meeting)
{
	size_t beyond = meeting->guess;

	while (beyond < meeting->high && model_block_address(model, beyond) <= meeting->address)
		beyond++;
	while (beyond > meeting->low && model_block_address(model, beyond - 1) > meeting->address)
		beyond--;
	if (model_block_state(model, beyond - 1) == MODEL_LIVE)
		*meeting->target = (uint32_t)(beyond - 1);
}

static void targets_find(const struct model *model, const struct words *words,
                         const uint64_t *values, size_t count, uint32_t *targets)
{
	const struct model_region *region = NULL;
	struct meeting batch[BATCH];

	for (size_t next = 0, met = 0; next < count; met = 0) {
		for (; met < BATCH && next < count; next++) {
			uint64_t word = values[next], lead;

			if (!region || word < region->begin || word >= region->end)
				region = model_region_at(model, word);
			targets[next] = NO_BLOCK;
			lead = region ? words_lead(words, region) : 0;
			/* A region's end is another's begin, and leads to no block of either. */
			if (!region || word - region->begin < lead)
				continue;
			batch[met] = (struct meeting){ .address = word - lead,
			                               .target = &targets[next] };
			meeting_begin(model, region, &batch[met++]);
		}
		for (size_t i = 0; i < met; i++)
			meeting_end(model, &batch[i]);
	}
}

static void graph_free(struct graph *graph)
{
	free(graph->starts);
	free(graph->targets);
	free(graph->roots);
}

static bool graph_make(const struct model *model, const struct words *words, struct graph *graph)
{
	*graph = (struct graph){
		.model = model, .root_count = words->root_count,
		.starts = calloc(model->block_count + 1, sizeof(uint32_t)),
		.targets = calloc(words->value_count + 1, sizeof(uint32_t)),
		.roots = calloc(words->root_count + 1, sizeof(uint32_t)),
	};
	if (!graph->starts || !graph->targets || !graph->roots ||
	    model->block_count >= NO_BLOCK || words->value_count >= UINT32_MAX)
		return false;
	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];

		for (size_t block = region->first_block;
		     block < region->first_block + region->block_count; block++)
			graph->starts[block] = (uint32_t)words_first(words, model, region, block);
	}
	graph->starts[model->block_count] = (uint32_t)words->value_count;
	targets_find(model, words, words->values, words->value_count, graph->targets);
	targets_find(model, words, words->roots, words->root_count, graph->roots);
	return true;
}

/* --- following --- */

static void slice_push(struct marker *marker, const uint32_t *targets, size_t count)
{
	if (!count)
		return;
	if (marker->slice_count == marker->slice_room) {
		size_t room = marker->slice_room ? 2 * marker->slice_room : 1024;
		struct slice *larger = realloc(marker->slices, room * sizeof(*larger));

		marker->failed = marker->failed || !larger;
		if (!larger)
			return;
		marker->slices = larger;
		marker->slice_room = room;
	}
	marker->slices[marker->slice_count++] = (struct slice){ targets, count };
	__builtin_prefetch(targets);
}

static void block_push(struct marker *marker, size_t block)
{
	const uint32_t *starts = marker->graph->starts;

	slice_push(marker, marker->graph->targets + starts[block],
	           starts[block + 1] - starts[block]);
}

/* Returns whether the block is met for the first time. */
static bool block_meet(struct marker *marker, size_t block)
{
	if (bit_get(marker->reached, block))
		return false;
	if (marker->seen == marker->lost && block != marker->leader)
		bit_set(marker->indirect, block);
	if (bit_get(marker->seen, block))
		return false;
	bit_set(marker->seen, block);
	return true;
}

/* Takes blocks to follow that have not been met; returns how many. */
static size_t batch_take(struct marker *marker, uint32_t batch[BATCH])
{
	size_t count = 0;

	while (count < BATCH && marker->slice_count) {
		struct slice *slice = &marker->slices[marker->slice_count - 1];
		uint32_t block = *slice->targets++;

		if (!--slice->count)
			marker->slice_count--;
		if (block == NO_BLOCK || !block_meet(marker, block))
			continue;
		__builtin_prefetch(&marker->graph->starts[block]);
		batch[count++] = block;
	}
	return count;
}

static void marker_follow(struct marker *marker)
{
	uint32_t batch[BATCH];

	while (marker->slice_count && !marker->failed) {
		size_t count = batch_take(marker, batch);

		for (size_t i = 0; i < count; i++)
			block_push(marker, batch[i]);
	}
}

/*
 * What was not reached: each block in its turn may be the one that the others were
 * lost with, until one that comes later leads to it.
 */
static void lost_follow(struct marker *marker)
{
	const struct model *model = marker->graph->model;

	marker->seen = marker->lost;
	for (size_t block = 0; block < model->block_count && !marker->failed; block++) {
		if (model_block_state(model, block) != MODEL_LIVE ||
		    bit_get(marker->reached, block) || bit_get(marker->lost, block))
			continue;
		marker->leader = block;
		block_push(marker, block);
		marker_follow(marker);
	}
}

/* --- counting --- */

static void count_add(struct leaks_count *count, uint64_t bytes)
{
	count->blocks++;
	count->bytes += bytes;
}

static void sample_add(struct leaks_group *group, uint64_t begin, uint64_t end, bool definite)
{
	/* The first definite one puts indirect ones aside. */
	if (definite && group->definite.blocks == 1)
		group->sample_count = 0;
	if (group->sample_count == LEAKS_SAMPLES || (!definite && group->definite.blocks))
		return;
	group->samples[group->sample_count] = begin;
	group->sample_ends[group->sample_count++] = end;
}

static void lost_add(const struct model *model, const struct model_region *region, size_t block,
                     bool indirect, struct leaks *leaks)
{
	uint64_t end = model_block_end(model, region, block);
	uint64_t bytes = end - model_block_address(model, block);
	struct leaks_group *group = groups_get(&leaks->groups, account_class_of(bytes),
	                                       model_block_kind(model, block));

	count_add(indirect ? &leaks->indirect : &leaks->definite, bytes);
	if (!group)
		return;
	count_add(indirect ? &group->indirect : &group->definite, bytes);
	sample_add(group, model_memory_begin(model, region, block),
	           model_memory_end(model, region, block), !indirect);
}

static void region_count(struct leaks *leaks, const struct model *model,
                         const struct model_region *region)
{
	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		uint64_t begin = model_block_address(model, block);
		uint64_t end = model_block_end(model, region, block);
		bool indirect = leaks_mark_of(leaks, block) == LEAKS_INDIRECT;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		if (leaks_mark_of(leaks, block) == LEAKS_REACHED)
			count_add(&leaks->reached, end - begin);
		else
			lost_add(model, region, block, indirect, leaks);
	}
}

static int group_compare(const void *a, const void *b)
{
	const struct leaks_group *left = a, *right = b;

	return groups_order(&left->key, left->definite.bytes + left->indirect.bytes,
	                    &right->key, right->definite.bytes + right->indirect.bytes);
}

bool leaks_count_all(struct leaks *leaks, const struct model *model)
{
	for (size_t i = 0; i < model->region_count; i++)
		region_count(leaks, model, &model->regions[i]);
	leaks->lost_bytes = leaks->definite.bytes + leaks->indirect.bytes;
	if (leaks->groups.failed)
		return false;
	groups_sort(&leaks->groups, group_compare);
	return true;
}

/* --- marks --- */

bool leaks_open(struct leaks *leaks, size_t blocks)
{
	size_t bits = blocks / 64 + 1;

	*leaks = (struct leaks){
		.is_reached = calloc(bits, sizeof(uint64_t)),
		.is_indirect = calloc(bits, sizeof(uint64_t)),
		.groups = groups_make(sizeof(struct leaks_group)),
	};
	return leaks->is_reached && leaks->is_indirect;
}

void leaks_free(struct leaks *leaks)
{
	free(leaks->is_reached);
	free(leaks->is_indirect);
	groups_free(&leaks->groups);
	leaks->is_reached = leaks->is_indirect = NULL;
}

enum leaks_mark leaks_mark_of(const struct leaks *leaks, size_t block)
{
	if (bit_get(leaks->is_reached, block))
		return LEAKS_REACHED;
	return bit_get(leaks->is_indirect, block) ? LEAKS_INDIRECT : LEAKS_DEFINITE;
}

void leaks_mark(struct leaks *leaks, size_t block, enum leaks_mark mark)
{
	if (mark == LEAKS_REACHED)
		bit_set(leaks->is_reached, block);
	else if (mark == LEAKS_INDIRECT)
		bit_set(leaks->is_indirect, block);
}

bool leaks_find(const struct model *model, const struct words *words, struct leaks *leaks)
{
	struct graph graph;
	struct marker marker = {
		.graph = &graph, .leader = MODEL_NONE,
		.lost = calloc(model->block_count / 64 + 1, sizeof(uint64_t)),
	};

	marker.failed = !leaks_open(leaks, model->block_count) || !marker.lost;
	leaks->roots = words->root_count;
	marker.reached = leaks->is_reached;
	marker.indirect = leaks->is_indirect;
	marker.failed = !graph_make(model, words, &graph) || marker.failed;
	if (!marker.failed) {
		marker.seen = marker.reached;
		slice_push(&marker, graph.roots, graph.root_count);
		marker_follow(&marker);
		lost_follow(&marker);
	}
	marker.failed = marker.failed || !leaks_count_all(leaks, model);
	graph_free(&graph);
	free(marker.lost);
	free(marker.slices);
	return !marker.failed;
}
