/*
 * What leads to some blocks.  Layer: doctor; a calculation on the model and the words found
 * with it.
 *
 * Of all that leads to a block one is told: a root before a block, and before others one
 * that leads to the begin of its memory.
 */
#ifndef CEDE_DOCTOR_REFERRERS_H
#define CEDE_DOCTOR_REFERRERS_H

#include "model/words.h"

#define REFERRERS_MOST 64

struct referrer {
	uint64_t begin, end;         /* the block's memory; the asker's to fill */
	uint64_t place;              /* of the root that leads there, as in struct words; or 0 */
	size_t block;                /* in use, that leads there; or MODEL_NONE */
	bool is_exact;               /* to the begin */
};

/* For at most REFERRERS_MOST blocks, which ascend.  The model and the words are finished. */
void referrers_find(const struct model *model, const struct words *words,
                    struct referrer *referrers, size_t count);

#endif
