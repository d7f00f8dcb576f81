#include "doctor/map.h"

#include <stdlib.h>
#include <string.h>

#include "doctor/page.h"

const char *map_state_name(enum map_state state)
{
	static const char *const names[MAP_STATES] = {
		[MAP_LIVE] = "live", [MAP_INTERNAL] = "internal", [MAP_FOREIGN] = "foreign",
		[MAP_PINNED] = "pinned", [MAP_CACHED] = "cached", [MAP_FREE] = "free",
		[MAP_TOP] = "top", [MAP_UNTOUCHED] = "untouched", [MAP_GONE] = "gone",
	};

	return names[state];
}

void map_free(struct map *map)
{
	free(map->cells);
	free(map->rows);
	free(map->sections);
	*map = (struct map){ 0 };
}

/* --- where cells and rows are --- */

/* A map in the making; `map` has room for what is counted. */
struct plan {
	const struct model *model;
	struct map map;
	size_t cells_most, rows_most;   /* more are of no use: cells must be larger */
	bool row_open;
	bool failed;
};

/* Room for one more, by doubling. */
static void *array_extend(struct plan *plan, void *array, size_t count, size_t item_bytes)
{
	void *larger;

	if (count && (count & (count - 1)))
		return array;
	larger = realloc(array, (count ? 2 * count : 1) * item_bytes);
	plan->failed = plan->failed || !larger;
	return larger ? larger : array;
}

static bool plan_ended(const struct plan *plan)
{
	return plan->failed || plan->map.cell_count > plan->cells_most ||
	       plan->map.row_count > plan->rows_most;
}

static void row_begin(struct plan *plan, bool is_gap)
{
	struct map *map = &plan->map;

	map->rows = array_extend(plan, map->rows, map->row_count, sizeof(*map->rows));
	if (plan->failed)
		return;
	map->rows[map->row_count++] = (struct map_row){ .first_cell = map->cell_count,
	                                                .is_gap = is_gap };
	map->sections[map->section_count - 1].row_count++;
}

static void cell_add(struct plan *plan, size_t region, uint64_t begin, uint64_t end, bool is_gap)
{
	struct map *map = &plan->map;

	if (plan->failed)
		return;
	if (is_gap || !plan->row_open || map->rows[map->row_count - 1].cell_count == MAP_COLUMNS)
		row_begin(plan, is_gap);
	plan->row_open = !is_gap;
	map->cells = array_extend(plan, map->cells, map->cell_count, sizeof(*map->cells));
	if (plan->failed)
		return;
	map->cells[map->cell_count++] = (struct map_cell){ .begin = begin, .end = end,
	                                                   .region = region };
	map->rows[map->row_count - 1].cell_count++;
}

/* The pages from `page` on, in whole cells, of which none is resident. */
static size_t pages_absent(const uint8_t *pages, size_t page, size_t count, size_t cell_pages)
{
	const uint8_t *resident = memchr(pages + page, MODEL_RESIDENT, count - page);

	return resident ? (size_t)(resident - pages - page) / cell_pages * cell_pages : count - page;
}

/* The address where a page of the region begins, or the region itself. */
static uint64_t page_address(const struct model_region *region, size_t page)
{
	uint64_t address = (region->begin / MODEL_PAGE + page) * MODEL_PAGE;

	return address < region->begin ? region->begin :
	       address > region->end ? region->end : address;
}

static void region_divide(struct plan *plan, size_t index)
{
	const struct model_region *region = &plan->model->regions[index];
	const uint8_t *pages = plan->model->pages + region->first_page;
	size_t count = model_region_pages(region), unit = plan->map.cell_pages;

	for (size_t page = 0, end, absent = 0; page < count && !plan_ended(plan); page = end) {
		/* Of a run that is too short for a gap the cells are taken one by one. */
		if (!absent)
			absent = pages_absent(pages, page, count, unit);
		if (absent >= MAP_COLUMNS * unit) {
			end = page + absent;
			absent = 0;
			cell_add(plan, index, page_address(region, page), page_address(region, end), true);
			continue;
		}
		end = page + unit < count ? page + unit : count;
		absent = absent > unit ? absent - unit : 0;
		cell_add(plan, index, page_address(region, page), page_address(region, end), false);
	}
}

