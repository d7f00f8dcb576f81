/*
 * Blocks in use that nothing leads to any more.  Layer: doctor; a calculation on the
 * model and the words found with it.
 *
 * Whatever looks like an address counts as one, and one into the middle of a block
 * leads to the block.  So what is called lost is, unless the program hides its
 * addresses, but some that is lost may not be seen.
 *
 * I1: a block in use is reached, lost (`definite`), or led to by lost ones only
 *     (`indirect`); of blocks that lead to each other in a ring, one is definite.
 *
 * Which block is what can be kept and counted again elsewhere (leaks_mark, leaks_count).
 * struct leaks owns its arrays until leaks_free.
 */
#ifndef CEDE_DOCTOR_LEAKS_H
#define CEDE_DOCTOR_LEAKS_H

#include "doctor/account.h"
#include "doctor/groups.h"
#include "model/words.h"

#define LEAKS_SAMPLES 3

struct leaks_count {
	size_t blocks;
	uint64_t bytes;              /* with the blocks' headers */
};

struct leaks_group {
	struct group_key key;
	struct leaks_count definite, indirect;
	/* As the program had them; definite ones when there are any. */
	uint64_t samples[LEAKS_SAMPLES], sample_ends[LEAKS_SAMPLES];
	size_t sample_count;
};

struct leaks {
	struct leaks_count reached, definite, indirect;
	uint64_t lost_bytes;         /* definite and indirect */
	size_t roots;                /* words outside the heap that lead into it */
	uint64_t *is_reached, *is_indirect;   /* a bit for each block; of use for those in use */
	struct groups groups;        /* struct leaks_group; those that lost most come first */
};

/* The model must be finished, and the words too.  Returns false when memory ran out.  In
 * either case they must be freed. */
bool leaks_find(const struct model *model, const struct words *words, struct leaks *leaks);
void leaks_free(struct leaks *leaks);

enum leaks_mark { LEAKS_DEFINITE, LEAKS_INDIRECT, LEAKS_REACHED, LEAKS_MARKS };

enum leaks_mark leaks_mark_of(const struct leaks *leaks, size_t block);

/* By hand: all blocks are definite until they are marked, then counted.  The model must be
 * finished by then.  leaks_open and leaks_count_all return false when memory ran out. */
bool leaks_open(struct leaks *leaks, size_t blocks);
void leaks_mark(struct leaks *leaks, size_t block, enum leaks_mark mark);
bool leaks_count_all(struct leaks *leaks, const struct model *model);

static inline const struct leaks_group *leaks_group_at(const struct leaks *leaks, size_t index)
{
	return (const struct leaks_group *)leaks->groups.items + index;
}

#endif
