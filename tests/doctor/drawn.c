#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/drawn.h"

static enum model_state state_of(char letter)
{
	static const char letters[MODEL_STATES + 1] = "LCFBTIXS";
	const char *at = strchr(letters, letter);

	assert_true(letter && at);
	return (enum model_state)(at - letters);
}

static enum model_page page_of(char letter)
{
	return letter == 'R' ? MODEL_RESIDENT : letter == 'Z' ? MODEL_ZERO :
	       letter == 'S' ? MODEL_SWAPPED : MODEL_ABSENT;
}

static void arena_count(struct model *model, uint32_t index, enum model_state state,
                        uint64_t address, uint64_t bytes)
{
	struct model_arena *arena;

	while (model->arena_count <= index)
		model_add_arena(model, &(struct model_arena){ .top_shrinks = !model->arena_count });
	arena = &model->arenas[index];
	arena->system_bytes += bytes;
	if (state == MODEL_FAST) {
		arena->fast_blocks++;
		arena->fast_bytes += bytes;
	} else if (state == MODEL_BIN) {
		arena->bin_blocks++;
		arena->bin_bytes += bytes;
	} else if (state == MODEL_TOP) {
		arena->top = address;
		arena->top_bytes = bytes;
	} else if (state == MODEL_SLAB) {
		arena->slab_blocks++;
		arena->slab_bytes += bytes;
	}
}

void drawn_region(struct model *model, enum model_region_kind kind, uint32_t arena,
                  uint64_t begin, const char *blocks, const char *pages)
{
	uint64_t address = begin;
	uint8_t *states;

	model_begin_region(model, kind, arena, begin);
	while (*blocks) {
		enum model_state state = state_of(*blocks);
		char *end;
		uint64_t bytes = strtoull(blocks + 1, &end, 10);

		model_add_block(model, address, state);
		if (kind != MODEL_MAPPED && kind != MODEL_OWN)
			arena_count(model, arena, state, address, bytes);
		address += bytes;
		blocks = end + strspn(end, " ");
	}
	states = model_end_region(model, address);
	for (size_t i = 0; i < model_region_pages(&model->regions[model->region_count - 1]); i++) {
		states[i] = page_of(*pages);
		if (pages[1])
			pages++;
	}
}

void drawn_finish(struct model *model)
{
	if (!model->settings.trim_unit)
		model->settings.trim_unit = MODEL_PAGE;
	assert_true(model_finish(model));
	assert_int_equal(model_check(model), 0);
}
