#include "doctor/gates.h"

#include <stdlib.h>
#include <string.h>

#define THRESHOLD_AT_START (128ul << 10)
#define PIN_SHARE 100              /* live bytes pin so many times as much at least */

const char *gate_kind_name(enum gate_kind kind)
{
	static const char *const names[GATE_KINDS] = {
		[GATE_FAST] = "fast bins", [GATE_PIN] = "pinned top", [GATE_TOP] = "untrimmed top",
		[GATE_CACHE] = "thread caches", [GATE_ARENAS] = "other arenas",
		[GATE_WAIT] = "waiting",
	};

	return names[kind];
}

bool gates_threshold_grew(const struct model *model)
{
	return !model->settings.thresholds_fixed &&
	       model->settings.trim_threshold > THRESHOLD_AT_START;
}

/* The region that ends with the first arena's top, or NULL. */
static const struct model_region *main_top_region(const struct model *model)
{
	return model->arena_count && model->arenas[0].top ?
	       model_region_at(model, model->arenas[0].top) : NULL;
}

/* A walk from the main top downwards. */
struct descent {
	uint64_t held;               /* resident pages of free memory met so far */
	uint64_t used_bytes;         /* of blocks in use or in caches, */
	size_t used_blocks, cached_blocks;
	uint64_t first;              /* the first of them */
};

static void descent_pass_used(struct descent *descent, const struct model *model, size_t block,
                              uint64_t end)
{
	uint64_t begin = model_block_address(model, block);

	if (!descent->used_blocks)
		descent->first = begin;
	descent->used_blocks++;
	descent->used_bytes += end - begin;
	descent->cached_blocks += model_block_state(model, block) == MODEL_CACHED;
}

/* Keeps the point where few bytes in use hold the most. */
static void descent_judge(const struct descent *descent, struct gate *gate)
{
	if (!descent->used_blocks || descent->held <= gate->held_bytes ||
	    descent->used_bytes * PIN_SHARE > descent->held)
		return;
	*gate = (struct gate){
		.kind = GATE_PIN, .held_bytes = descent->held,
		.key_bytes = descent->used_bytes, .key_blocks = descent->used_blocks,
		.cached_blocks = descent->cached_blocks, .address = descent->first,
	};
}

static void pin_find(const struct model *model, struct gate *gate)
{
	const struct model_region *region = main_top_region(model);
	struct descent descent = { 0 };
	uint64_t end;

	*gate = (struct gate){ .kind = GATE_PIN };
	if (!region)
		return;
	end = region->end;
	for (size_t i = region->block_count; i--;) {
		size_t block = region->first_block + i;
		uint64_t begin = model_block_address(model, block);
		enum model_state state = model_block_state(model, block);
		bool goes_on = i && model_state_merges(state) &&
		               model_state_merges(model_block_state(model, block - 1));

		/* Free blocks side by side are one run, to its lowest. */
		if (goes_on)
			continue;
		if (model_state_merges(state) && descent.used_blocks)
			descent.held += trim_resident(model, region, begin, end);
		else if (state == MODEL_LIVE || state == MODEL_CACHED || state == MODEL_FOREIGN)
			descent_pass_used(&descent, model, block, end);
		descent_judge(&descent, gate);
		end = begin;
	}
}

static void arenas_find(const struct model *model, struct gate *gate)
{
	*gate = (struct gate){ .kind = GATE_ARENAS,
	                       .key_blocks = model->arena_count ? model->arena_count - 1 : 0 };
	for (size_t i = 0; i < model->region_count; i++) {
		const struct model_region *region = &model->regions[i];

		if (region->kind != MODEL_HEAP)
			continue;
		for (size_t block = region->first_block;
		     block < region->first_block + region->block_count; block++) {
			enum model_state state = model_block_state(model, block);

			if (state == MODEL_TOP || state == MODEL_BIN || state == MODEL_FAST)
				gate->held_bytes +=
					trim_resident(model, region, model_block_address(model, block),
					              model_block_end(model, region, block));
		}
	}
}

static void fast_find(const struct model *model, const struct trim *trim, struct gate *gate)
{
	*gate = (struct gate){ .kind = GATE_FAST, .held_bytes = trim->merged_top_bytes };
	if (model->arena_count) {
		gate->key_bytes = model->arenas[0].fast_bytes;
		gate->key_blocks = model->arenas[0].fast_blocks;
	}
}

static void top_find(const struct model *model, struct gate *gate)
{
	const struct model_region *region = main_top_region(model);

	*gate = (struct gate){ .kind = GATE_TOP, .key_bytes = model->settings.trim_threshold };
	if (region)
		gate->held_bytes = trim_resident(model, region, model->arenas[0].top, region->end);
}

static void cache_find(const struct model *model, const struct account *account,
                       struct gate *gate)
{
	*gate = (struct gate){ .kind = GATE_CACHE, .held_bytes = account->whole[MODEL_CACHED],
	                       .key_blocks = model->cache_count };
	for (size_t i = 0; i < model->cache_count; i++)
		gate->key_bytes += model->caches[i].bytes;
}

/* What an allocator that gives whole pages back has not yet. */
static void wait_find(const struct account *account, struct gate *gate)
{
	*gate = (struct gate){ .kind = GATE_WAIT,
	                       .held_bytes = account->whole_bytes - account->whole[MODEL_CACHED] };
}

static int gate_compare(const void *a, const void *b)
{
	const struct gate *left = a, *right = b;

	if (left->held_bytes != right->held_bytes)
		return left->held_bytes > right->held_bytes ? -1 : 1;
	return (int)left->kind - (int)right->kind;
}

size_t gates_find(const struct model *model, const struct account *account,
                  const struct trim *trim, struct gate gates[GATE_KINDS])
{
	size_t count = 0;

	memset(gates, 0, GATE_KINDS * sizeof(*gates));
	cache_find(model, account, &gates[GATE_CACHE]);
	if (model->settings.giving == MODEL_GIVES_END) {
		fast_find(model, trim, &gates[GATE_FAST]);
		pin_find(model, &gates[GATE_PIN]);
		top_find(model, &gates[GATE_TOP]);
		arenas_find(model, &gates[GATE_ARENAS]);
	} else {
		wait_find(account, &gates[GATE_WAIT]);
	}
	qsort(gates, GATE_KINDS, sizeof(*gates), gate_compare);
	while (count < GATE_KINDS && gates[count].held_bytes)
		count++;
	return count;
}
