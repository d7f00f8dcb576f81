/*
 * What malloc_trim(0) would give back.  Layer: doctor; a calculation on the model.
 *
 * As glibc does it: fast blocks are merged with their free neighbours and the top;
 * of each free block the whole pages behind its header go, also in other arenas;
 * then the main arena's top shrinks, when the break is its end.  Threads' caches and
 * the tops of other arenas stay as they are.
 *
 * An allocator that gives whole pages back by itself empties the caches, and gives all
 * whole pages back, but for those with a free block's header.
 */
#ifndef CEDE_DOCTOR_TRIM_H
#define CEDE_DOCTOR_TRIM_H

#include "model/model.h"

struct trim {
	uint64_t bytes;              /* resident bytes that go back */
	uint64_t top_bytes;          /* of these: from the main arena's top, or from all, */
	uint64_t merged_top_bytes;   /* and of these: below where the top begins now, so only
	                                because fast blocks are merged */
};

void trim_predict(const struct model *model, struct trim *trim);

/* Resident bytes of the pages that lie wholly between two addresses of a region. */
uint64_t trim_resident(const struct model *model, const struct model_region *region,
                       uint64_t begin, uint64_t end);

#endif
