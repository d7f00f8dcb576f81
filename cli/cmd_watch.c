/*
 * cede watch: the heap of a live process, as it goes.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "command.h"
#include "doctor/limits.h"
#include "doctor/patient.h"
#include "doctor/snapshot.h"
#include "watch/view.h"

/* Looks by themselves: at least so far apart, and the process stands still, and this command
 * works, for no more than these shares of the time. */
#define INTERVAL_LEAST 2000
#define PAUSE_SHARE 100
#define WORK_SHARE 10
#define SECONDS_MOST 86400
#define REFRESH 1000             /* milliseconds */

struct watch_options {
	int plain, json, count;
	double seconds;              /* between looks; 0: as long as it takes */
	struct limits_options limits;
};

struct watch {
	struct course course;
	const struct watch_options *options;
	const struct view *view;
	int signals;                 /* descriptor */
	sigset_t earlier;            /* the signals that were blocked before */
	int64_t next_look;           /* course_clock() */
	bool is_paused, is_over;
	char message[512];
};

static const char watch_about[] =
	"Looks at a process again and again, as cede doctor does, and shows what it holds, what\n"
	"keeps free memory, and whether it grows. Unless --interval says otherwise, looks are so\n"
	"far apart that the process stands still for less than a hundredth of the time.\n"
	"See docs/watch.md.\n\n"
	"Exit status: as that of cede doctor; 10 when live memory has grown and goes on growing.\n\n"
	"  cede watch $(pidof server)\n"
	"  cede watch --plain --interval 60 $(pidof server) >> server.log\n"
	"  cede watch --json --count 10 4711 | jq .live.bytes_per_minute\n";

static int64_t interval_of(const struct watch *watch)
{
	const struct course *course = &watch->course;
	int64_t pause = ((int64_t)course->look.pause_microseconds * PAUSE_SHARE + 999) / 1000;
	int64_t interval = course->look_took * WORK_SHARE;

	if (watch->options->seconds > 0)
		return (int64_t)(watch->options->seconds * 1000);
	interval = interval > pause ? interval : pause;
	return interval > INTERVAL_LEAST ? interval : INTERVAL_LEAST;
}

static void look_perform(struct watch *watch)
{
	struct course *course = &watch->course;
	size_t most = (size_t)watch->options->count;

	course_look(course);
	watch->next_look = course_clock() + interval_of(watch);
	watch->is_over |= most && course->looks + course->failed_looks >= most;
}

static void snapshot_write(struct watch *watch)
{
	struct course *course = &watch->course;
	char path[128], failure[sizeof(watch->message)];
	int result;

	snprintf(path, sizeof(path), "cede-%d-%lu.snap", course->pid,
	         (unsigned long)(patient_now() / 1000));
	command_capture(failure, sizeof(failure));
	result = snapshot_take(course->pid, path, false);
	command_capture(NULL, 0);
	if (result == COMMAND_OK)
		snprintf(watch->message, sizeof(watch->message), "written: %s", path);
	else
		memcpy(watch->message, failure, sizeof(failure));
}

static void heap_trim(struct watch *watch)
{
	char number[16];
	const char *line[] = { "cede trim", number, NULL };
	sigset_t watching;

	snprintf(number, sizeof(number), "%d", watch->course.pid);
	watch->view->lend();
	sigprocmask(SIG_SETMASK, &watch->earlier, &watching);
	command_trim.perform(2, line);
	sigprocmask(SIG_SETMASK, &watching, NULL);
	watch->view->take_back();
	watch->next_look = course_clock();
}

static void keys_obey(struct watch *watch)
{
	enum view_wish wish;

	while (!watch->is_over && (wish = watch->view->key()) != VIEW_NOTHING)
		if (wish == VIEW_TRIM)
			heap_trim(watch);
		else if (wish == VIEW_SNAPSHOT)
			snapshot_write(watch);
		else if (wish == VIEW_PAUSE)
			watch->is_paused = !watch->is_paused;
		else
			watch->is_over = true;
}

/* Until something happens, or something is due. */
static void events_wait(struct watch *watch)
{
	const struct course *course = &watch->course;
	bool keys = watch->view->key, looks = !watch->is_paused && !course->has_ended;
	struct pollfd events[3] = {
		{ watch->signals, POLLIN, 0 },
		/* Once it is known, it would wake us for ever. */
		{ course->has_ended ? -1 : course->process, POLLIN, 0 },
		{ keys ? STDIN_FILENO : -1, POLLIN, 0 },
	};
	int64_t wait = looks ? watch->next_look - course_clock() : -1;

	wait = wait < 0 && looks ? 0 : wait;
	if (keys && !course->has_ended && (wait < 0 || wait > REFRESH))
		wait = REFRESH;
	if (poll(events, 3, (int)wait) < 0 && errno != EINTR)
		watch->is_over = true;
	/* A terminal that is gone is readable for ever. */
	if (events[0].revents || events[2].revents & (POLLHUP | POLLERR))
		watch->is_over = true;
}

