/*
 * The stack of a stopped thread.  Layer: readers.
 */
#ifndef CEDE_READERS_STACK_H
#define CEDE_READERS_STACK_H

#include "readers/memory.h"
#include "readers/stop.h"

/*
 * Where the stack begins that the thread was made with; 0 when it runs on another one, as
 * handlers and coroutines do, or when that cannot be told.
 */
uint64_t stack_begin(const struct memory *memory, const struct stop_thread *thread);

#endif
