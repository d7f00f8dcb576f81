/*
 * What the scenarios of tests/doctor/target.c share.  Layer: tests.
 */
#ifndef TESTS_DOCTOR_TARGET_H
#define TESTS_DOCTOR_TARGET_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096ul
#define THREADS_MOST 64

/* A line to stdout, without the heap. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "STEP name=value ...": mallinfo2. */
void info_tell(const char *step);

/* The same, then obeys commands until one says to go on. */
void step(const char *name);

/* A block that is touched. */
void *take(size_t size);

uint64_t random_next(uint64_t *state);

/* Threads that allocate by chance, then sleep; what each has is in its slots. */
void threads_start(long count, long operations, size_t slots, uint64_t seed);
void **threads_slots(long thread);

/* Scenarios in files of their own. */
void threads(const long *numbers);
void chance(const long *numbers);
void churn(const long *numbers);
void cached(const long *numbers);
void broken(const long *numbers);
void hidden(const long *numbers);
void impostor(const long *numbers);
void aligned(const long *numbers);
void mappings(const long *numbers);
void crowd(const long *numbers);
void execs(const long *numbers);
void forks(const long *numbers);
void shared(const long *numbers);
void remains(const long *numbers);
void waits(const long *numbers);
void handler(const long *numbers);
void stale(const long *numbers);
void coroutine(const long *numbers);
void small(const long *numbers);
void confined(const long *numbers);
void guarding(const long *numbers);

#endif
