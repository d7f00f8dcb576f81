/*
 * Nobody but its own thread empties a cache, not even the purger, which tests wake: for
 * programs linked with --wrap=os_barrier_everywhere.  Layer: tests.
 */
#include "os/os.h"

bool __wrap_os_barrier_everywhere(void);
bool __wrap_os_barrier_everywhere(void)
{
	return false;
}
