#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fmt.h"
#include "os/syscall.h"

extern char **environ;

size_t os_random(void)
{
	const void *sixteen = (const void *)getauxval(AT_RANDOM);
	size_t number[2] = { 0, 0 };

	if (sixteen != NULL)
		__builtin_memcpy(number, sixteen, sizeof(number));
	/* The first word guards stacks: a mix of both gives neither away. */
	return (number[0] ^ number[1] * 0x9e3779b97f4a7c15u) | 1;
}

bool os_is_secure(void)
{
	return getauxval(AT_SECURE) != 0;
}

/*
 * The loader calls malloc before libc knows the environment.  /proc then has it,
 * as one run of NUL-terminated strings, read into pages of our own.
 */
#define ENVIRONMENT_MAX ((size_t)1 << 20)

static char *no_environment[1];
static char *environment_memory;
static size_t environment_size;

static size_t read_environment(char *buffer, size_t size)
{
	long fd = sys(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC);
	size_t used = 0;

	if (sys_failed(fd))
		return 0;
	while (used < size) {
		long n = sys(SYS_read, fd, buffer + used, size - used);

		if (sys_failed(n) || n == 0)
			break;
		used += (size_t)n;
	}
	sys(SYS_close, fd);
	return used;
}

char *const *os_environment(void)
{
	size_t size = ENVIRONMENT_MAX, used, count = 0;
	char **strings;

	if (environ != NULL)
		return environ;
	/* Reserved, not resident: only what is read is touched. */
	environment_memory = os_map(NULL, 2 * size, OS_READ_WRITE);
	if (environment_memory == NULL)
		return no_environment;
	environment_size = 2 * size;
	used = read_environment(environment_memory, size - 1);
	strings = (char **)(environment_memory + size);
	for (size_t i = 0; i < used && count < size / sizeof(*strings) - 1; count++) {
		strings[count] = environment_memory + i;
		i += __builtin_strlen(environment_memory + i) + 1;
	}
	return strings;
}

void os_environment_done(void)
{
	if (environment_memory != NULL)
		(void)!os_unmap(environment_memory, environment_size);
	environment_memory = NULL;
}

/* For the thread without descriptors of the program (os/pressure.c).  Linux 5.6. */
static long program_stderr(void)
{
	long process = sys(SYS_pidfd_open, sys(SYS_getpid), 0);

	return sys_failed(process) ? process : sys(SYS_pidfd_getfd, process, STDERR_FILENO, 0);
}

void os_write_error(const char *text, size_t length)
{
	long fd = STDERR_FILENO;

	while (length > 0) {
		long n = sys(SYS_write, fd, text, length);

		if (n == -EBADF && fd == STDERR_FILENO && !sys_failed(fd = program_stderr()))
			continue;
		if (sys_failed(n) || n == 0)
			return;
		text += n;
		length -= (size_t)n;
	}
}

_Noreturn void os_abort(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} ignore_none = { NULL, 0, NULL, 0 };
	unsigned long abort_mask = 1ul << (SIGABRT - 1);

	/* The program's own handler first, as abort(3) does; then by force. */
	sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &abort_mask, NULL, sizeof(abort_mask));
	sys(SYS_tgkill, sys(SYS_getpid), sys(SYS_gettid), SIGABRT);
	sys(SYS_rt_sigaction, SIGABRT, &ignore_none, NULL, sizeof(abort_mask));
	sys(SYS_tgkill, sys(SYS_getpid), sys(SYS_gettid), SIGABRT);
	__builtin_trap();
}

_Noreturn COLD void check_failed(const char *file, int line, const char *expression)
{
	char text[256];
	size_t n = fmt_into(text, sizeof(text), "cede: internal error: %s:%d: %s\n", file, line,
	                    expression);

	os_write_error(text, n);
	os_abort();
}
