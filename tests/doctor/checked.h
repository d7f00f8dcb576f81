/*
 * A system call that looks whether anything of its thread changed meanwhile: registers,
 * vectors, what lies below the stack pointer, errno, blocked signals, the alternate
 * stack.  Layer: tests.
 */
#ifndef TESTS_DOCTOR_CHECKED_H
#define TESTS_DOCTOR_CHECKED_H

#include <stdint.h>

/* Once, in the thread that makes the calls. */
void checked_begin(void);

/* Returns the call's result; `bad` says how many things changed that must not. */
long checked_make(long number, const uint64_t arguments[6], int *bad);

/* Where the call is made, within 2000 bytes. */
long checked_call(uint64_t *checked);

#endif
