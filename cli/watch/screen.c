/*
 * The terminal, by ncurses.  However the command ends, the terminal is as it was before.
 */
#include <langinfo.h>
#include <locale.h>
#include <ncurses.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "doctor/words.h"
#include "watch/view.h"

#define CHART_LEAST 4          /* lines, with the legend */
#define GATES_MOST 3

enum part { PART_LIVE, PART_FREE, PART_OTHER, PART_GONE, PARTS };

static const char *const part_names[PARTS] = { "live", "free", "other", "given back" };

static struct {
	SCREEN *terminal;
	const char *const *glyphs;
	bool helps;
	int line;              /* where the next one is written */
	int end;               /* and where the last lines begin, which are always there */
} screen;

/* --- opening and closing --- */

/* For signals of an error of our own.  The second one is final. */
static void terminal_rescue(int number)
{
	endwin();
	raise(number);
}

static void rescue_prepare(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct sigaction action = { .sa_handler = terminal_rescue,
	                            .sa_flags = (int)SA_RESETHAND | SA_NODEFER };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

static void terminal_leave(void)
{
	if (!screen.terminal)
		return;
	endwin();
	delscreen(screen.terminal);
}

static void colors_prepare(void)
{
	if (!has_colors())
		return;
	start_color();
	use_default_colors();
	init_pair(1 + PART_LIVE, COLOR_BLUE, -1);
	init_pair(1 + PART_FREE, COLOR_YELLOW, -1);
	init_pair(1 + PART_OTHER, -1, -1);
	init_pair(1 + PART_GONE, COLOR_GREEN, -1);
}

static int screen_open(void)
{
	static const char *const blocks[PARTS] = { "\u2588", "\u2592", "\u2591", "\u00b7" };
	static const char *const letters[PARTS] = { "#", "=", ":", "." };

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return command_misused("watch: this is no terminal: --plain writes lines, --json JSON");
	/* Numbers keep their point. */
	setlocale(LC_CTYPE, "");
	screen.glyphs = strcmp(nl_langinfo(CODESET), "UTF-8") ? letters : blocks;
	screen.terminal = newterm(NULL, stdout, stdin);
	if (!screen.terminal || !tigetstr("cup")) {
		terminal_leave();
		return command_misused("watch: this terminal (TERM=%s) cannot place its cursor: --plain "
		                       "writes lines", getenv("TERM") ? getenv("TERM") : "");
	}
	rescue_prepare();
	cbreak();
	noecho();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	curs_set(0);
	colors_prepare();
	return COMMAND_OK;
}

static void screen_close(const struct course *course)
{
	terminal_leave();
	view_lines.close(course);
}

/* --- lines --- */

__attribute__((format(printf, 2, 3)))
static void line_put(int attributes, const char *format, ...)
{
	char text[512];
	va_list args;

	if (screen.line >= screen.end)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	attron(attributes);
	mvaddnstr(screen.line++, 0, text, COLS);
	attroff(attributes);
}

static void head_put(const struct course *course, bool is_paused)
{
	const struct look *look = &course->look;
	char time[32], sentence[160];

	course_time_text(course, time, sizeof(time));
	line_put(A_BOLD, "%s (%d)  %s  watched for %s, %zu look%s%s", look->name, course->pid,
	         look->allocator, time, course->looks, plural(course->looks),
	         course->has_ended ? "  HAS ENDED" : is_paused ? "  PAUSED" : "");
	course_sentence(course, sentence, sizeof(sentence));
	line_put(course->verdict == VERDICT_LIVE ? 0 : A_BOLD, "%s: %s",
	         verdict_kind_name(course->verdict), sentence);
	line_put(0, "%s", "");
}

static void figure_put(uint64_t bytes, const char *name, const char *more)
{
	line_put(0, "  %12.1f  %-16s%s", (double)bytes / 1e6, name, more);
}

static void figures_put(const struct course *course)
{
	const struct look *look = &course->look;
	char resident[80], live[80];

	course_trend_text(&course->resident, resident, sizeof(resident));
	course_trend_text(&course->live, live, sizeof(live));
	line_put(A_UNDERLINE, "  %12s  %-16s%-40s", "MB", "", "");
	figure_put(course->resident_bytes, "resident", resident);
	figure_put(look->live_resident_bytes, "live", live);
	figure_put(look->whole_bytes, "free, whole", "pages without a byte in use");
	figure_put(look->shared_bytes, "free, shared", "pages that live blocks are on too");
	figure_put(look->gone_bytes, "given back", "free and not resident, or never used");
}

static void reasons_put(const struct look *look)
{
	size_t shown = look->reason_count < GATES_MOST ? look->reason_count : GATES_MOST;

	if (shown)
		line_put(0, "%s", "");
	for (size_t i = 0; i < shown; i++)
		figure_put(look->reasons[i].bytes, look->reasons[i].name, look->reasons[i].text);
}

/* --- the chart --- */

/* The one that is drawn so many columns from the right, or NULL. */
static const struct course_moment *moment_at(const struct course *course, uint64_t newest,
                                             uint64_t back)
{
	const struct course_moment *moment;

	if (back >= newest || back >= COURSE_COLUMNS)
		return NULL;
	moment = &course->moments[(newest - back) % COURSE_COLUMNS];
	return moment->column == newest - back ? moment : NULL;
}

static uint64_t chart_most(const struct course *course, uint64_t newest, int columns)
{
	uint64_t most = 1;

	for (int i = 0; i < columns; i++) {
		const struct course_moment *moment = moment_at(course, newest, (uint64_t)i);

		if (moment && moment->resident + moment->gone > most)
			most = moment->resident + moment->gone;
	}
	return most;
}

static enum part part_at(const struct course_moment *moment, uint64_t bytes)
{
	if (bytes < moment->live)
		return PART_LIVE;
	if (bytes < moment->live + moment->free)
		return PART_FREE;
	if (bytes < moment->resident)
		return PART_OTHER;
	return bytes < moment->resident + moment->gone ? PART_GONE : PARTS;
}

static void cell_put(int y, int x, enum part part)
{
	attron(COLOR_PAIR(1 + part));
	mvaddstr(y, x, screen.glyphs[part]);
	attroff(COLOR_PAIR(1 + part));
}

static void legend_put(int y, uint64_t most)
{
	char text[80];
	int x = 0;

	for (int part = 0; part < PARTS && x < COLS; part++) {
		cell_put(y, x, (enum part)part);
		snprintf(text, sizeof(text), " %s   ", part_names[part]);
		mvaddnstr(y, x + 1, text, COLS - x - 1);
		x += 1 + (int)strlen(text);
	}
	snprintf(text, sizeof(text), "to %s, %u s a column", amount(most).text,
	         COURSE_COLUMN_SECONDS);
	if (x < COLS)
		mvaddnstr(y, x, text, COLS - x);
}

static void chart_put(const struct course *course)
{
	uint64_t newest = 0, most;
	int height, top = screen.line + 1;

	for (size_t i = 0; i < COURSE_COLUMNS; i++)
		if (course->moments[i].column > newest)
			newest = course->moments[i].column;
	most = chart_most(course, newest, COLS);
	height = screen.end - top - 1;
	if (height < CHART_LEAST - 1)
		return;
	for (int x = 0; x < COLS; x++) {
		const struct course_moment *moment = moment_at(course, newest, (uint64_t)(COLS - 1 - x));

		for (int y = 0; moment && y < height; y++) {
			uint64_t middle = (uint64_t)((double)most * (2 * y + 1) / (2 * height));
			enum part part = part_at(moment, middle);

			if (part < PARTS)
				cell_put(top + height - 1 - y, x, part);
		}
	}
	legend_put(top + height, most);
}

/* --- all of it --- */

static void help_put(void)
{
	static const char *const lines[] = {
		"  t  gives back what is free (cede help trim); asks first",
		"  s  writes a snapshot of the heap to a file here (cede help snapshot)",
		"  p  suspends looks, and resumes them",
		"  ?  this text, and back",
		"  q  quits; so does Ctrl-C",
		"",
		"A look at glibc's heap stops the process for a moment. Between looks resident memory",
		"alone is read, each second. A trend is that of all looks; a leak is live memory that",
		"has grown, and surely goes on growing.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		line_put(0, "%s", lines[i]);
}

static void screen_show(const struct course *course, const char *message, bool is_paused)
{
	screen.line = 0;
	screen.end = LINES > 2 ? LINES - 2 : LINES;
	erase();
	head_put(course, is_paused);
	if (screen.helps) {
		help_put();
	} else {
		figures_put(course);
		reasons_put(&course->look);
		chart_put(course);
	}
	if (LINES > 2) {
		mvaddnstr(LINES - 2, 0, *course->failure ? course->failure : message, COLS);
		mvaddnstr(LINES - 1, 0, " t trim   s snapshot   p pause   ? help   q quit", COLS - 1);
	}
	refresh();
}

static enum view_wish screen_key(void)
{
	for (;;)
		switch (getch()) {
		case ERR:
			return VIEW_NOTHING;
		case 't':
			return VIEW_TRIM;
		case 's':
			return VIEW_SNAPSHOT;
		case 'p':
			return VIEW_PAUSE;
		case 'q':
			return VIEW_QUIT;
		case '?':
			screen.helps = !screen.helps;
		}
}

static void screen_lend(void)
{
	def_prog_mode();
	endwin();
}

static void screen_take_back(void)
{
	char line[80];

	fputs("Enter goes back. ", stdout);
	fflush(stdout);
	/* Also when there is nothing more to be typed. */
	(void)!fgets(line, sizeof(line), stdin);
	reset_prog_mode();
	clearok(stdscr, TRUE);
}

const struct view view_screen = {
	.open = screen_open, .show = screen_show, .close = screen_close, .key = screen_key,
	.lend = screen_lend, .take_back = screen_take_back,
};
