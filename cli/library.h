/*
 * Where libcede.so is, and the environment that loads it.  Layer: cli.
 */
#ifndef CEDE_CLI_LIBRARY_H
#define CEDE_CLI_LIBRARY_H

#include <limits.h>

/*
 * Finds the library: $CEDE_LIBRARY, else beside the command (../lib/), else where
 * it was installed.  Returns 0, or -1 after it said what is wrong.
 */
int library_find(char path[PATH_MAX]);

/*
 * Puts the library first in $LD_PRELOAD (what is there stays) and appends
 * `options` ("name=value,...", may be empty) to $CEDE_OPTIONS, where the last
 * value of a name wins.  Returns 0, or -1 after it said what is wrong.
 */
int library_preload(const char *path, const char *options);

/*
 * Makes "DIRECTORY OF THE COMMAND/relative".  Returns 0, or -1 when it does not
 * fit or the command's own place is unknown.
 */
int library_beside_command(char path[PATH_MAX], const char *relative);

#endif
