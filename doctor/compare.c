#include "doctor/compare.h"

/* --- live blocks, side by side --- */

/* Goes over the live blocks of a model, by address. */
struct cursor {
	const struct model *model;
	size_t region, block;        /* `block` is of all blocks, in its region */
	uint64_t begin, bytes;       /* of the block it stands at; bytes 0: at the end */
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

static void compare_blocks(const struct model *before, const struct model *after,
                           struct compare *compare)
{
	struct cursor old = cursor_start(before), new = cursor_start(after);

	while (old.bytes || new.bytes) {
		if (old.begin == new.begin && old.bytes == new.bytes) {
			compare_add(compare, old.bytes, true, true);
			cursor_go_on(&old);
			cursor_go_on(&new);
		} else if (old.begin <= new.begin) {
			compare_add(compare, old.bytes, true, false);
			cursor_go_on(&old);
		} else {
			compare_add(compare, new.bytes, false, true);
			cursor_go_on(&new);
		}
	}
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

void compare_fill(const struct model *before, const struct model *after,
                  struct compare *compare)
{
	*compare = (struct compare){ 0 };
	compare_blocks(before, after, compare);
	compare_late(before, after, &compare->late);
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
