#include "map/picture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "doctor/words.h"

const struct picture_style *picture_style(enum map_state state)
{
	static const struct picture_style styles[MAP_STATES] = {
		[MAP_LIVE] = { "live: the program's", 0x0059a8 },
		[MAP_INTERNAL] = { "malloc's own: headers, tables", 0x1a1a1a },
		[MAP_FOREIGN] = { "another's, between the blocks", 0x6e6e6e },
		[MAP_PINNED] = { "pinned: free, beside bytes in use", 0xd62f0a },
		[MAP_CACHED] = { "free, whole pages, in threads' caches", 0xf7e225 },
		[MAP_FREE] = { "free, whole pages, in fast bins, bins, slabs", 0xf59b14 },
		[MAP_TOP] = { "free, whole pages, top of an arena", 0x2ec4a6 },
		[MAP_UNTOUCHED] = { "in use, but not resident: never touched", 0xb5d3f0 },
		[MAP_GONE] = { "free: given back or never touched", 0xeceae6 },
	};

	return &styles[state];
}

/* --- where things are --- */

static void rows_place(struct picture *picture)
{
	const struct map *map = &picture->map;

	picture->height = 0;
	for (size_t s = 0; s < map->section_count; s++) {
		const struct map_section *section = &map->sections[s];

		picture->height += PICTURE_SECTION_PITCH;
		for (size_t i = 0; i < section->row_count; i++) {
			size_t row = section->first_row + i;

			picture->row_y[row] = picture->height;
			picture->height += map->rows[row].is_gap ? PICTURE_GAP_PITCH : PICTURE_ROW_PITCH;
		}
	}
}

void picture_bands(const struct map_cell *cell, unsigned heights[MAP_STATES])
{
	uint64_t all = cell->end - cell->begin;
	unsigned left = PICTURE_CELL_HEIGHT;
	int largest = 0;

	for (int state = 1; state < MAP_STATES; state++)
		if (cell->bytes[state] > cell->bytes[largest])
			largest = state;
	for (int state = 0; state < MAP_STATES; state++) {
		uint64_t units = (2 * PICTURE_CELL_HEIGHT * cell->bytes[state] + all) / (2 * all);

		if (state == largest)
			units = 0;
		else if (state == MAP_LIVE && cell->bytes[state] && !units)
			units = 1;
		heights[state] = units < left ? (unsigned)units : left;
		left -= heights[state];
	}
	heights[largest] = left;
}

static const struct model_region *region_of(const struct picture *picture, size_t cell)
{
	return &picture->patient->model.regions[picture->map.cells[cell].region];
}

bool picture_region_begins(const struct picture *picture, size_t cell)
{
	const struct map_cell *cells = picture->map.cells;

	return cell && cells[cell].region != cells[cell - 1].region &&
	       region_of(picture, cell)->kind == region_of(picture, cell - 1)->kind;
}

bool picture_top_begins(const struct picture *picture, size_t cell)
{
	const struct model_region *region = region_of(picture, cell);
	const struct map_cell *it = &picture->map.cells[cell];
	uint64_t top;

	if (!model_region_is_arena(region))
		return false;
	top = picture->patient->model.arenas[region->arena].top;
	return top && top >= it->begin && top < it->end;
}

/* --- what is written --- */

static void titles_write(struct picture *picture)
{
	const struct patient *patient = picture->patient;
	const struct account *account = &patient->verdict.account;
	size_t pages = picture->map.cell_pages;
	char date[32] = "", version[32] = "", cell[64] = "a page of 4 KiB";
	time_t taken = (time_t)(patient->taken / 1000);
	struct tm parts;

	if (localtime_r(&taken, &parts))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &parts);
	if (patient->reading.version)
		snprintf(version, sizeof(version), ", glibc %u.%u", patient->reading.version / 100,
		         patient->reading.version % 100);
	if (*patient->reading.cede)
		snprintf(version, sizeof(version), ", cede %s", patient->reading.cede);
	snprintf(picture->title, sizeof(picture->title),
	         "%s (%d): %s resident (RSS), %s of it heap. Verdict: %s", patient->name,
	         patient->pid, amount(account->resident_bytes).text,
	         amount(account->heap_bytes).text, verdict_kind_name(patient->verdict.kind));
	if (pages > 1)
		snprintf(cell, sizeof(cell), "%zu pages, %zu KiB", pages, pages * MODEL_PAGE / 1024);
	snprintf(picture->subtitle, sizeof(picture->subtitle), "%s%s. Each cell is %s.", date,
	         version, cell);
}

