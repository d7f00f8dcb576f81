/*
 * Reads the heap of a process on glibc's malloc, or on cede, into a model.  Layer: readers.
 *
 * The process is stopped for as long as it takes to walk its chunks and to look at
 * which pages are resident, then runs on; its lists are followed afterwards.  It is
 * stopped again when a thread was inside malloc, or when lists and chunks do not
 * agree: a process with a single thread takes no lock.  Of a core there is one look,
 * whatever its threads were doing: what does not agree then is READING_CORRUPT.  cede's heap
 * is read the same way (cede_heap.h), though who is at work in it can be told.
 */
#ifndef CEDE_READERS_READING_H
#define CEDE_READERS_READING_H

#include <cede/descriptor.h>

#include "model/model.h"
#include "model/words.h"
#include "readers/memory.h"

enum reading_outcome {
	READING_DONE,
	READING_ABSENT,   /* no glibc, or its heap was never used; mappings are filled in.
	                           Never of cede */
	READING_UNKNOWN,  /* a version whose layout is not known */
	READING_BUSY,     /* each time in the middle of a change */
	READING_CORRUPT,  /* each time the same disagreement: `why` says where */
	READING_FAILED    /* an errno: see stop_begin and memory_open */
};

struct reading {
	int error;              /* of READING_FAILED */
	unsigned version;       /* of glibc: 236 for 2.36, 0 when it does not tell */
	char cede[16];          /* version of cede, "0.1.0"; "": on glibc's malloc */
	size_t threads;
	unsigned stops;         /* how often it was stopped; 0: a core's */
	size_t locked_arenas;   /* of a core: a thread was changing them */
	uint64_t pause_microseconds;   /* the longest stop */
	uint64_t break_bytes;   /* resident in the break, whoever uses it */
	char why[240];
};

/*
 * Fills an empty model; `memory` is an open one of the process, and its mappings are
 * afterwards those of the last stop.  With a descriptor the heap is cede's.  With `words`
 * also what leads to the blocks: the process waits longer, by some half a second for each
 * GiB of memory that it uses.
 */
enum reading_outcome reading_take(struct memory *memory, const struct cede_descriptor *cede,
                                  struct model *model, struct words *words,
                                  struct reading *reading);

#endif
