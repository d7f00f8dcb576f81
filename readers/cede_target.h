/*
 * A live process that runs on cede: found, and its descriptor read and checked, without
 * its help.  Layer: readers.
 *
 * The process goes on meanwhile, and all that it holds is hostile: what the descriptor
 * says of sizes is bounded here, so that whoever reads by it need not.
 */
#ifndef CEDE_READERS_CEDE_TARGET_H
#define CEDE_READERS_CEDE_TARGET_H

#include <cede/descriptor.h>

#include "readers/memory.h"

#define CEDE_TARGET_ARENA  ((size_t)32 << 10)  /* the most that arena_size may be */
#define CEDE_TARGET_RECORD ((size_t)1 << 10)   /* the same of a slab's and a segment's */
#define CEDE_TARGET_UNITS  64u                 /* of a segment */
#define CEDE_TARGET_CLASSES 256u
#define CEDE_TARGET_RECORD_HEAD ((size_t)256)  /* of a thread's record, without its bins */
#define CEDE_TARGET_CLAIM  ((size_t)64 << 10)

struct cede_target {
	struct memory memory;
	struct cede_descriptor descriptor;
};

/* A sentence of what is wrong and what to do, with the process in it. */
struct cede_refusal {
	char text[512];
};

/*
 * Returns whether the process runs on a cede that can be read.  Of several copies of
 * cede in it, the one whose main arena is largest.  After false nothing is to be closed.
 */
bool cede_target_open(struct cede_target *target, pid_t pid, struct cede_refusal *refusal);
void cede_target_close(struct cede_target *target);

/* The same of an open memory of the process, which stays the caller's. */
bool cede_target_find(const struct memory *memory, struct cede_descriptor *descriptor,
                      struct cede_refusal *refusal);

/* Always false. */
bool cede_target_refuse(struct cede_refusal *refusal, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