static uint64_t section_resident(const struct picture *picture, const struct map_section *section)
{
	const struct map_row *rows = picture->map.rows + section->first_row;
	const struct map_row *last = &rows[section->row_count - 1];
	uint64_t bytes = 0;

	for (size_t cell = rows->first_cell; cell < last->first_cell + last->cell_count; cell++)
		for (int state = 0; state < MAP_RESIDENT; state++)
			bytes += picture->map.cells[cell].bytes[state];
	return bytes;
}

void picture_section_text(const struct picture *picture, const struct map_section *section,
                          char *text, size_t size)
{
	const struct model *model = &picture->patient->model;
	const struct model_region *first = &model->regions[section->first_region];
	const struct model_region *last = &model->regions[section->last_region];
	const struct model_arena *arena;
	struct text resident = amount(section_resident(picture, section));
	const char *s = section->region_count == 1 ? "" : "s";
	int length;

	if (section->kind == MODEL_MAPPED) {
		snprintf(text, size, "%zu mapped block%s: %s resident", section->region_count, s,
		         resident.text);
		return;
	}
	if (section->kind == MODEL_OWN) {
		snprintf(text, size, "What describes the heap: %s resident", resident.text);
		return;
	}
	if (section->kind == MODEL_SLABS) {
		if (model->arena_count > MAP_ARENAS_MOST)
			snprintf(text, size, "Slabs of %zu arenas: %s resident", model->arena_count,
			         resident.text);
		else
			snprintf(text, size, "Slabs of arena %u: %s resident", first->arena,
			         resident.text);
		return;
	}
	if (section->kind == MODEL_HEAP && model->arena_count > MAP_ARENAS_MOST) {
		snprintf(text, size, "%zu heaps of %zu arenas: %s resident", section->region_count,
		         model->arena_count - 1, resident.text);
		return;
	}
	arena = &model->arenas[first->arena];
	if (!first->arena)
		length = snprintf(text, size, "Main arena%s", section->kind == MODEL_BREAK ?
		                  ", on the break" : ", mapped");
	else
		length = snprintf(text, size, "Arena %u, in %zu heap%s", first->arena,
		                  section->region_count, s);
	length += snprintf(text + length, size - (size_t)length, ": %s resident", resident.text);
	if (arena->top >= first->begin && arena->top < last->end)
		snprintf(text + length, size - (size_t)length, "; its top of %s at %#" PRIx64,
		         amount(arena->top_bytes).text, arena->top);
}

void picture_gap_text(const struct map_cell *gap, char *text, size_t size)
{
	uint64_t gone = gap->bytes[MAP_GONE], untouched = gap->bytes[MAP_UNTOUCHED];
	int length = snprintf(text, size, "%s of address space not resident: ",
	                      amount(gap->end - gap->begin).text);

	if (gone)
		length += snprintf(text + length, size - (size_t)length, "%s free",
		                   gone == gap->end - gap->begin ? "all" : amount(gone).text);
	if (untouched)
		snprintf(text + length, size - (size_t)length, "%s%s in use", gone ? ", " : "",
		         gone ? amount(untouched).text : "all");
}

/* --- the whole --- */

bool picture_make(struct picture *picture, const struct patient *patient)
{
	*picture = (struct picture){ .patient = patient };
	if (!map_draw(&patient->model, &picture->map))
		return false;
	picture->row_y = malloc((picture->map.row_count + 1) * sizeof(*picture->row_y));
	if (!picture->row_y) {
		map_free(&picture->map);
		return false;
	}
	rows_place(picture);
	titles_write(picture);
	return true;
}

void picture_discard(struct picture *picture)
{
	map_free(&picture->map);
	free(picture->row_y);
}
