/*
 * The threads that use the heap.  Layer: heap.
 *
 * Nobody tells an allocator that a thread ended: a pthread key may be wanted by
 * the program, and a destructor of the C++ kind takes the loader's lock.  So
 * each record holds a robust mutex that its thread locks and never unlocks.
 * When the thread ends, in whatever way, the kernel marks the mutex; whoever
 * next wants a record finds the mark, detaches the dead thread's arena and
 * takes the record over.
 *
 * Ownership: a record belongs to its thread while that lives; the list of all
 * records is guarded by the registry's lock.  Records are never given back.
 */
#ifndef CEDE_HEAP_REGISTRY_H
#define CEDE_HEAP_REGISTRY_H

#include "heap/arena.h"

struct thread {
	struct arena *arena; /* written by its own thread only; atomic, because that
	                        the dead thread's last use comes before the next one's
	                        first is known to the kernel alone */
	struct thread *next; /* const once listed */
};

/* The calling thread's record; NULL until registry_enter. */
extern __thread struct thread *thread_self HIDDEN;

/*
 * Before a thread's first use of the heap; the very first call starts the heap.
 * Never NULL: without memory for a record, threads share one.
 */
struct thread *registry_enter(void);

static inline struct thread *registry_self(void)
{
	struct thread *t = thread_self;

	return likely(t != NULL) ? t : registry_enter();
}

static inline struct arena *registry_arena(void)
{
	return __atomic_load_n(&registry_self()->arena, __ATOMIC_RELAXED);
}

/* Around fork, with the registry's lock held from prepare on. */
void registry_fork_prepare(void);
void registry_fork_parent(void);
void registry_fork_child(void);

#endif
