#include "doctor/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "command.h"

static int64_t now_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Returns what poll returned, once something came or the time is over. */
static int wait_until(struct pollfd *events, nfds_t count, int64_t end)
{
	int64_t left;
	int came;

	do {
		left = end - now_milliseconds();
		came = poll(events, count, left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left);
	} while ((came == 0 && left > INT32_MAX) || (came < 0 && errno == EINTR));
	return came;
}

int watch_wait(pid_t pid, int seconds)
{
	int64_t end = now_milliseconds() + seconds * 1000ll;
	struct pollfd events[2] = { { .events = POLLIN }, { .events = POLLIN } };
	sigset_t interrupt, earlier;
	int came;

	/* Ctrl-C has its usual meaning again as soon as the wait is over. */
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_BLOCK, &interrupt, &earlier);
	events[0].fd = (int)syscall(SYS_pidfd_open, pid, 0);
	events[1].fd = signalfd(-1, &interrupt, SFD_CLOEXEC);
	command_say("looked once; again in %d s (Ctrl-C: now)", seconds);
	came = wait_until(events, 2, end);
	if (events[1].revents)
		sigwaitinfo(&interrupt, NULL);
	sigprocmask(SIG_SETMASK, &earlier, NULL);
	close(events[0].fd);
	close(events[1].fd);
	if (came < 0)
		return command_fail("waiting failed: %s", strerror(errno));
	return events[0].revents ? command_fail("process %d ended before the second look", pid) :
	       COMMAND_OK;
}
