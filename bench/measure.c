/*
 * measure: runs one program and says what it cost.  Layer: a program of its own,
 * never under the allocator that is measured.
 *
 *   measure FD [NAME=VALUE ...] PROGRAM [ARGUMENT ...]
 *
 * writes one line to the descriptor FD: seconds on the clock, seconds of processor
 * time (user and system), page faults, and the peak of resident memory in KiB; of the
 * program and the children it waited for, whose largest makes the peak.  Exits with
 * the program's status, or 128 and the signal that ended it; killed, it takes the
 * program along.
 *
 * It exists because a process inherits the peak of the one that started it until it
 * calls exec, and keeps it: started from an interpreter, every tiny program would
 * have the interpreter's peak.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double seconds_of(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	char **program = argv + 2;
	struct rusage usage;
	int fd = argc > 2 ? atoi(argv[1]) : -1, status;
	double start;
	pid_t child;

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		dprintf(2, "usage: measure FD [NAME=VALUE ...] PROGRAM [ARGUMENT ...]\n");
		return 2;
	}
	start = seconds_now();
	/* Not vfork: a child that borrowed our memory would have our peak. */
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (; *program != NULL && strchr(*program, '=') != NULL; program++)
			putenv(*program);
		if (*program != NULL)
			execvp(*program, program);
		dprintf(2, "measure: cannot run %s\n", *program != NULL ? *program : "nothing");
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &usage) != child) {
		perror("measure");
		return 1;
	}
	dprintf(fd, "%.6f %.6f %ld %ld\n", seconds_now() - start,
	        seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
	        usage.ru_minflt + usage.ru_majflt, usage.ru_maxrss);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
