#include "map/draw.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "doctor/words.h"
#include "drawing.h"

#define MARGIN 24.0
#define GUTTER 100.0               /* for addresses */
#define WIDTH (2 * MARGIN + GUTTER + MAP_COLUMNS * PICTURE_CELL_WIDTH)
#define HEADER_HEIGHT 244.0
#define LEGEND_TOP 88.0
#define LEGEND_PITCH 18.0
#define LEGEND_SECOND (MARGIN + 560)
#define ADDRESS_PITCH 36u          /* between two addresses of a section, at least */
#define PNG_SCALE 2.0              /* sharp on a dense screen too */

static const unsigned ink = 0x21262e, faint = 0x6b737f;

static void color_set(cairo_t *cr, unsigned color)
{
	cairo_set_source_rgb(cr, (color >> 16) / 255.0, (color >> 8 & 255) / 255.0,
	                     (color & 255) / 255.0);
}

/* --- the legend --- */

static void legend_row(cairo_t *cr, double x, double y, uint64_t bytes, const char *text)
{
	char megabytes[32];

	snprintf(megabytes, sizeof(megabytes), "%.3f MB", (double)bytes / 1e6);
	color_set(cr, ink);
	drawing_text(cr, x + 110, y + 10, 1, 12, false, megabytes);
	drawing_text(cr, x + 122, y + 10, 0, 12, false, text);
}

static void legend_state(cairo_t *cr, const struct picture *picture, double x, double y,
                         enum map_state state)
{
	color_set(cr, picture_style(state)->color);
	cairo_rectangle(cr, x, y, 22, 12);
	cairo_fill(cr);
	legend_row(cr, x, y, picture->map.bytes[state], picture_style(state)->text);
}

static void legend_draw(cairo_t *cr, const struct picture *picture)
{
	double x = MARGIN, y = LEGEND_TOP;

	for (int state = 0; state < MAP_RESIDENT; state++, y += LEGEND_PITCH)
		legend_state(cr, picture, x, y, (enum map_state)state);
	legend_row(cr, x, y, picture->map.resident_bytes, "the heap's resident memory in all");

	x = LEGEND_SECOND;
	y = LEGEND_TOP;
	for (int state = MAP_RESIDENT; state < MAP_STATES; state++, y += LEGEND_PITCH)
		legend_state(cr, picture, x, y, (enum map_state)state);
	y += LEGEND_PITCH;
	color_set(cr, 0);
	cairo_rectangle(cr, x, y, 2, 12);
	cairo_fill(cr);
	color_set(cr, faint);
	drawing_text(cr, x + 12, y + 10, 0, 12, false, "where an arena's top begins");
	y += LEGEND_PITCH;
	cairo_rectangle(cr, x, y, 1, 12);
	cairo_fill(cr);
	drawing_text(cr, x + 12, y + 10, 0, 12, false, "where another heap or mapped block begins");
	y += LEGEND_PITCH;
	drawing_text(cr, x, y + 10, 0, 12, false, "A cell shows its states one on the other, rounded to "
	             "eighths; what is live always shows.");
}

static void header_draw(cairo_t *cr, const struct picture *picture)
{
	color_set(cr, ink);
	drawing_text(cr, MARGIN, 36, 0, 18, true, picture->title);
	color_set(cr, faint);
	drawing_text(cr, MARGIN, 60, 0, 12, false, picture->subtitle);
	legend_draw(cr, picture);
}

/* --- the cells --- */

static double cell_x(size_t column)
{
	return MARGIN + GUTTER + (double)(column * PICTURE_CELL_WIDTH);
}

static double row_y(const struct picture *picture, size_t row)
{
	return HEADER_HEIGHT + picture->row_y[row];
}

/* A line as thick as the band, over the neighbours in which it is alike: a third of the
 * text of a rectangle. */
static void band_line(cairo_t *cr, const struct picture *picture, size_t row, size_t begin,
                      size_t end, unsigned low, unsigned high)
{
	double y = row_y(picture, row) + PICTURE_CELL_HEIGHT - (low + high) / 2.0;

	cairo_move_to(cr, cell_x(begin), y);
	cairo_line_to(cr, cell_x(end), y);
}

static void row_bands(cairo_t *cr, const struct picture *picture, size_t row,
                      enum map_state state, unsigned thickness)
{
	const struct map_row *it = &picture->map.rows[row];
	unsigned from = 0, to = 0;
	size_t begin = 0;

	for (size_t column = 0; column <= it->cell_count; column++) {
		unsigned heights[MAP_STATES] = { 0 }, low = 0, high;

		if (column < it->cell_count)
			picture_bands(&picture->map.cells[it->first_cell + column], heights);
		for (int below = 0; below < (int)state; below++)
			low += heights[below];
		high = low + heights[state];
		if (low == from && high == to)
			continue;
		if (to - from == thickness)
			band_line(cr, picture, row, begin, column, from, to);
		begin = column;
		from = low;
		to = high;
	}
}

