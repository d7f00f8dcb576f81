/*
 * startup: what a tiny program costs from exec to exit.  Layer: a program of its own
 * that links libc alone; the runner preloads the allocator.
 *
 *   startup COUNT   starts itself COUNT times, one after the other
 *   startup         takes a block, gives it back and ends
 */
#include <spawn.h>
#include <sys/wait.h>

#include "block.h"

extern char **environ;

int main(int argc, char **argv)
{
	uint64_t bytes = 0;
	size_t count;

	if (argc == 1) {
		block_give(block_take(100));
		return 0;
	}
	count = argument(argc, argv, 1);
	for (size_t i = 0; i < count; i++) {
		char *alone[] = { argv[0], NULL };
		pid_t child;
		int status;

		CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, alone, environ) == 0);
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		bytes += 100;
	}
	report(bytes);
	return 0;
}
