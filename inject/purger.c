#include "inject/purger.h"

#include <cede/cede.h>
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "readers/stop.h"

#define ANSWER_MILLISECONDS 2000
#define LOOK_MICROSECONDS 2000

static uint64_t now_microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool word_write(const struct cede_target *target, uint64_t address, uint32_t word)
{
	struct iovec from = { &word, sizeof(word) }, to = { (void *)address, sizeof(word) };

	return process_vm_writev(target->memory.pid, &from, 1, &to, 1, 0) == sizeof(word);
}

/* Why there is nobody to ask, or NULL. */
static const char *nobody_why(const struct cede_target *target, uint32_t *state)
{
	const struct cede_descriptor *d = &target->descriptor;
	uint8_t background;
	uint32_t policy;

	if (!memory_read(&target->memory, d->policy, &policy, sizeof(policy)) ||
	    !memory_read(&target->memory, d->background, &background, sizeof(background)) ||
	    !memory_read(&target->memory, d->purger, state, sizeof(*state)))
		return "its memory cannot be read";
	if (policy != CEDE_POLICY_DEFAULT)
		return "it runs on cede's policy classic, which gives back when the program calls "
		       "malloc_trim";
	if (!background || *state == CEDE_PURGER_ABSENT)
		return "its cede has no thread of its own (background=off): it gives back in malloc and "
		       "free, or when the program calls cede_release";
	if (*state == CEDE_PURGER_NONE)
		return "its cede has not begun to give back: it never had more than 1 MiB that was free";
	return NULL;
}

/*
 * With all threads stopped.  The thread that sleeps waits for its state to change; that it
 * was stopped makes it look.
 */
static enum trim_outcome stopped_ask(const struct cede_target *target,
                                     struct trim_report *report)
{
	uint32_t state;
	const char *why = nobody_why(target, &state);

	if (why) {
		snprintf(report->why, sizeof(report->why), "%s", why);
		return TRIM_HINDERED;
	}
	report->before_bytes = trim_process_bytes(target->memory.pid);
	if (!word_write(target, target->descriptor.purger_asked, 1) ||
	    (state == CEDE_PURGER_ASLEEP &&
	     !word_write(target, target->descriptor.purger, CEDE_PURGER_AWAKE))) {
		report->error = errno;
		return TRIM_FAILED;
	}
	return TRIM_DONE;
}

static enum trim_outcome answer_await(const struct cede_target *target,
                                      struct trim_report *report)
{
	uint64_t end = now_microseconds() + ANSWER_MILLISECONDS * 1000;
	uint32_t asked = 1;

	while (asked && now_microseconds() < end) {
		usleep(LOOK_MICROSECONDS);
		if (!memory_read(&target->memory, target->descriptor.purger_asked, &asked,
		                 sizeof(asked)))
			return TRIM_ENDED;
	}
	report->after_bytes = trim_process_bytes(target->memory.pid);
	if (!asked)
		return TRIM_DONE;
	word_write(target, target->descriptor.purger_asked, 0);
	snprintf(report->why, sizeof(report->why), "cede's thread in it did not answer within 2 s");
	return TRIM_HINDERED;
}

enum trim_outcome purger_ask(const struct cede_target *target, struct trim_report *report)
{
	uint64_t begin = now_microseconds();
	struct stop stop;
	enum trim_outcome outcome;

	*report = (struct trim_report){ .error = stop_begin(&stop, &target->memory) };
	if (report->error)
		return TRIM_FAILED;
	report->stops = 1;
	outcome = stopped_ask(target, report);
	stop_end(&stop);
	report->pause_microseconds = now_microseconds() - begin;
	return outcome == TRIM_DONE ? answer_await(target, report) : outcome;
}
