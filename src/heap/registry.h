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

#include "heap/thread.h"

/*
 * Before a thread's first use of the heap; the very first call starts the heap.
 * Never NULL: without memory for a record, threads share one.
 */
struct thread *registry_enter(void);

static inline struct thread *registry_self(void)
{
	struct thread *t = thread_self;

	return likely(t != &thread_nobody) ? t : registry_enter();
}

static inline struct arena *registry_arena(const struct thread *t)
{
	return __atomic_load_n(&t->arena, __ATOMIC_RELAXED);
}

/* Records made so far, at least 1. */
size_t registry_count(void);

/* All records, dead ones too; each begins with its struct thread, and they go on by `next`. */
extern struct record *registry_all HIDDEN;
struct thread *registry_first(void);

/* How many forks made this process from the first. */
uint32_t registry_generation(void);
/* Whether its thread stayed in the parent of a fork. */
bool registry_is_orphan(const struct thread *t);

/* Around fork, with the registry's lock held from prepare on. */
void registry_fork_prepare(void);
void registry_fork_parent(void);
void registry_fork_child(void);

#endif
