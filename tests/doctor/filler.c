/*
 * A process for the doctor to look at that is built with other C libraries and other
 * allocators: it fills blocks, and waits.
 *
 *   filler COUNT BYTES
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>

static char **blocks;

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[1]) : 0, bytes = argc > 2 ? atol(argv[2]) : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	blocks = malloc((size_t)count * sizeof(*blocks));
	for (long i = 0; i < count; i++) {
		blocks[i] = malloc((size_t)bytes);
		if (!blocks[i])
			return 1;
		memset(blocks[i], 'a', (size_t)bytes);
	}
	puts("filled");
	fflush(stdout);
	return getchar() == EOF;
}
