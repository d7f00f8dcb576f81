#include "readers/access.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "as root (CAP_SYS_PTRACE)"

/* Yama's setting; 0 where there is none. */
static int ptrace_scope(void)
{
	FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	if (file) {
		if (fscanf(file, "%d", &scope) != 1)
			scope = 0;
		fclose(file);
	}
	return scope;
}

/* The user that the process began as, although the files in /proc may be root's. */
static bool user_of(pid_t pid, uid_t *user)
{
	char path[64], line[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "Uid: %u", user) == 1;
	if (file)
		fclose(file);
	return found;
}

static void forbidden_explain(pid_t pid, char *text, size_t room)
{
	int scope = ptrace_scope();
	const struct passwd *owner;
	uid_t user;

	if (user_of(pid, &user) && user != geteuid() && geteuid() != 0) {
		owner = getpwuid(user);
		snprintf(text, room, "process %d belongs to another user (%s): run this as that user, "
		         "or " ROOT, pid, owner ? owner->pw_name : "unknown");
	} else if (scope == 3) {
		snprintf(text, room, "kernel.yama.ptrace_scope is 3: this system lets nobody read "
		         "another process until it is started anew with another value");
	} else if (scope != 0 && geteuid() != 0) {
		snprintf(text, room, "kernel.yama.ptrace_scope is %d: run this " ROOT "%s", scope,
		         scope == 1 ? ", or set it to 0 (sysctl kernel.yama.ptrace_scope=0)" : "");
	} else {
		snprintf(text, room, "process %d may not be read, for it has rights that this command "
		         "lacks, or it (PR_SET_DUMPABLE), a security policy or a container forbids it: "
		         "run this %s", pid,
		         geteuid() == 0 ? "with CAP_SYS_PTRACE, outside of the container" : ROOT);
	}
}

void access_explain(pid_t pid, int error, char *text, size_t room)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (error == ESRCH && access(path, F_OK) == 0)
		snprintf(text, room, "process %d has no memory: it ended, or is part of the kernel", pid);
	else if (error == ESRCH)
		snprintf(text, room, "no process has the number %d", pid);
	else if (error == EXDEV)
		snprintf(text, room, "/proc shows another PID namespace than this command's, with other "
		         "numbers: mount its own (mount -t proc proc /proc), or run this outside");
	else if (error == EPERM || error == EACCES)
		forbidden_explain(pid, text, room);
	else
		snprintf(text, room, "process %d cannot be read: %s", pid, strerror(error));
}
