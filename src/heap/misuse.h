/*
 * What happens when the program breaks the heap: one line on stderr that names
 * the call, the pointer and what is wrong, then abort.  In every build.
 * Layer: heap.
 */
#ifndef CEDE_HEAP_MISUSE_H
#define CEDE_HEAP_MISUSE_H

#include "base/check.h"

/*
 * "cede: free(0x5581c0de2a0): double free".  The function is what the program
 * called, or "heap" for a free block that its call merely came across.
 */
_Noreturn COLD void misuse(const char *function, const void *block, const char *what);

#endif
