#include "inject/waits.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static bool wait_read(pid_t pid, struct wait *wait)
{
	uint64_t *to = wait->arguments;
	char path[64];
	FILE *file;
	bool is_read;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, wait->thread);
	file = fopen(path, "re");
	is_read = file && fscanf(file, "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
	                         " %" SCNx64 " %" SCNx64 " %" SCNx64, &wait->call, &to[0], &to[1],
	                         &to[2], &to[3], &to[4], &to[5], &wait->stack_pointer,
	                         &wait->instruction_pointer) == 9;
	if (file)
		fclose(file);
	return is_read;
}

void waits_note(struct waits *waits, pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *folder;

	*waits = (struct waits){ NULL, 0 };
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		struct wait wait = { .thread = (pid_t)atoi(entry->d_name) };
		struct wait *larger;

		if (wait.thread <= 0 || !wait_read(pid, &wait))
			continue;
		larger = realloc(waits->items, (waits->count + 1) * sizeof(*larger));
		if (!larger)
			break;
		waits->items = larger;
		waits->items[waits->count++] = wait;
	}
	if (folder)
		closedir(folder);
}

void waits_free(struct waits *waits)
{
	free(waits->items);
	*waits = (struct waits){ NULL, 0 };
}

long waits_call(const struct waits *waits, pid_t thread,
                const struct user_regs_struct *registers)
{
	for (size_t i = 0; i < waits->count; i++) {
		const struct wait *wait = &waits->items[i];

		if (wait->thread == thread && wait->stack_pointer == registers->rsp &&
		    wait->instruction_pointer == registers->rip &&
		    wait->arguments[0] == registers->rdi && wait->arguments[1] == registers->rsi &&
		    wait->arguments[2] == registers->rdx && wait->arguments[3] == registers->r10 &&
		    wait->arguments[4] == registers->r8 && wait->arguments[5] == registers->r9)
			return wait->call;
	}
	return -1;
}
