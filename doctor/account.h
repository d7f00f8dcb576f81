/*
 * Where every resident byte of a process is.  Layer: doctor; a calculation on the
 * model that reads nothing else.
 *
 * A resident page is divided among the blocks on it.  A page without a byte in use
 * is kept for nothing ("whole": it could go back); the free bytes of one with a
 * byte in use are lost to it as long as that byte stays ("shared").
 *
 * I1: the states' resident bytes sum up to heap_bytes, which is whole pages except
 *     for the two that a region shares with what is not the heap;
 * I2: heap_bytes + file_bytes + stack_bytes + other_bytes == resident_bytes.
 */
#ifndef CEDE_DOCTOR_ACCOUNT_H
#define CEDE_DOCTOR_ACCOUNT_H

#include "model/model.h"

/* Blocks whose size is alike: to 1 KiB by 16 bytes, then by doubling. */
#define ACCOUNT_CLASSES 110

struct account_class {
	uint64_t block_bytes;        /* the most that a block of the class has */
	size_t live_blocks;
	uint64_t live_bytes;
	uint64_t pinned_bytes;       /* its share in `shared`, where each live block on a page
	                                has an equal one */
};

struct account {
	uint64_t resident_bytes;     /* of the process */
	uint64_t heap_bytes;         /* of these: in the heap's regions */
	uint64_t file_bytes, stack_bytes;
	uint64_t other_bytes;        /* anonymous, but not this heap's */
	uint64_t swapped_bytes;      /* of the process */

	uint64_t resident[MODEL_STATES];
	uint64_t mapped_bytes;       /* of resident[MODEL_LIVE]: in mapped blocks */
	uint64_t absent[MODEL_STATES];   /* given back, or never touched */
	uint64_t whole[MODEL_STATES];    /* resident and free, on pages without use */
	uint64_t shared[MODEL_STATES];   /* resident and free, on pages with use */
	uint64_t whole_bytes, shared_bytes;   /* their sums */

	size_t live_blocks;
	uint64_t live_bytes;
	struct account_class classes[ACCOUNT_CLASSES];
};

/* The model must be finished. */
void account_fill(const struct model *model, struct account *account);

/* The index of a block's class. */
size_t account_class_of(uint64_t block_bytes);

#endif
