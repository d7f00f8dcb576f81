/*
 * The lab's side of one cede-lab-subject process (its protocol is told in
 * subject_program.c).  Layer: cli/lab.  A subject started must be stopped; it
 * dies with the lab in any case.  It never blocks the lab: waits are in slices.
 */
#ifndef CEDE_CLI_LAB_SUBJECT_H
#define CEDE_CLI_LAB_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lab/allocator.h"
#include "lab/cgroup.h"
#include "lab/experiment.h"

struct subject {
	pid_t pid;               /* 0 when not started or already stopped */
	int commands, answers, errors;   /* our ends of its stdin, stdout and stderr */
	volatile uint64_t *live; /* a page it shares with us: bytes live */
	char line[128];          /* of its stdout, as far as it came */
	size_t line_length;
	char text[4096];         /* of its stderr since the last subject_tell */
	size_t text_length;
};

enum subject_news {
	SUBJECT_LINE,      /* subject->line holds a whole line, without its newline */
	SUBJECT_NOTHING,   /* the time is over */
	SUBJECT_GONE       /* it closed its stdout: it ended, or was killed */
};

/*
 * Starts the program at `program` under an allocator, in a group when it is not
 * NULL.  Returns 0, or -1 with errno.
 */
int subject_start(struct subject *subject, const char *program,
                  const struct allocator *allocator, const struct experiment *experiment,
                  const struct experiment_arguments *arguments, const struct cgroup *group);

/* Sends a command: 'g', 's' or 't'.  A subject that is gone is told by the next wait. */
void subject_tell(struct subject *subject, char command);

/* Waits for a line, at most `milliseconds`. */
enum subject_news subject_wait(struct subject *subject, int milliseconds);

/* Live bytes now. */
uint64_t subject_live(const struct subject *subject);

/* After SUBJECT_GONE: its exit status, or minus the signal that killed it. */
int subject_end_status(const struct subject *subject);

/* Kills it when it still runs, and frees what subject_start took. */
void subject_stop(struct subject *subject);

#endif
