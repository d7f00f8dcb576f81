#include "lab/subject.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIVE_FD 3           /* the subject's number of the page it shares */
#define LIVE_PAGE_BYTES 4096

/* The pipes of one subject: [0] is read from, [1] written to. */
struct pipes {
	int commands[2], answers[2], errors[2], live;
};

static void pipes_close(struct pipes *pipes)
{
	int *fds[] = { &pipes->commands[0], &pipes->commands[1], &pipes->answers[0],
	               &pipes->answers[1], &pipes->errors[0], &pipes->errors[1], &pipes->live };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
}

static int pipes_open(struct pipes *pipes)
{
	*pipes = (struct pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 }, -1 };
	pipes->live = memfd_create("cede-lab-live", MFD_CLOEXEC);
	if (pipes->live >= 0 && ftruncate(pipes->live, LIVE_PAGE_BYTES) == 0 &&
	    pipe2(pipes->commands, O_CLOEXEC) == 0 && pipe2(pipes->answers, O_CLOEXEC) == 0 &&
	    pipe2(pipes->errors, O_CLOEXEC) == 0)
		return 0;
	pipes_close(pipes);
	return -1;
}

/* Only what the loader reads differs between two subjects. */
static int environment_set(const struct allocator *allocator)
{
	if (*allocator->path ? setenv("LD_PRELOAD", allocator->path, 1) : unsetenv("LD_PRELOAD"))
		return -1;
	return allocator->options ? setenv("CEDE_OPTIONS", allocator->options, 1) :
	       unsetenv("CEDE_OPTIONS");
}

/* In the child, which reports errno through its stderr when it cannot exec. */
static _Noreturn void child_become(const char *program, const struct allocator *allocator,
                                   char *const *argv, const struct pipes *pipes,
                                   const struct cgroup *group, pid_t lab)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	/* A lab that died before the line above would never be noticed. */
	if (getppid() == lab && dup2(pipes->commands[0], 0) >= 0 &&
	    dup2(pipes->answers[1], 1) >= 0 && dup2(pipes->errors[1], 2) >= 0 &&
	    dup3(fcntl(pipes->live, F_DUPFD_CLOEXEC, LIVE_FD + 1), LIVE_FD, 0) >= 0 &&
	    (!group || cgroup_enter(group) == 0) && environment_set(allocator) == 0)
		execv(program, argv);
	dprintf(2, "%s: %s", program, strerror(errno));
	_exit(127);
}

int subject_start(struct subject *subject, const char *program,
                  const struct allocator *allocator, const struct experiment *experiment,
                  const struct experiment_arguments *arguments, const struct cgroup *group)
{
	char live_fd[32], *argv[EXPERIMENT_ARGUMENTS + 4];
	struct pipes pipes;
	pid_t lab = getpid();
	int count = 0;

	*subject = (struct subject){ 0 };
	argv[count++] = (char *)program;
	argv[count++] = (char *)experiment->subject;
	for (int i = 0; i < arguments->count; i++)
		argv[count++] = (char *)arguments->text[i];
	snprintf(live_fd, sizeof(live_fd), "live_fd=%d", LIVE_FD);
	argv[count++] = live_fd;
	argv[count] = NULL;

	if (pipes_open(&pipes) != 0)
		return -1;
	subject->live = mmap(NULL, LIVE_PAGE_BYTES, PROT_READ, MAP_SHARED, pipes.live, 0);
	subject->pid = subject->live == MAP_FAILED ? -1 : fork();
	if (subject->pid == 0)
		child_become(program, allocator, argv, &pipes, group, lab);
	if (subject->pid < 0) {
		if (subject->live != MAP_FAILED)
			munmap((void *)subject->live, LIVE_PAGE_BYTES);
		pipes_close(&pipes);
		subject->pid = 0;
		return -1;
	}
	subject->commands = pipes.commands[1];
	subject->answers = pipes.answers[0];
	subject->errors = pipes.errors[0];
	pipes.commands[1] = pipes.answers[0] = pipes.errors[0] = -1;
	pipes_close(&pipes);
	return 0;
}

void subject_tell(struct subject *subject, char command)
{
	subject->text_length = 0;
	subject->text[0] = '\0';
	while (write(subject->commands, &command, 1) < 0 && errno == EINTR)
		;
}

/* Keeps the beginning of a text that is too long. */
static void errors_read(struct subject *subject)
{
	char buffer[1024];
	ssize_t length = read(subject->errors, buffer, sizeof(buffer));
	size_t room = sizeof(subject->text) - 1 - subject->text_length;

	if (length <= 0)
		return;
	if ((size_t)length < room)
		room = (size_t)length;
	memcpy(subject->text + subject->text_length, buffer, room);
	subject->text_length += room;
	subject->text[subject->text_length] = '\0';
}

/* Reads a byte at a time, as a line must not swallow the next one's begin. */
static enum subject_news answers_read(struct subject *subject)
{
	char byte;

	if (read(subject->answers, &byte, 1) != 1)
		return SUBJECT_GONE;
	if (byte != '\n') {
		if (subject->line_length < sizeof(subject->line) - 1)
			subject->line[subject->line_length++] = byte;
		return SUBJECT_NOTHING;
	}
	subject->line[subject->line_length] = '\0';
	subject->line_length = 0;
	return SUBJECT_LINE;
}

static bool is_ready(int fd, int milliseconds)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	return poll(&wanted, 1, milliseconds) == 1 && (wanted.revents & POLLIN);
}

enum subject_news subject_wait(struct subject *subject, int milliseconds)
{
	struct pollfd wanted[] = {
		{ .fd = subject->answers, .events = POLLIN },
		{ .fd = subject->errors, .events = POLLIN },
	};
	enum subject_news news = SUBJECT_NOTHING;

	if (poll(wanted, 2, milliseconds) <= 0)
		return SUBJECT_NOTHING;
	if (wanted[1].revents & POLLIN)
		errors_read(subject);
	if (!wanted[0].revents)
		return SUBJECT_NOTHING;
	do
		news = answers_read(subject);
	while (news == SUBJECT_NOTHING && is_ready(subject->answers, 0));
	/* Its stderr was written before the line that answers: it is whole now. */
	while (news != SUBJECT_NOTHING && is_ready(subject->errors, 0))
		errors_read(subject);
	return news;
}

uint64_t subject_live(const struct subject *subject)
{
	return subject->pid ? *subject->live : 0;
}

int subject_end_status(const struct subject *subject)
{
	siginfo_t info = { 0 };

	/* WNOWAIT: subject_stop reaps it, so that its id stays ours until then. */
	while (waitid(P_PID, (id_t)subject->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
		;
	return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

void subject_stop(struct subject *subject)
{
	if (!subject->pid)
		return;
	kill(subject->pid, SIGKILL);
	while (waitpid(subject->pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap((void *)subject->live, LIVE_PAGE_BYTES);
	close(subject->commands);
	close(subject->answers);
	close(subject->errors);
	subject->pid = 0;
}
