/*
 * What the kernel knows of this process.  Layer: tests; reads /proc by plain
 * system calls, no heap.
 */
#ifndef TESTS_SUPPORT_PROCESS_H
#define TESTS_SUPPORT_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads a file of /proc, at most room - 1 bytes; ends them with a 0. */
void process_read(const char *path, char *text, size_t room);

/* Resident anonymous bytes, exactly (smaps_rollup). */
size_t process_anonymous(void);

/* Fills ids with at most `limit` thread ids; returns how many threads there are. */
size_t process_threads(pid_t *ids, size_t limit);

/* How often a thread of this process went to sleep by itself. */
unsigned long process_switches(pid_t thread);

void process_sleep_ms(unsigned ms);

/* Runs `run`, which must exit, in a child; the child must end with status 0. */
void process_fork(void (*run)(uintptr_t), uintptr_t number);

#endif
