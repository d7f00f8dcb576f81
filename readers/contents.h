/*
 * What the blocks of a process hold, told by the first words of each.  Layer: readers.
 *
 * While the process is stopped, contents_gather looks at the blocks in use; what the
 * addresses in them are is found out afterwards, by contents_name.  Only pages that are
 * resident or swapped out are read.
 *
 * A block that is known by an address has it in its first word; or in the second, behind
 * a count (of an array's items, of references); or, of a variable's begin, in the third or
 * fourth, behind links.
 */
#ifndef CEDE_READERS_CONTENTS_H
#define CEDE_READERS_CONTENTS_H

#include "model/model.h"
#include "readers/names.h"
#include "readers/window.h"

#define CONTENTS_BYTES 64          /* of a block, looked at; a power of two */

struct contents {
	const struct memory *memory;
	struct window *window;         /* whoever calls has it */
	uint64_t own_begin, own_end;   /* the allocator's: what leads there is of a freed block */

	/* From contents_gather to contents_free. */
	struct names *names;
	uint64_t *keys;                /* addresses met, and where */
	size_t key_count;
	uint16_t *slots;               /* a table of keys' indices and 1 */
};

/* Fills the model's kinds, with numbers in place of what is named later.  Its regions and
 * its lead must be complete.  Returns whether there was memory; contents_free in either case. */
bool contents_gather(struct contents *contents, struct model *model);

/* Names the kinds.  The mappings must be as they were.  Returns whether there was memory. */
bool contents_name(struct contents *contents, struct model *model);

void contents_free(struct contents *contents);

#endif
