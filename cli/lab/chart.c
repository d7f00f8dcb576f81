#include "lab/chart.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drawing.h"

#define COLUMNS_MAX 3
#define PANEL_WIDTH 430.0
#define PANEL_HEIGHT 320.0
#define HEADER_HEIGHT 104.0
#define MARGIN 24.0
#define WIDTH_LEAST 800.0  /* of the whole, for the header's lines */
/* Around the plot, inside its panel. */
#define PLOT_LEFT 62.0
#define PLOT_RIGHT 14.0
#define PLOT_TOP 60.0
#define PLOT_BOTTOM 44.0

#define PNG_SCALE 2.0      /* sharp on a dense screen too */

struct color {
	double red, green, blue;
};

static const struct color ink = { 0.13, 0.15, 0.18 }, faint = { 0.42, 0.45, 0.50 },
	grid = { 0.90, 0.91, 0.93 }, live_fill = { 0.86, 0.88, 0.90 };

/* How an allocator's line looks, in every panel and in the legend. */
struct style {
	const char *name;
	struct color color;
	double width, dash;
};

static const struct style styles[] = {
	{ "glibc", { 0.80, 0.18, 0.16 }, 2.0, 0 },
	{ "classic", { 0.93, 0.55, 0.13 }, 2.0, 5 },
	{ "cede", { 0.05, 0.55, 0.38 }, 3.2, 0 },
	{ "jemalloc", { 0.20, 0.42, 0.78 }, 1.6, 0 },
	{ "tcmalloc", { 0.55, 0.34, 0.74 }, 1.6, 0 },
	{ "mimalloc", { 0.52, 0.40, 0.28 }, 1.6, 0 },
	{ NULL, { 0.10, 0.62, 0.72 }, 1.6, 0 },    /* named by the user */
};

/* A panel's runs, where its plot is, and the ranges of its axes. */
struct panel {
	const struct run *runs;
	size_t count;
	double x, y, width, height;             /* of the plot */
	double seconds_from, seconds_to, bytes_to;
};

static const struct style *style_of(const struct allocator *allocator)
{
	const struct style *style = styles;

	while (style->name && strcmp(style->name, allocator->name))
		style++;
	return style;
}

static void color_set(cairo_t *cr, struct color color)
{
	cairo_set_source_rgb(cr, color.red, color.green, color.blue);
}

static void line_draw(cairo_t *cr, double x1, double y1, double x2, double y2)
{
	cairo_move_to(cr, x1, y1);
	cairo_line_to(cr, x2, y2);
	cairo_stroke(cr);
}

static void style_set(cairo_t *cr, const struct style *style)
{
	color_set(cr, style->color);
	cairo_set_line_width(cr, style->width);
	cairo_set_dash(cr, &style->dash, style->dash > 0 ? 1 : 0, 0);
}

/* When the free happened that is time zero; the end for a run killed before. */
static double zero_of(const struct run *run)
{
	const struct run_sample *freed = &run->samples[run->experiment->freed];

	return freed->taken ? freed->seconds : run->points[run->point_count - 1].seconds;
}

static double x_of(const struct panel *panel, double seconds)
{
	return panel->x + panel->width * (seconds - panel->seconds_from) /
	       (panel->seconds_to - panel->seconds_from);
}

static double y_of(const struct panel *panel, double bytes)
{
	return panel->y + panel->height * (1 - bytes / panel->bytes_to);
}

