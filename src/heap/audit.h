/*
 * The validator: walks a whole arena and checks every invariant that its headers
 * number.  Layer: heap.  Slow: on after each operation in the audit build, and
 * for tests in all.  Wants the arena's lock.  A violation stops the program.
 */
#ifndef CEDE_HEAP_AUDIT_H
#define CEDE_HEAP_AUDIT_H

#include "heap/arena.h"

void audit_arena(struct arena *a);
/* Its part in audit_slabs.c. */
void audit_slabs(const struct arena *a);

#ifdef CEDE_AUDIT
#define AUDIT(a) audit_arena(a)
#else
#define AUDIT(a) ((void)(a))
#endif

#endif