static void watch_run(struct watch *watch)
{
	struct course *course = &watch->course;
	const struct view *view = watch->view;

	view->show(course, "", false);
	while (!watch->is_over && !ferror(stdout)) {
		bool ended = course->has_ended, looks;

		events_wait(watch);
		if (view->key)
			keys_obey(watch);
		course_refresh(course);
		looks = !watch->is_over && !watch->is_paused && !course->has_ended &&
		        course_clock() >= watch->next_look;
		if (looks)
			look_perform(watch);
		if (view->key || looks || course->has_ended != ended)
			view->show(course, watch->message, watch->is_paused);
		/* Where somebody sits, the last picture stays. */
		watch->is_over |= course->has_ended && !view->key;
	}
}

/* --- the command --- */

/* Ctrl-C ends the command as any other wish does; what else ends it does so once the
 * terminal is as it was. */
static int signals_open(sigset_t *earlier)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t signals;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		struct sigaction now;

		/* Under nohup a signal that is ignored would come once it is blocked. */
		if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaddset(&signals, numbers[i]);
	}
	sigprocmask(SIG_BLOCK, &signals, earlier);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static void signals_close(int descriptor, const sigset_t *earlier)
{
	sigset_t interrupt;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigtimedwait(&interrupt, NULL, &(struct timespec){ 0 });
	/* ncurses has put its own there. */
	signal(SIGTERM, SIG_DFL);
	close(descriptor);
	sigprocmask(SIG_SETMASK, earlier, NULL);
}

static int watch_perform_on(struct watch *watch)
{
	struct course *course = &watch->course;
	int result;

	look_perform(watch);
	if (!course->looks)
		return command_fail("%s", course->failure);
	result = watch->view->open();
	if (result != COMMAND_OK)
		return result;
	watch_run(watch);
	watch->view->close(course);
	if (fflush(stdout) != 0 || ferror(stdout))
		return command_fail("the report could not be written");
	if (*course->failure)
		return command_fail("%s", course->failure);
	return patient_exit_status(course->verdict);
}

static int watch_start(const char **rest, void *context)
{
	const struct watch_options *options = context;
	struct verdict_limits limits = limits_of(&options->limits);
	int result = limits_judge("watch", &options->limits);
	struct watch *watch;
	pid_t pid;

	if (result == COMMAND_OK)
		result = patient_named("watch", rest, &pid);
	if (result != COMMAND_OK)
		return result;
	if (options->plain && options->json)
		return command_misused("watch: one of --plain and --json");
	if (options->count < 0)
		return command_misused("watch: --count is a number of looks");
	if (!(options->seconds >= 0 && options->seconds <= SECONDS_MOST))
		return command_misused("watch: --interval is a number of seconds to %d", SECONDS_MOST);
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return command_fail("out of memory");
	watch->options = options;
	watch->view = options->json ? &view_json : options->plain ? &view_lines : &view_screen;
	watch->signals = signals_open(&watch->earlier);
	course_open(&watch->course, pid, &limits);
	result = watch_perform_on(watch);
	course_close(&watch->course);
	signals_close(watch->signals, &watch->earlier);
	free(watch);
	return result;
}

static int watch_perform(int argc, const char **argv)
{
	struct watch_options options = { .limits = LIMITS_DEFAULT };
	const struct poptOption table[] = {
		{ "plain", 0, POPT_ARG_NONE, &options.plain, 0, "Write a line for each look", NULL },
		{ "json", 0, POPT_ARG_NONE, &options.json, 0,
		  "Write JSON, an object in a line for each look (see docs/watch.md)", NULL },
		{ "interval", 0, POPT_ARG_DOUBLE, &options.seconds, 0, "Between looks", "SECONDS" },
		{ "count", 0, POPT_ARG_INT, &options.count, 0, "End after so many looks", "NUMBER" },
		LIMITS_OPTIONS(options.limits),
		COMMAND_HELP_OPTION,
		POPT_TABLEEND
	};

	return command_line(&command_watch, argc, argv, table, 0, watch_start, &options);
}

const struct command command_watch = {
	.name = "watch",
	.summary = "show what a process's heap holds as it goes, and whether it grows",
	.arguments = "[option ...] PID",
	.about = watch_about,
	.perform = watch_perform,
};
