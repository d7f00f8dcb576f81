/*
 * The live blocks by size and kind, and how much free memory each group pins.
 * Layer: doctor; a calculation on the model.
 *
 * I1: the groups' blocks and bytes sum up to account's, and so does what they pin.
 */
#ifndef CEDE_DOCTOR_PINS_H
#define CEDE_DOCTOR_PINS_H

#include "doctor/account.h"
#include "doctor/groups.h"

struct pin {
	struct group_key key;
	size_t blocks;
	uint64_t bytes;              /* with the blocks' headers */
	uint64_t pinned_bytes;       /* as of struct account_class */
	uint64_t sample, sample_end; /* of the block that pins most on a page, or of the first:
	                                its memory, as the program has it */
	uint64_t sample_pinned;
	uint64_t last, last_end;     /* the same of the one at the highest address */
};

/* The model must be finished.  Those that pin most come first, then those that are most.
 * Returns false when memory ran out; there is nothing to free then. */
bool pins_find(const struct model *model, struct groups *pins);

static inline const struct pin *pins_at(const struct groups *pins, size_t index)
{
	return (const struct pin *)pins->items + index;
}

#endif
