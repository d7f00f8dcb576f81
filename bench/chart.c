/*
 * chart: draws the comparison.  Layer: a program of its own, on cairo.
 *
 *   chart FILE.svg <figures
 *
 * The figures are lines of fields divided by tabs.  The first line names the series,
 * from its second field on.  A line of one field begins a panel and is its title;
 * every other line is a row: its name, then a ratio for each series.  Panels stand
 * side by side; in each a row is a line, a ratio a dot on a logarithmic scale.
 */
#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SERIES 16
#define MAX_PANELS 4
#define MAX_ROWS   64

struct row {
	char *name;
	double ratios[MAX_SERIES];
};

struct panel {
	char *title;
	struct row rows[MAX_ROWS];
	int row_count;
};

struct chart {
	char *series[MAX_SERIES];
	int series_count;
	struct panel panels[MAX_PANELS];
	int panel_count;
};

/* Points of the picture. */
#define NAMES  110
#define WIDTH  430
#define GAP    24
#define TOP    84
#define PITCH  20
#define BOTTOM 36
#define RADIUS 4.5

#define DOUBLINGS 3 /* to either side of 1; what lies beyond is drawn on the edge */

static _Noreturn void fail(const char *what, const char *detail)
{
	fprintf(stderr, "chart: %s%s\n", what, detail);
	exit(1);
}

/* Splits at tabs, in place; returns the number of fields, at most `limit`. */
static int fields_split(char *line, char **fields, int limit)
{
	int count = 0;

	line[strcspn(line, "\n")] = '\0';
	for (char *field; (field = strsep(&line, "\t")) != NULL; count++) {
		if (count == limit)
			fail("too many fields after ", fields[count - 1]);
		fields[count] = field;
	}
	return count;
}

static void line_add(struct chart *chart, char **fields, int count)
{
	struct panel *panel;
	struct row *row;

	if (count == 1) {
		if (chart->panel_count == MAX_PANELS)
			fail("too many panels: ", fields[0]);
		chart->panels[chart->panel_count++].title = fields[0];
		return;
	}
	if (chart->panel_count == 0 || count != chart->series_count + 1)
		fail("not a row of this chart: ", fields[0]);
	panel = &chart->panels[chart->panel_count - 1];
	if (panel->row_count == MAX_ROWS)
		fail("too many rows: ", fields[0]);
	row = &panel->rows[panel->row_count++];
	row->name = fields[0];
	for (int i = 0; i < chart->series_count; i++)
		row->ratios[i] = strtod(fields[i + 1], NULL);
}

/* The chart keeps the lines, whose pieces it points to. */
static void chart_read(struct chart *chart, FILE *input)
{
	char *fields[MAX_SERIES + 1];
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, input) > 0) {
		int count = fields_split(line, fields, MAX_SERIES + 1);

		if (chart->series_count == 0) {
			chart->series_count = count - 1;
			memcpy(chart->series, fields + 1, (size_t)(count - 1) * sizeof(fields[0]));
		} else {
			line_add(chart, fields, count);
		}
		line = NULL;
	}
	free(line);
	if (chart->panel_count == 0)
		fail("no panel to draw", "");
}

/* Okabe and Ito's colours, which those who see few colours can tell apart. */
static void color_set(cairo_t *cr, int series)
{
	static const double colors[][3] = {
		{ 0.34, 0.71, 0.91 }, { 0.84, 0.37, 0.00 }, { 0.00, 0.62, 0.45 },
		{ 0.90, 0.62, 0.00 }, { 0.80, 0.47, 0.65 }, { 0.00, 0.45, 0.70 },
		{ 0.94, 0.89, 0.26 }, { 0.30, 0.30, 0.30 },
	};
	const double *color = colors[series % (int)(sizeof(colors) / sizeof(colors[0]))];

	cairo_set_source_rgb(cr, color[0], color[1], color[2]);
}

static void text_show(cairo_t *cr, double x, double y, double size, const char *text)
{
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	cairo_set_font_size(cr, size);
	cairo_move_to(cr, x, y);
	cairo_show_text(cr, text);
}

/* From a panel's left edge. */
static double ratio_x(double ratio)
{
	double doublings = fmax(-DOUBLINGS, fmin(DOUBLINGS, log2(ratio)));

	return NAMES + (WIDTH - NAMES) * (doublings + DOUBLINGS) / (2 * DOUBLINGS);
}

static void scale_draw(cairo_t *cr, int row_count)
{
	char text[16];

	for (int i = -DOUBLINGS; i <= DOUBLINGS; i++) {
		double x = ratio_x(exp2(i));

		cairo_set_source_rgb(cr, 0.6, 0.6, 0.6);
		cairo_set_line_width(cr, i == 0 ? 1.5 : 0.5);
		cairo_move_to(cr, x, TOP - PITCH);
		cairo_line_to(cr, x, TOP + PITCH * (row_count - 0.5));
		cairo_stroke(cr);
		snprintf(text, sizeof(text), "%g", exp2(i));
		text_show(cr, x - 8, TOP + PITCH * row_count + 4, 10, text);
	}
}

static void panel_draw(cairo_t *cr, const struct chart *chart, const struct panel *panel)
{
	text_show(cr, 0, TOP - 1.6 * PITCH, 13, panel->title);
	scale_draw(cr, panel->row_count);
	for (int r = 0; r < panel->row_count; r++) {
		const struct row *row = &panel->rows[r];
		double y = TOP + PITCH * r;

		text_show(cr, 0, y + 3, 11, row->name);
		for (int s = 0; s < chart->series_count; s++) {
			color_set(cr, s);
			cairo_arc(cr, ratio_x(row->ratios[s]), y, RADIUS, 0, 2 * M_PI);
			cairo_fill(cr);
		}
	}
}

static void legend_draw(cairo_t *cr, const struct chart *chart)
{
	cairo_text_extents_t extents;
	double x = GAP;

	for (int s = 0; s < chart->series_count; s++) {
		color_set(cr, s);
		cairo_arc(cr, x, 20, RADIUS, 0, 2 * M_PI);
		cairo_fill(cr);
		text_show(cr, x + 9, 24, 12, chart->series[s]);
		cairo_text_extents(cr, chart->series[s], &extents);
		x += extents.x_advance + 34;
	}
}

static void chart_draw(const struct chart *chart, const char *path)
{
	int rows = 0;
	cairo_surface_t *surface;
	cairo_t *cr;

	for (int p = 0; p < chart->panel_count; p++)
		rows = chart->panels[p].row_count > rows ? chart->panels[p].row_count : rows;
	surface = cairo_svg_surface_create(path, GAP + (double)chart->panel_count * (WIDTH + GAP),
	                                   TOP + (double)PITCH * rows + BOTTOM);
	cr = cairo_create(surface);
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	legend_draw(cr, chart);
	for (int p = 0; p < chart->panel_count; p++) {
		cairo_save(cr);
		cairo_translate(cr, GAP + (double)p * (WIDTH + GAP), 0);
		panel_draw(cr, chart, &chart->panels[p]);
		cairo_restore(cr);
	}
	cairo_destroy(cr);
	cairo_surface_finish(surface);
	if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS)
		fail(cairo_status_to_string(cairo_surface_status(surface)), "");
	cairo_surface_destroy(surface);
}

int main(int argc, char **argv)
{
	static struct chart chart;

	if (argc != 2) {
		fprintf(stderr, "usage: chart FILE.svg <figures\n");
		return 2;
	}
	chart_read(&chart, stdin);
	chart_draw(&chart, argv[1]);
	return 0;
}