static void cells_draw(cairo_t *cr, const struct picture *picture)
{
	for (int state = 0; state < MAP_STATES; state++) {
		if (!picture->map.bytes[state])
			continue;
		color_set(cr, picture_style((enum map_state)state)->color);
		for (unsigned thickness = 1; thickness <= PICTURE_CELL_HEIGHT; thickness++) {
			for (size_t row = 0; row < picture->map.row_count; row++)
				if (!picture->map.rows[row].is_gap)
					row_bands(cr, picture, row, (enum map_state)state, thickness);
			cairo_set_line_width(cr, thickness);
			cairo_stroke(cr);
		}
	}
}

static void row_marks(cairo_t *cr, const struct picture *picture, size_t row)
{
	const struct map_row *it = &picture->map.rows[row];

	for (size_t i = 0; i < it->cell_count; i++) {
		bool is_top = picture_top_begins(picture, it->first_cell + i);

		if (!is_top && !picture_region_begins(picture, it->first_cell + i))
			continue;
		color_set(cr, is_top ? 0 : faint);
		cairo_rectangle(cr, cell_x(i), row_y(picture, row) - 1, is_top ? 2 : 1,
		                PICTURE_ROW_PITCH);
		cairo_fill(cr);
	}
}

static void gap_draw(cairo_t *cr, const struct picture *picture, size_t row)
{
	const double dots = 3;
	double y = row_y(picture, row) + PICTURE_GAP_PITCH / 2.0;
	char text[128];

	picture_gap_text(&picture->map.cells[picture->map.rows[row].first_cell], text,
	                 sizeof(text));
	color_set(cr, faint);
	drawing_text(cr, cell_x(12), y + 3, 0, 11, false, text);
	cairo_set_line_width(cr, 1);
	cairo_set_dash(cr, &dots, 1, 0);
	cairo_move_to(cr, cell_x(0), y);
	cairo_line_to(cr, cell_x(10), y);
	cairo_move_to(cr, cell_x(100), y);
	cairo_line_to(cr, cell_x(MAP_COLUMNS), y);
	cairo_stroke(cr);
	cairo_set_dash(cr, NULL, 0, 0);
}

static void address_draw(cairo_t *cr, const struct picture *picture, size_t row)
{
	const struct map_row *it = &picture->map.rows[row];
	char text[32];

	snprintf(text, sizeof(text), "%" PRIx64, picture->map.cells[it->first_cell].begin);
	color_set(cr, faint);
	drawing_text(cr, cell_x(0) - 8, row_y(picture, row) + PICTURE_CELL_HEIGHT, 1, 10, false, text);
}

static void section_draw(cairo_t *cr, const struct picture *picture,
                         const struct map_section *section)
{
	const struct map_row *rows = picture->map.rows;
	size_t last = section->first_row + section->row_count, addressed = section->first_row;
	char text[200];

	picture_section_text(picture, section, text, sizeof(text));
	color_set(cr, ink);
	drawing_text(cr, MARGIN, row_y(picture, section->first_row) - 9, 0, 12, true, text);
	for (size_t row = section->first_row; row < last; row++) {
		if (rows[row].is_gap) {
			gap_draw(cr, picture, row);
			continue;
		}
		row_marks(cr, picture, row);
		if (row == section->first_row || rows[row - 1].is_gap ||
		    picture->row_y[row] - picture->row_y[addressed] >= ADDRESS_PITCH) {
			address_draw(cr, picture, row);
			addressed = row;
		}
	}
}

static void picture_draw(cairo_t *cr, const struct picture *picture)
{
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	header_draw(cr, picture);
	cells_draw(cr, picture);
	for (size_t i = 0; i < picture->map.section_count; i++)
		section_draw(cr, picture, &picture->map.sections[i]);
}

const char *draw_write(const char *path, const struct picture *picture)
{
	double height = HEADER_HEIGHT + picture->height + MARGIN;
	size_t length = strlen(path);
	bool is_svg = length >= 4 && !strcmp(path + length - 4, ".svg");
	cairo_surface_t *surface;
	cairo_status_t status;
	cairo_t *cr;

	surface = is_svg ? cairo_svg_surface_create(path, WIDTH, height) :
	          cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(WIDTH * PNG_SCALE),
	                                     (int)(height * PNG_SCALE));
	if (!is_svg)
		cairo_surface_set_device_scale(surface, PNG_SCALE, PNG_SCALE);
	cr = cairo_create(surface);
	picture_draw(cr, picture);
	status = cairo_status(cr);
	cairo_destroy(cr);
	if (status == CAIRO_STATUS_SUCCESS && !is_svg)
		status = cairo_surface_write_to_png(surface, path);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status == CAIRO_STATUS_SUCCESS ? NULL : cairo_status_to_string(status);
}
