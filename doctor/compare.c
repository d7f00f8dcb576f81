#include "doctor/compare.h"

#include <stdlib.h>

/* --- live blocks, side by side --- */

/* Goes over the live blocks of a model, by address. */
struct cursor {
	const struct model *model;
	size_t region, block;        /* `block` is of all blocks, in its region */
	uint64_t begin, bytes;       /* of the block it stands at; bytes 0: at the end */
	uint16_t kind;
};

/* To the live block at this place or the next one. */
static void cursor_settle(struct cursor *cursor)
{
	const struct model *model = cursor->model;

	for (; cursor->region < model->region_count; cursor->region++, cursor->block = 0) {
		const struct model_region *region = &model->regions[cursor->region];

		for (; cursor->block < region->block_count; cursor->block++) {
			size_t block = region->first_block + cursor->block;

			if (model_block_state(model, block) != MODEL_LIVE)
				continue;
			cursor->begin = model_block_address(model, block);
			cursor->bytes = model_block_end(model, region, block) - cursor->begin;
			cursor->kind = model_block_kind(model, block);
			return;
		}
	}
	cursor->begin = UINT64_MAX;
	cursor->bytes = 0;
}

static struct cursor cursor_start(const struct model *model)
{
	struct cursor cursor = { .model = model };

	cursor_settle(&cursor);
	return cursor;
}

static void cursor_go_on(struct cursor *cursor)
{
	cursor->block++;
	cursor_settle(cursor);
}

static void count_add(struct compare_count *count, uint64_t bytes)
{
	count->blocks++;
	count->bytes += bytes;
}

static void change_add(struct compare_change *change, uint64_t bytes, bool before, bool after)
{
	count_add(before && after ? &change->both : before ? &change->gone : &change->fresh, bytes);
	if (before)
		count_add(&change->before, bytes);
	if (after)
		count_add(&change->after, bytes);
}

static void compare_add(struct compare *compare, uint64_t bytes, bool before, bool after)
{
	change_add(&compare->all, bytes, before, after);
	change_add(&compare->classes[account_class_of(bytes)], bytes, before, after);
}

static void group_add(struct compare *compare, const struct cursor *cursor, uint32_t kind,
                      bool is_before, bool is_fresh)
{
	struct compare_group *group = groups_get(&compare->groups, account_class_of(cursor->bytes),
	                                         kind);

	if (!group)
		return;
	count_add(is_before ? &group->before : &group->after, cursor->bytes);
	if (is_fresh) {
		const struct model_region *region = &cursor->model->regions[cursor->region];
		size_t block = region->first_block + cursor->block;

		group->sample = model_memory_begin(cursor->model, region, block);
		group->sample_end = model_memory_end(cursor->model, region, block);
	}
}

static void compare_blocks(const struct model *before, const struct model *after,
                           const uint32_t *kinds, struct compare *compare)
{
	struct cursor old = cursor_start(before), new = cursor_start(after);

	while (old.bytes || new.bytes) {
		bool is_old = old.begin <= new.begin, is_new = new.begin <= old.begin;
		bool is_both = is_old && is_new && old.bytes == new.bytes;

		/* Where two of different sizes begin, the old one is gone first. */
		is_new = is_new && (is_both || !is_old);
		compare_add(compare, is_old ? old.bytes : new.bytes, is_old, is_new);
		if (is_old)
			group_add(compare, &old, kinds[old.kind], true, false);
		if (is_new)
			group_add(compare, &new, new.kind, false, !is_both);
		if (is_old)
			cursor_go_on(&old);
		if (is_new)
			cursor_go_on(&new);
	}
}

/* --- kinds of both looks --- */

/* For each kind of the first look, what it is called in the groups; NULL: no memory. */
static uint32_t *kinds_match(const struct kinds *before, const struct kinds *after)
{
	uint32_t *kinds = calloc(KIND_PLAIN + before->count, sizeof(*kinds));

	for (size_t i = 0; kinds && i < KIND_PLAIN; i++)
		kinds[i] = (uint32_t)i;
	for (size_t i = 0; kinds && i < before->count; i++) {
		uint16_t found = kinds_find(after, &before->table[i]);

		kinds[KIND_PLAIN + i] = found ? found : (uint32_t)(KIND_PLAIN + after->count + i);
	}
	return kinds;
}

struct kind compare_kind(const struct model *before, const struct model *after, uint32_t kind)
{
	return kind < KIND_PLAIN + after->kinds.count ? kinds_kind(&after->kinds, kind) :
	       kinds_kind(&before->kinds, kind - (uint32_t)after->kinds.count);
}

static int group_compare(const void *a, const void *b)
{
	const struct compare_group *left = a, *right = b;

	return groups_order(&left->key, compare_group_grown(left), &right->key,
	                    compare_group_grown(right));
}

