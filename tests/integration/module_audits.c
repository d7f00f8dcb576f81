/*
 * The least that LD_AUDIT accepts: it gives the process a second libc, with a heap
 * of its own, before the program's is there.  Layer: tests.
 */
#include <link.h>
#include <stdlib.h>

unsigned la_version(unsigned version)
{
	free(malloc(100));
	return version;
}