static void section_begin(struct plan *plan, size_t region)
{
	struct map *map = &plan->map;

	map->sections = array_extend(plan, map->sections, map->section_count,
	                             sizeof(*map->sections));
	plan->row_open = false;
	if (!plan->failed)
		map->sections[map->section_count++] = (struct map_section){
			.kind = plan->model->regions[region].kind,
			.first_region = region, .first_row = map->row_count,
		};
}

/* A section of the regions of a kind: of one arena, or of all. */
static void section_divide(struct plan *plan, enum model_region_kind kind, size_t arena)
{
	const struct model *model = plan->model;
	struct map_section *section;
	bool begun = false;

	for (size_t i = 0; i < model->region_count && !plan_ended(plan); i++) {
		if (model->regions[i].kind != kind ||
		    (arena != MODEL_NONE && model->regions[i].arena != arena))
			continue;
		if (!begun)
			section_begin(plan, i);
		begun = true;
		if (plan->failed)
			return;
		section = &plan->map.sections[plan->map.section_count - 1];
		section->last_region = i;
		section->region_count++;
		region_divide(plan, i);
	}
}

static void arenas_divide(struct plan *plan, enum model_region_kind kind)
{
	if (plan->model->arena_count > MAP_ARENAS_MOST)
		section_divide(plan, kind, MODEL_NONE);
	else
		for (size_t i = 0; i < plan->model->arena_count; i++)
			section_divide(plan, kind, i);
}

static void heap_divide(struct plan *plan)
{
	section_divide(plan, MODEL_BREAK, MODEL_NONE);
	arenas_divide(plan, MODEL_HEAP);
	arenas_divide(plan, MODEL_SLABS);
	section_divide(plan, MODEL_MAPPED, MODEL_NONE);
	section_divide(plan, MODEL_OWN, MODEL_NONE);
}

/* --- what is in them --- */

static enum map_state state_of(enum model_state state, const struct page *page)
{
	if (page->state != MODEL_RESIDENT)
		return model_state_is_free(state) ? MAP_GONE : MAP_UNTOUCHED;
	if (model_state_is_free(state) && !page_is_free(page))
		return MAP_PINNED;
	switch (state) {
	case MODEL_LIVE:
		return MAP_LIVE;
	case MODEL_INTERNAL:
		return MAP_INTERNAL;
	case MODEL_FOREIGN:
		return MAP_FOREIGN;
	case MODEL_CACHED:
		return MAP_CACHED;
	case MODEL_TOP:
		return MAP_TOP;
	default:
		return MAP_FREE;
	}
}

static void cell_fill(struct map_cell *cell, const struct page *page)
{
	if (!cell->block_count)
		cell->first_block = page->first;
	cell->block_count = page->last - cell->first_block + 1;
	for (int state = 0; state < MODEL_STATES; state++)
		cell->bytes[state_of((enum model_state)state, page)] += page->bytes[state];
}

static void map_fill(const struct model *model, struct map *map)
{
	const struct model_region *region = NULL;
	struct page page = { 0 };

	for (size_t i = 0; i < map->cell_count; i++) {
		struct map_cell *cell = &map->cells[i];

		if (region != &model->regions[cell->region]) {
			region = &model->regions[cell->region];
			page = (struct page){ 0 };
			page_next(model, region, &page);
		}
		do
			cell_fill(cell, &page);
		while (page_next(model, region, &page) && page.begin < cell->end);
		for (int state = 0; state < MAP_STATES; state++)
			map->bytes[state] += cell->bytes[state];
	}
	for (int state = 0; state < MAP_RESIDENT; state++)
		map->resident_bytes += map->bytes[state];
}

bool map_draw(const struct model *model, struct map *map)
{
	struct plan plan = { .model = model, .map = { .cell_pages = 1 } };
	size_t arenas = model->arena_count < MAP_ARENAS_MOST ? model->arena_count : MAP_ARENAS_MOST;

	/* A region has one cell at least, and each section ends its row. */
	plan.cells_most = MAP_CELLS_MOST + model->region_count;
	plan.rows_most = plan.cells_most / MAP_COLUMNS + 2 * arenas + 3;
	for (heap_divide(&plan); !plan.failed && plan_ended(&plan); heap_divide(&plan)) {
		plan.map.cell_pages *= 2;
		plan.map.cell_count = plan.map.row_count = plan.map.section_count = 0;
	}
	*map = plan.map;
	if (plan.failed)
		map_free(map);
	else
		map_fill(model, map);
	return !plan.failed;
}
