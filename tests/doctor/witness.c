/*
 * Preloaded into programs that are not ours: SIGUSR1 makes them tell their own
 * mallinfo2, SIGUSR2 makes them trim.  Each writes one line to the file that WITNESS
 * names, at its end.  The program must be at rest, so that no malloc is interrupted.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[256];

static void line_write(const char *line, int length)
{
	int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (file < 0 || write(file, line, (size_t)length) != length)
		_exit(99);
	close(file);
}

static void info_tell(int signal)
{
	struct mallinfo2 m = mallinfo2();
	char line[512];

	(void)signal;
	line_write(line, snprintf(line, sizeof(line),
	           "info arena=%zu ordblks=%zu smblks=%zu hblks=%zu hblkhd=%zu fsmblks=%zu "
	           "uordblks=%zu fordblks=%zu keepcost=%zu\n", m.arena, m.ordblks, m.smblks,
	           m.hblks, m.hblkhd, m.fsmblks, m.uordblks, m.fordblks, m.keepcost));
}

static void trim(int signal)
{
	char line[64];

	(void)signal;
	line_write(line, snprintf(line, sizeof(line), "trimmed result=%d\n", malloc_trim(0)));
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = { .sa_flags = SA_RESTART };

	if (!getenv("WITNESS"))
		return;
	snprintf(path, sizeof(path), "%s", getenv("WITNESS"));
	action.sa_handler = info_tell;
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = trim;
	sigaction(SIGUSR2, &action, NULL);
}