/* --- late blocks --- */

static bool is_live_in(const struct model *model, uint64_t begin, uint64_t end)
{
	size_t block = model_find(model, begin);

	return block != MODEL_NONE && model_block_address(model, block) == begin &&
	       model_block_state(model, block) == MODEL_LIVE &&
	       model_block_end(model, model_region_at(model, begin), block) == end;
}

static bool is_free_in(const struct model *model, uint64_t begin, uint64_t end)
{
	size_t block = model_find(model, begin);

	/* Its neighbours may have been free blocks that are merged by now. */
	while (block != MODEL_NONE && model_state_is_free(model_block_state(model, block))) {
		begin = model_block_end(model, model_region_at(model, begin), block);
		if (begin >= end)
			return true;
		block = model_find(model, begin);
	}
	return false;
}

static void late_hold(const struct model *before, const struct model *after,
                      const struct model_region *region, uint64_t begin, uint64_t end,
                      struct compare_late *late)
{
	uint64_t page = (begin + MODEL_PAGE - 1) & ~(MODEL_PAGE - 1);

	for (; page + MODEL_PAGE <= end; page += MODEL_PAGE) {
		if (model_page_at(after, region, page) != MODEL_RESIDENT)
			continue;
		late->held_bytes += MODEL_PAGE;
		if (is_free_in(before, page, page + MODEL_PAGE))
			late->old_bytes += MODEL_PAGE;
	}
}

/* From the region's end down to the last block that is old. */
static struct compare_late late_descend(const struct model *before, const struct model *after,
                                        const struct model_region *region)
{
	struct compare_late late = { 0 }, found = { 0 };
	uint64_t end = region->end, begin, run_end = 0;

	for (size_t i = region->block_count; i--; end = begin) {
		size_t block = region->first_block + i;
		enum model_state state = model_block_state(after, block);
		bool free = model_state_merges(state);

		begin = model_block_address(after, block);
		if (free && !run_end)
			run_end = end;
		/* Free blocks side by side are one run, to its lowest. */
		if (free && i && model_state_merges(model_block_state(after, block - 1)))
			continue;
		if (free && late.blocks.blocks) {
			late_hold(before, after, region, begin, run_end, &late);
			found = late;
		}
		run_end = 0;
		if (state == MODEL_FOREIGN || (state == MODEL_LIVE && is_live_in(before, begin, end)))
			break;
		if (state == MODEL_LIVE) {
			late.address = late.address ? late.address : begin;
			count_add(&late.blocks, end - begin);
		}
	}
	return found.held_bytes ? found : (struct compare_late){ 0 };
}

static void compare_late(const struct model *before, const struct model *after,
                         struct compare_late *late)
{
	uint64_t most = 0;

	for (size_t i = 0; i < after->region_count; i++) {
		struct compare_late here;

		if (after->regions[i].kind == MODEL_MAPPED)
			continue;
		here = late_descend(before, after, &after->regions[i]);
		late->blocks.blocks += here.blocks.blocks;
		late->blocks.bytes += here.blocks.bytes;
		late->held_bytes += here.held_bytes;
		late->old_bytes += here.old_bytes;
		if (here.held_bytes > most) {
			most = here.held_bytes;
			late->address = here.address;
		}
	}
}

/* --- all of it --- */

bool compare_fill(const struct model *before, const struct model *after,
                  struct compare *compare)
{
	uint32_t *kinds = kinds_match(&before->kinds, &after->kinds);

	*compare = (struct compare){ .groups = groups_make(sizeof(struct compare_group)) };
	if (kinds)
		compare_blocks(before, after, kinds, compare);
	if (!kinds || compare->groups.failed) {
		free(kinds);
		compare_free(compare);
		return false;
	}
	free(kinds);
	groups_sort(&compare->groups, group_compare);
	compare_late(before, after, &compare->late);
	return true;
}

void compare_free(struct compare *compare)
{
	groups_free(&compare->groups);
}

uint64_t compare_grown(const struct compare_change *change)
{
	return change->after.bytes > change->before.bytes ?
	       change->after.bytes - change->before.bytes : 0;
}

size_t compare_most(const struct compare *compare)
{
	size_t most = ACCOUNT_CLASSES;
	uint64_t bytes = 0;

	for (size_t i = 0; i < ACCOUNT_CLASSES; i++)
		if (compare_grown(&compare->classes[i]) > bytes) {
			bytes = compare_grown(&compare->classes[i]);
			most = i;
		}
	return most;
}

bool compare_is_leak(const struct compare *compare, const struct verdict_limits *limits)
{
	uint64_t grown = compare_grown(&compare->all);

	return grown && grown >= limits->bytes &&
	       100 * grown >= limits->share_percent * compare->all.before.bytes;
}
