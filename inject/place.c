#include "inject/place.h"

#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "inject/frame.h"
#include "inject/frames.h"
#include "readers/stack.h"

#define ROOM_BYTES 8192ul          /* for malloc_trim and what it calls */
#define STACK_MOST (64ul << 20)
#define BUFFER_WORDS 512

/* Calls that wait for others or for a time, and that any signal interrupts. */
static bool is_wait(long call)
{
	static const long waits[] = {
		SYS_restart_syscall, SYS_futex, SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6,
		SYS_epoll_wait, SYS_epoll_pwait, 441 /* epoll_pwait2 */, SYS_nanosleep,
		SYS_clock_nanosleep, SYS_pause, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_wait4,
		SYS_waitid, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_accept,
		SYS_accept4, SYS_msgrcv, SYS_semop, SYS_semtimedop, SYS_mq_timedreceive,
		SYS_io_getevents, SYS_flock,
	};

	for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++)
		if (call == waits[i])
			return true;
	return false;
}

bool place_is_timed(const struct stop_thread *thread)
{
	switch (thread->call) {
	case SYS_restart_syscall: case SYS_futex: case SYS_poll: case SYS_nanosleep:
	case SYS_clock_nanosleep:
		return true;
	default:
		return false;
	}
}

/* Of seccomp: 0 none, 1 strict, 2 filtered. */
static void status_read(pid_t pid, pid_t thread, int *seccomp, bool *shadow)
{
	char path[64], line[512];
	FILE *file;

	*seccomp = 0;
	*shadow = false;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, thread);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "Seccomp: %d", seccomp);
		*shadow |= !strncmp(line, "x86_Thread_features:", 20) && strstr(line, "shstk");
	}
	if (file)
		fclose(file);
}

/* --- the stack --- */

struct guard {
	bool seen;
};

static void guard_see(void *context, uint64_t begin, uint64_t end, enum memory_page state)
{
	struct guard *guard = context;

	(void)begin;
	(void)end;
	/* Guards in the midst of a mapping look like that. */
	guard->seen |= state == MEMORY_SWAPPED;
}

static bool stack_has_room(const struct memory *memory, uint64_t begin, uint64_t pointer)
{
	uint64_t room = ROOM_BYTES + frame_room();
	uint64_t lowest = (pointer - room) & ~(MEMORY_PAGE - 1);
	const struct memory_mapping *mapping = memory_mapping_at(memory, pointer);
	struct guard guard = { false };

	return pointer > begin + room && lowest >= begin && mapping && mapping->writable &&
	       mapping->begin <= lowest &&
	       memory_scan(memory, lowest, pointer & ~(MEMORY_PAGE - 1), guard_see, &guard) &&
	       !guard.seen;
}

/* What of a stack is in use, and whether a word in it leads into malloc. */
struct look {
	const struct memory *memory;
	const struct functions *functions;
	uint64_t begin, end;
	bool found;
};

/* What cannot be read counts as bad. */
static void words_look(void *context, uint64_t begin, uint64_t end, enum memory_page state)
{
	uint64_t words[BUFFER_WORDS];
	struct look *look = context;

	if (state != MEMORY_RESIDENT && state != MEMORY_SWAPPED)
		return;
	begin = begin > look->begin ? begin : look->begin;
	end = end < look->end ? end : look->end;
	for (uint64_t at = begin; at < end && !look->found; at += sizeof(words)) {
		size_t bytes = end - at < sizeof(words) ? end - at : sizeof(words);

		look->found = !memory_read(look->memory, at, words, bytes);
		for (size_t i = 0; i < bytes / sizeof(*words) && !look->found; i++)
			look->found = functions_have(look->functions, words[i]);
	}
}

/* True also of a stack that would take long. */
static bool stack_has_malloc(const struct memory *memory, const struct functions *functions,
                             uint64_t pointer, uint64_t end)
{
	struct look look = { memory, functions, (pointer - FRAME_RED_ZONE) & ~7ul, end & ~7ul, false };

	return end - pointer > STACK_MOST ||
	       !memory_scan(memory, look.begin & ~(MEMORY_PAGE - 1),
	                    (end + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1), words_look, &look) ||
	       look.found;
}

static enum place_hindrance stack_judge(const struct memory *memory,
                                        const struct functions *functions,
                                        const struct stop_thread *thread)
{
	uint64_t begin = stack_begin(memory, thread), end;
	const struct memory_mapping *mapping = memory_mapping_at(memory, thread->stack_pointer);

	if (!begin || !mapping)
		return PLACE_OTHER_STACK;
	/* Of a thread, its descriptor follows. */
	end = mapping->kind == MEMORY_STACK ? mapping->end : thread->thread_pointer;
	if (!stack_has_room(memory, begin, thread->stack_pointer))
		return PLACE_NO_ROOM;
	/* What earlier calls left on the stack looks the same, and takes longer to tell. */
	return stack_has_malloc(memory, functions, thread->stack_pointer, end) &&
	       !frames_are_outside(memory, thread->id, functions) ? PLACE_IN_MALLOC : PLACE_GOOD;
}

enum place_hindrance place_judge(const struct memory *memory, const struct functions *functions,
                                 const struct waits *waits, const struct stop_thread *thread,
                                 struct call *call)
{
	struct user_regs_struct registers;
	int seccomp;
	bool shadow;

	if (thread->call < 0 || ptrace(PTRACE_GETREGS, thread->id, NULL, &registers) != 0)
		return PLACE_RUNS;
	if (!is_wait(thread->call))
		return PLACE_BUSY;
	if (thread->signal)
		return PLACE_SIGNAL;
	status_read(memory->pid, thread->id, &seccomp, &shadow);
	if (seccomp == 1)
		return PLACE_STRICT;
	if (shadow)
		return PLACE_SHADOW;
	*call = (struct call){
		.restorer = functions->restorer,
		.errno_address = thread->thread_pointer + functions->errno_offset,
		.filtered = seccomp != 0, .waited = waits_call(waits, thread->id, &registers),
	};
	return stack_judge(memory, functions, thread);
}

const char *place_words(enum place_hindrance hindrance)
{
	static const char *const words[] = {
		[PLACE_RUNS] = "its threads never wait",
		[PLACE_BUSY] = "its threads are in system calls that must not be disturbed",
		[PLACE_SIGNAL] = "signals keep coming to it",
		[PLACE_STRICT] = "seccomp allows it nothing but to read and to write",
		[PLACE_SHADOW] = "it has shadow stacks, which forbid calls that it did not make",
		[PLACE_OTHER_STACK] = "its threads run on stacks of their own making (coroutines, or a "
		                      "signal handler)",
		[PLACE_NO_ROOM] = "its threads' stacks have too little room for a call",
		[PLACE_IN_MALLOC] = "its threads may be inside malloc: addresses of it are on their "
		                    "stacks",
	};

	return words[hindrance];
}
