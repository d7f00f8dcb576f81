/*
 * Giving back: free memory is claimed, the system takes it, and it returns to where it was.
 * Layer: heap.  When and how much is the purger's to say (heap/purger.h), or the program's.
 *
 * Locks: the purge lock is held for one claim at a time, around the arena's, and
 * never wanted by malloc or free.
 */
#ifndef CEDE_HEAP_GIVING_H
#define CEDE_HEAP_GIVING_H

#include <stdbool.h>
#include <stddef.h>

#include "os/lock.h"

struct claim;
struct regret;

extern struct lock purge_lock HIDDEN;
/* The one claim under way: guarded by the purge lock, whole while its arena's is free. */
extern struct claim *const giving_claim HIDDEN;

/* Whether memory was locked at the last look: then nothing is claimed. */
bool giving_is_locked(void);
/* Memory that was locked may no longer be. */
void giving_look_at_locked(void);

/* With the purge lock from then on, and no claim; false, without it: memory is locked. */
bool giving_begin(void);
/* With it: gives the claim to the system, then back to its arena; returns the bytes. */
size_t giving_discard(void);

/* Gives back up to `want` bytes of spares; returns them.  `due`: because of their age. */
size_t giving_spares(size_t want, struct regret *due);
/* Some of what describes the parts of the window that nobody has; false: there was none. */
bool giving_scrub(void);

/*
 * Gives back at once, whatever its age, at most about max bytes (SIZE_MAX: all);
 * returns the bytes.  With no lock.
 */
size_t giving_release(size_t max);

/* The same of spare mappings alone, unless somebody is giving back just now. */
void giving_release_spares(size_t want);

/* Whether the purge lock may be waited for: a signal handler may have interrupted its
 * thread where that would wait for it. */
bool giving_may_wait(void);
/* Waits until no pages are taken aside.  With no lock. */
void giving_settle(void);

/* Around fork, with the lock of every arena. */
void giving_fork_prepare(void);
void giving_fork_parent(void);
void giving_fork_child(void);

#endif
