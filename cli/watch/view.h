/*
 * The ways in which a process that is watched is shown: the terminal, lines for logs, JSON
 * for programs.  Layer: cli/watch.
 */
#ifndef CEDE_CLI_WATCH_VIEW_H
#define CEDE_CLI_WATCH_VIEW_H

#include "watch/course.h"

enum view_wish { VIEW_NOTHING, VIEW_TRIM, VIEW_SNAPSHOT, VIEW_PAUSE, VIEW_QUIT };

struct view {
	/* After the first look.  Returns an enum command_exit, after it said what is wrong; then
	 * nothing is to be closed. */
	int (*open)(void);
	/* After each look, and when the process has ended; with `key` each second, too.
	 * `message` is to be said to whoever sits there; no looks are taken when `is_paused`. */
	void (*show)(const struct course *course, const char *message, bool is_paused);
	void (*close)(const struct course *course);
	/* What a key on stdin asks for, if one was pressed.  NULL where nobody sits. */
	enum view_wish (*key)(void);
	/* Leaves the terminal to a command that talks with whoever sits there; takes it back once
	 * that has been read.  NULL where `key` is. */
	void (*lend)(void);
	void (*take_back)(void);
};

extern const struct view view_screen, view_lines, view_json;

#endif
