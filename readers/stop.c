#include "readers/stop.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "readers/core.h"

#define WAIT_MILLISECONDS 2000
#define POLL_MICROSECONDS 50
#define STEP_MICROSECONDS 20

static uint64_t now_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool thread_is_known(const struct stop *stop, pid_t id)
{
	for (size_t i = 0; i < stop->count; i++)
		if (stop->threads[i].id == id)
			return true;
	return false;
}

/* A thread that ended, but that others still wait for. */
static bool thread_is_dead(pid_t pid, pid_t id)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, id);
	file = fopen(path, "re");
	if (!file)
		return true;
	/* The name may hold anything but ends with the line's last parenthesis. */
	for (int c, last = 0; (c = fgetc(file)) != EOF; last = c)
		if (last == ')' && c == ' ')
			state = (char)fgetc(file);
	fclose(file);
	return state == 'Z' || state == 'X';
}

/* Begins to stop one thread more. */
static int thread_seize(struct stop *stop, pid_t pid, pid_t id)
{
	struct stop_thread *larger = realloc(stop->threads, (stop->count + 1) * sizeof(*larger));

	if (!larger)
		return ENOMEM;
	stop->threads = larger;
	if (ptrace(PTRACE_SEIZE, id, NULL, NULL) != 0)
		return errno == ESRCH || thread_is_dead(pid, id) ? 0 : errno;
	larger[stop->count++] = (struct stop_thread){ .id = id };
	ptrace(PTRACE_INTERRUPT, id, NULL, NULL);
	return 0;
}

/* Seizes those of the process's threads that are not yet, and counts them. */
static int threads_seize(struct stop *stop, pid_t pid, size_t *fresh)
{
	char path[64];
	struct dirent *entry;
	DIR *folder;
	int error = 0;
	size_t before = stop->count;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	if (!folder)
		return errno == ENOENT ? ESRCH : errno;
	while (!error && (entry = readdir(folder))) {
		pid_t id = (pid_t)atoi(entry->d_name);

		if (id > 0 && !thread_is_known(stop, id))
			error = thread_seize(stop, pid, id);
	}
	closedir(folder);
	*fresh = stop->count - before;
	return error;
}

static void thread_forget(struct stop *stop, size_t index)
{
	stop->threads[index] = stop->threads[--stop->count];
}

/* Notes how a thread stopped, and where it is.  Returns false when it is no more. */
static bool thread_look(struct stop_thread *thread, int status)
{
	struct user_regs_struct registers;
	int signal = WSTOPSIG(status);

	/* Stopped by a signal before our interruption came: as good. */
	if (status >> 16 != PTRACE_EVENT_STOP)
		thread->signal = signal;
	else
		thread->by_user = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN ||
		                  signal == SIGTTOU;
	if (ptrace(PTRACE_GETREGS, thread->id, NULL, &registers) != 0)
		return false;
	thread->thread_pointer = registers.fs_base;
	thread->instruction_pointer = registers.rip;
	thread->stack_pointer = registers.rsp;
	thread->call = (long)registers.orig_rax;
	return true;
}

/* Waits for the threads from `first` on.  Those that end meanwhile are forgotten. */
static int threads_wait(struct stop *stop, size_t first, uint64_t deadline)
{
	for (size_t i = first; i < stop->count;) {
		struct stop_thread *thread = &stop->threads[i];
		int status;
		pid_t id = waitpid(thread->id, &status, __WALL | WNOHANG);

		if (id == 0) {
			if (now_milliseconds() > deadline)
				return ETIMEDOUT;
			usleep(POLL_MICROSECONDS);
		} else if (id < 0 && errno == EINTR) {
			continue;
		} else if (id < 0 || !WIFSTOPPED(status) || !thread_look(thread, status)) {
			thread_forget(stop, i);
		} else {
			i++;
		}
	}
	return 0;
}

/* A thread that still runs may make another one, until a look at all finds none. */
static int threads_stop(struct stop *stop, pid_t pid)
{
	uint64_t deadline = now_milliseconds() + WAIT_MILLISECONDS;
	int error = 0;

	for (size_t fresh = 1; fresh && !error;) {
		size_t known = stop->count;

		error = threads_seize(stop, pid, &fresh);
		if (!error)
			error = threads_wait(stop, known, deadline);
	}
	return error || stop->count ? error : ESRCH;
}

int stop_begin(struct stop *stop, const struct memory *memory)
{
	sigset_t keys;
	int error;

	*stop = (struct stop){ .for_good = memory->core };
	if (memory->core) {
		stop->threads = core_threads(memory->core, &stop->count);
		return stop->threads ? 0 : ENOMEM;
	}
	sigemptyset(&keys);
	sigaddset(&keys, SIGTSTP);
	pthread_sigmask(SIG_BLOCK, &keys, &stop->mask);
	error = threads_stop(stop, memory->pid);
	if (error)
		stop_end(stop);
	return error;
}

int stop_step(struct stop *stop, pid_t pid, size_t index)
{
	struct stop_thread thread = stop->threads[index];
	long signal = thread.signal;
	int error;

	/* The last one, so that threads_wait waits for it alone. */
	stop->threads[index] = stop->threads[stop->count - 1];
	thread.signal = 0;
	stop->threads[stop->count - 1] = thread;
	ptrace(PTRACE_CONT, thread.id, NULL, (void *)signal);
	usleep(STEP_MICROSECONDS);
	ptrace(PTRACE_INTERRUPT, thread.id, NULL, NULL);
	error = threads_wait(stop, stop->count - 1, now_milliseconds() + WAIT_MILLISECONDS);
	return error ? error : threads_stop(stop, pid);
}

size_t stop_registers(const struct stop_thread *thread, uint64_t *words, size_t most)
{
	static const long sets[] = { NT_PRSTATUS, NT_X86_XSTATE, NT_PRFPREG };
	size_t count = 0;

	if (thread->registers) {
		count = thread->register_count < most ? thread->register_count : most;
		memcpy(words, thread->registers, count * sizeof(*words));
		return count;
	}
	/* The state with all vectors, or else the older one that has the first of them.  A
	 * thread in a system call came there by a function, which need not keep vectors. */
	for (size_t i = 0; i < (thread->call < 0 ? sizeof(sets) / sizeof(*sets) : 1); i++) {
		struct iovec set = { words + count, (most - count) * sizeof(*words) };

		if (ptrace(PTRACE_GETREGSET, thread->id, (void *)sets[i], &set) != 0)
			continue;
		count += set.iov_len / sizeof(*words);
		if (sets[i] == NT_X86_XSTATE)
			break;
	}
	return count;
}

void stop_end(struct stop *stop)
{
	for (size_t i = 0; i < stop->count && !stop->for_good; i++) {
		long signal = stop->threads[i].signal;

		ptrace(PTRACE_DETACH, stop->threads[i].id, NULL, (void *)signal);
	}
	if (!stop->for_good)
		pthread_sigmask(SIG_SETMASK, &stop->mask, NULL);
	free(stop->threads);
	*stop = (struct stop){ 0 };
}
