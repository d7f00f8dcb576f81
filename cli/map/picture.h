/*
 * A process's heap as it is drawn: what the views of `cede map` share, that is where
 * the rows are, what colours mean, and what is written beside them.  Layer: cli/map.
 *
 * Lengths are in units of the picture, which are pixels unless it is zoomed.  The
 * patient must outlive the picture.
 */
#ifndef CEDE_CLI_MAP_PICTURE_H
#define CEDE_CLI_MAP_PICTURE_H

#include "doctor/map.h"
#include "doctor/patient.h"

#define PICTURE_CELL_WIDTH 4
#define PICTURE_CELL_HEIGHT 8      /* a unit for each band: picture_bands */
#define PICTURE_ROW_PITCH 9
#define PICTURE_GAP_PITCH 18
#define PICTURE_SECTION_PITCH 30

/* The colours differ for those too who see no red or no green (tests/doctor). */
struct picture_style {
	const char *text;
	unsigned color;            /* 0xRRGGBB */
};

struct picture {
	const struct patient *patient;
	struct map map;
	unsigned *row_y;           /* of each row its upper edge, from the first section on */
	unsigned height;
	char title[256], subtitle[256];
};

/* Returns false when memory ran out; then there is nothing to discard. */
bool picture_make(struct picture *picture, const struct patient *patient);
void picture_discard(struct picture *picture);

const struct picture_style *picture_style(enum map_state state);

/* How many units of the cell's height each state has, from below: rounded, but what is
 * live shows, and the largest takes the rest. */
void picture_bands(const struct map_cell *cell, unsigned heights[MAP_STATES]);

/* A region other than the section's first, or an arena's top, begins in the cell. */
bool picture_region_begins(const struct picture *picture, size_t cell);
bool picture_top_begins(const struct picture *picture, size_t cell);

void picture_section_text(const struct picture *picture, const struct map_section *section,
                          char *text, size_t size);
void picture_gap_text(const struct map_cell *gap, char *text, size_t size);

#endif