/* 1, 2 or 5 times a power of ten, so that about `count` of them make `range`. */
static double nice_step(double range, double count)
{
	double rough = range / count, power = pow(10, floor(log10(rough))), times = rough / power;

	return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void ranges_find(struct panel *panel)
{
	double most = 1e6;

	panel->seconds_from = panel->seconds_to = 0;
	for (size_t r = 0; r < panel->count; r++) {
		const struct run *run = &panel->runs[r];

		if (!run->point_count)
			continue;
		panel->seconds_from = fmin(panel->seconds_from, -zero_of(run));
		panel->seconds_to = fmax(panel->seconds_to,
		                         run->points[run->point_count - 1].seconds - zero_of(run));
		for (size_t i = 0; i < run->point_count; i++)
			most = fmax(most, fmax((double)run->points[i].rss, (double)run->points[i].live));
	}
	if (panel->seconds_to - panel->seconds_from < 0.1)
		panel->seconds_to = panel->seconds_from + 0.1;
	panel->bytes_to = most * 1.08;
}

static void axes_draw(cairo_t *cr, const struct panel *panel)
{
	double megabytes = panel->bytes_to / 1e6, step = nice_step(megabytes, 5);
	double bottom = panel->y + panel->height;
	char label[32];

	cairo_set_line_width(cr, 1);
	for (double at = 0; at <= megabytes; at += step) {
		double y = y_of(panel, at * 1e6);

		color_set(cr, grid);
		line_draw(cr, panel->x, y, panel->x + panel->width, y);
		color_set(cr, faint);
		snprintf(label, sizeof(label), "%g", at);
		drawing_text(cr, panel->x - 6, y + 4, 1, 11, false, label);
	}
	step = nice_step(panel->seconds_to - panel->seconds_from, 6);
	for (double at = ceil(panel->seconds_from / step) * step; at <= panel->seconds_to; at += step) {
		double x = x_of(panel, at);

		line_draw(cr, x, bottom, x, bottom + 4);
		snprintf(label, sizeof(label), "%g", fabs(at) < step / 2 ? 0 : at);
		drawing_text(cr, x, bottom + 17, 0.5, 11, false, label);
	}
	line_draw(cr, panel->x, bottom, panel->x + panel->width, bottom);
	drawing_text(cr, panel->x + panel->width, bottom + 34, 1, 11, false, "seconds since the free");
	drawing_text(cr, panel->x - PLOT_LEFT + 12, panel->y - 6, 0, 11, false, "MB");
}

static void live_draw(cairo_t *cr, const struct panel *panel, const struct run *run)
{
	double zero = zero_of(run);

	cairo_move_to(cr, x_of(panel, run->points[0].seconds - zero), y_of(panel, 0));
	for (size_t i = 0; i < run->point_count; i++)
		cairo_line_to(cr, x_of(panel, run->points[i].seconds - zero),
		              y_of(panel, (double)run->points[i].live));
	cairo_line_to(cr, x_of(panel, run->points[run->point_count - 1].seconds - zero),
	              y_of(panel, 0));
	cairo_close_path(cr);
	color_set(cr, live_fill);
	cairo_fill(cr);
}

static void rss_draw(cairo_t *cr, const struct panel *panel, const struct run *run)
{
	double zero = zero_of(run);

	for (size_t i = 0; i < run->point_count; i++)
		cairo_line_to(cr, x_of(panel, run->points[i].seconds - zero),
		              y_of(panel, (double)run->points[i].rss));
	style_set(cr, style_of(run->allocator));
	cairo_stroke(cr);
	cairo_set_dash(cr, NULL, 0, 0);
}

/* What a moment's mark says; NULL for those that the lines tell by themselves. */
static const char *mark_text(const struct moment *moment)
{
	switch (moment->action) {
	case MOMENT_START:
		return moment->process ? "second starts" : NULL;
	case MOMENT_STEP:
		return strstr(moment->name, "allocated") || moment->process ? NULL : moment->title;
	case MOMENT_TRIM:
		return "malloc_trim";
	default:
		return NULL;
	}
}

/* Where the first run was freed, cleared and trimmed. */
static void moments_mark(cairo_t *cr, const struct panel *panel, const struct run *run)
{
	const double dots = 2;

	color_set(cr, faint);
	cairo_set_line_width(cr, 1);
	for (size_t i = 0; i < experiment_moment_count(run->experiment); i++) {
		const char *text = mark_text(&run->experiment->moments[i]);
		double x = x_of(panel, run->samples[i].seconds - zero_of(run));

		if (!text || !run->samples[i].taken)
			continue;
		cairo_set_dash(cr, &dots, 1, 0);
		line_draw(cr, x, panel->y, x, panel->y + panel->height);
		cairo_set_dash(cr, NULL, 0, 0);
		drawing_text(cr, x, panel->y - 5, 0.5, 10, false, text);
	}
}

static bool is_cede(const struct run *run)
{
	return !strcmp(run->allocator->name, "cede");
}

static void panel_draw(cairo_t *cr, struct panel *panel)
{
	const struct run *first = panel->runs;
	const struct experiment *experiment = first->experiment;
	char title[160];

	while (!first->point_count)
		first++;
	ranges_find(panel);
	color_set(cr, ink);
	snprintf(title, sizeof(title), "%s: %.0f MB", experiment->name,
	         (double)experiment_bytes(experiment, first->total) / 1e6);
	drawing_text(cr, panel->x - PLOT_LEFT + 12, panel->y - 42, 0, 14, true, title);
	color_set(cr, faint);
	drawing_text(cr, panel->x - PLOT_LEFT + 12, panel->y - 26, 0, 12, false, experiment->title);

	live_draw(cr, panel, first);
	axes_draw(cr, panel);
	moments_mark(cr, panel, first);
	/* cede's line last: it is the one to see where lines meet. */
	for (int last = 0; last < 2; last++)
		for (size_t r = 0; r < panel->count; r++)
			if (panel->runs[r].point_count && is_cede(&panel->runs[r]) == (bool)last)
				rss_draw(cr, panel, &panel->runs[r]);
}

static double legend_entry(cairo_t *cr, double x, double y, const char *name)
{
	cairo_text_extents_t extents;

	color_set(cr, ink);
	drawing_text(cr, x + 30, y + 4, 0, 12, false, name);
	cairo_text_extents(cr, name, &extents);
	return x + 30 + extents.x_advance + 22;
}

/* One entry per allocator, in the order they were run. */
static void header_draw(cairo_t *cr, const struct run *runs, size_t count)
{
	double x = MARGIN + 12, y = 84;

	color_set(cr, ink);
	drawing_text(cr, x, 34, 0, 20, true, "What a process keeps after it frees");
	color_set(cr, faint);
	drawing_text(cr, x, 55, 0, 12, false,
	             "Resident memory (RSS) of one program under each allocator, and the bytes it has "
	             "not freed");
	color_set(cr, live_fill);
	cairo_rectangle(cr, x, y - 6, 22, 12);
	cairo_fill(cr);
	x = legend_entry(cr, x, y, "live bytes");
	for (size_t i = 0; i < count; i++) {
		size_t seen = 0;

		while (runs[seen].allocator != runs[i].allocator)
			seen++;
		if (seen < i)
			continue;
		style_set(cr, style_of(runs[i].allocator));
		line_draw(cr, x, y, x + 22, y);
		cairo_set_dash(cr, NULL, 0, 0);
		x = legend_entry(cr, x, y, runs[i].allocator->name);
	}
}

/* The next group of runs of one experiment that left a trace; its end, or 0. */
static size_t group_next(const struct run *runs, size_t count, size_t *begin)
{
	while (*begin < count) {
		size_t end = *begin;
		bool traced = false;

		for (; end < count && runs[end].experiment == runs[*begin].experiment; end++)
			traced = traced || runs[end].point_count;
		if (traced)
			return end;
		*begin = end;
	}
	return 0;
}

static size_t panels_count(const struct run *runs, size_t count)
{
	size_t begin = 0, end, panels = 0;

	for (; (end = group_next(runs, count, &begin)); begin = end)
		panels++;
	return panels;
}

static void chart_draw(cairo_t *cr, const struct run *runs, size_t count, int columns,
                       double panel_width)
{
	size_t begin = 0, end;
	int index = 0;

	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
	header_draw(cr, runs, count);
	for (; (end = group_next(runs, count, &begin)); begin = end, index++) {
		struct panel panel = {
			.runs = runs + begin, .count = end - begin,
			.x = MARGIN + index % columns * panel_width + PLOT_LEFT,
			.y = HEADER_HEIGHT + (double)(index / columns) * PANEL_HEIGHT + PLOT_TOP,
			.width = panel_width - PLOT_LEFT - PLOT_RIGHT,
			.height = PANEL_HEIGHT - PLOT_TOP - PLOT_BOTTOM,
		};

		panel_draw(cr, &panel);
	}
}

static bool has_ending(const char *path, const char *ending)
{
	size_t length = strlen(path), wanted = strlen(ending);

	return length > wanted && !strcmp(path + length - wanted, ending);
}

bool chart_can_write(const char *path)
{
	return has_ending(path, ".svg") || has_ending(path, ".png");
}

const char *chart_write(const char *path, const struct run *runs, size_t count)
{
	int panels = (int)panels_count(runs, count);
	int columns = panels < COLUMNS_MAX ? panels : COLUMNS_MAX;
	int lines = columns ? (panels + columns - 1) / columns : 0;
	double width = fmax(2 * MARGIN + columns * PANEL_WIDTH, WIDTH_LEAST);
	double height = HEADER_HEIGHT + lines * PANEL_HEIGHT + MARGIN;
	bool is_png = has_ending(path, ".png");
	cairo_surface_t *surface;
	cairo_status_t status;
	cairo_t *cr;

	if (!panels)
		return "no run left anything to draw";
	surface = is_png ?
	          cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(width * PNG_SCALE),
	                                     (int)(height * PNG_SCALE)) :
	          cairo_svg_surface_create(path, width, height);
	if (is_png)
		cairo_surface_set_device_scale(surface, PNG_SCALE, PNG_SCALE);
	cr = cairo_create(surface);
	chart_draw(cr, runs, count, columns, (width - 2 * MARGIN) / columns);
	status = cairo_status(cr);
	cairo_destroy(cr);
	if (status == CAIRO_STATUS_SUCCESS && is_png)
		status = cairo_surface_write_to_png(surface, path);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status == CAIRO_STATUS_SUCCESS ? NULL : cairo_status_to_string(status);
}
