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
#include "model/words.h"

#define LEAKS_SAMPLES 3

struct leaks_count {
	size_t blocks;
	uint64_t bytes;              /* with the blocks' headers */
};

/* The same classes as those of struct account. */
struct leaks_class {
	struct leaks_count definite, indirect;
	/* As the program had them; definite ones when there are any. */
	uint64_t samples[LEAKS_SAMPLES], sample_ends[LEAKS_SAMPLES];
	size_t sample_count;
};

struct leaks {
	struct leaks_count reached, definite, indirect;
	uint64_t lost_bytes;         /* definite and indirect */
	size_t roots;                /* words outside the heap that lead into it */
	uint64_t lead;               /* as of struct words */
	uint64_t *is_reached, *is_indirect;   /* a bit for each block; of use for those in use */
	struct leaks_class classes[ACCOUNT_CLASSES];
};

/* The model must be finished, and the words too.  Returns false when memory ran out.  In
 * either case they must be freed. */
bool leaks_find(const struct model *model, const struct words *words, struct leaks *leaks);
void leaks_free(struct leaks *leaks);

enum leaks_mark { LEAKS_DEFINITE, LEAKS_INDIRECT, LEAKS_REACHED, LEAKS_MARKS };

enum leaks_mark leaks_mark_of(const struct leaks *leaks, size_t block);

/* By hand: all blocks are definite until they are marked, then counted.  The model must be
 * finished by then.  leaks_open returns false when memory ran out. */
bool leaks_open(struct leaks *leaks, size_t blocks, uint64_t lead);
void leaks_mark(struct leaks *leaks, size_t block, enum leaks_mark mark);
void leaks_count_all(struct leaks *leaks, const struct model *model);

/* The class that has lost the most bytes; of use when something is lost. */
size_t leaks_worst_class(const struct leaks *leaks);

#endif
