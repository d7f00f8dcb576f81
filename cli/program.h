/*
 * Whether a program can run on a preloaded allocator.  Layer: cli.
 */
#ifndef CEDE_CLI_PROGRAM_H
#define CEDE_CLI_PROGRAM_H

#include <limits.h>

/*
 * Resolves `name` as execvp does (a slash: a path; else $PATH).  Returns 0, or
 * -1 after it said what is wrong.
 */
int program_resolve(const char *name, char path[PATH_MAX]);

/*
 * Checks that the loader will put `library` into the program at `path`: a
 * dynamic glibc program of the same machine that the kernel does not give more
 * rights; of a script, its interpreter.  A program with an allocator of its own
 * gets a warning.  Returns 0, or -1 after it said what is wrong and what to do.
 */
int program_check(const char *path, const char *library);

#endif
