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
 *
 * What wait4 tells of the peak (ru_maxrss) comes from counters of which each processor
 * keeps a part to itself: off by up to 0.3 MiB of a tiny program's 1.5.  So the program is
 * traced, but stops twice at most: when it is about to end, and when it sends itself SIGURG,
 * which is ignored otherwise, to say that it holds the most; then /proc knows better (VmHWM).
 * A child's peak counts where it is larger by more than that error.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUSAGE_ERROR 1024 /* KiB */

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

/* Of a process's resident memory, KiB; 0: it cannot be known. */
static long peak_of(pid_t pid)
{
	char path[32], line[128];
	long peak = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "VmHWM: %ld kB", &peak) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return peak;
}

/* Waits until the child has ended; returns its peak, or 0 where nobody may trace. */
static long wait_for(pid_t child, int *status, struct rusage *usage)
{
	long peak = 0;

	for (;;) {
		int signal, event;

		if (wait4(child, status, 0, usage) != child) {
			perror("measure");
			exit(1);
		}
		if (!WIFSTOPPED(*status))
			return peak;
		signal = WSTOPSIG(*status);
		event = *status >> 16;
		if (event == PTRACE_EVENT_EXIT || signal == SIGURG) {
			long now = peak_of(child);

			peak = now > peak ? now : peak;
		}
		ptrace(PTRACE_CONT, child, NULL, event == 0 ? (long)signal : 0L);
	}
}

int main(int argc, char **argv)
{
	char **program = argv + 2;
	struct rusage usage;
	int fd = argc > 2 ? atoi(argv[1]) : -1, status, go[2];
	double start;
	pid_t child;
	long peak;
	char byte = 0;

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		dprintf(2, "usage: measure FD [NAME=VALUE ...] PROGRAM [ARGUMENT ...]\n");
		return 2;
	}
	/* Not vfork: a child that borrowed our memory would have our peak. */
	if (pipe2(go, O_CLOEXEC) != 0 || (child = fork()) < 0) {
		perror("measure");
		return 1;
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(go[0], &byte, 1) != 1)
			_exit(127);
		for (; *program != NULL && strchr(*program, '=') != NULL; program++)
			putenv(*program);
		if (*program != NULL)
			execvp(*program, program);
		dprintf(2, "measure: cannot run %s\n", *program != NULL ? *program : "nothing");
		_exit(127);
	}
	(void)ptrace(PTRACE_SEIZE, child, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT);
	start = seconds_now();
	if (write(go[1], &byte, 1) != 1) {
		perror("measure");
		return 1;
	}
	peak = wait_for(child, &status, &usage);
	if (peak + RUSAGE_ERROR < usage.ru_maxrss)
		peak = usage.ru_maxrss;
	dprintf(fd, "%.6f %.6f %ld %ld\n", seconds_now() - start,
	        seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
	        usage.ru_minflt + usage.ru_majflt, peak);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
