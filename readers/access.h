/*
 * Why a process may not be read, in words.  Layer: readers.
 */
#ifndef CEDE_READERS_ACCESS_H
#define CEDE_READERS_ACCESS_H

#include <stddef.h>
#include <sys/types.h>

/*
 * What is to be said of an errno that opening or reading the process's memory gave: no
 * such process, or who may read it and how.
 */
void access_explain(pid_t pid, int error, char *text, size_t room);

#endif
