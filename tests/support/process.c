#include "support/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "support/check.h"

void process_read(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, room - 1);

	CHECK_THAT(length > 0, "cannot read %s (errno %d)", path, errno);
	close(fd);
	text[length] = '\0';
}

size_t process_anonymous(void)
{
	char text[4096];

	process_read("/proc/self/smaps_rollup", text, sizeof(text));
	const char *line = strstr(text, "\nAnonymous:");

	CHECK(line != NULL);
	return strtoul(line + strlen("\nAnonymous:"), NULL, 10) << 10;
}

/* The kernel's struct linux_dirent64, which libc does not declare. */
struct directory_entry {
	unsigned long long inode, offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

size_t process_threads(pid_t *ids, size_t limit)
{
	_Alignas(struct directory_entry) char buffer[4096];
	int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t count = 0;
	long length;

	CHECK(fd >= 0);
	while ((length = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < length;) {
			const struct directory_entry *entry = (void *)(buffer + at);

			at += entry->length;
			if (entry->name[0] == '.')
				continue;
			if (count < limit)
				ids[count] = atoi(entry->name);
			count++;
		}
	}
	close(fd);
	return count;
}

unsigned long process_switches(pid_t thread)
{
	char path[64], text[4096];
	const char *line;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", thread);
	process_read(path, text, sizeof(text));
	line = strstr(text, "\nvoluntary_ctxt_switches:");
	CHECK(line != NULL);
	return strtoul(strchr(line, '\t'), NULL, 10);
}

void process_sleep_ms(unsigned ms)
{
	struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&left, &left) != 0)
		CHECK(errno == EINTR);
}

void process_fork(void (*run)(uintptr_t), uintptr_t number)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0)
		run(number);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_THAT(status == 0, "child %lu ended with wait status %#x", (unsigned long)number,
	           (unsigned)status);
}
