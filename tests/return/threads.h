/*
 * Cases with more threads or processes than one (return.c describes them).  Layer: tests.
 */
#ifndef TESTS_RETURN_THREADS_H
#define TESTS_RETURN_THREADS_H

#include <stddef.h>

void threads_asleep(const char *way, const size_t *numbers);
void threads_crumbs(const char *way, const size_t *numbers);
void threads_ended(const char *way, const size_t *numbers);
void threads_relay(const char *way, const size_t *numbers);
void threads_fork(const char *way, const size_t *numbers);
void threads_idle(const char *way, const size_t *numbers);

#endif
