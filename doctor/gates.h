/*
 * What keeps free memory from going back.  Layer: doctor; a calculation on the model.
 *
 * glibc gives back by itself only what lies at the very end of a heap.  Each gate is
 * one way for free memory not to come there; what two of them hold may overlap.  Where
 * whole pages go by themselves, the gates are what they wait for.
 */
#ifndef CEDE_DOCTOR_GATES_H
#define CEDE_DOCTOR_GATES_H

#include "doctor/account.h"
#include "doctor/trim.h"

enum gate_kind {
	GATE_FAST,       /* fast blocks, never merged, lie between free memory and the top */
	GATE_PIN,        /* few blocks near the end, live or cached, keep what is free below */
	GATE_TOP,        /* the top itself, below the threshold or without a free to trim it */
	GATE_CACHE,      /* blocks in threads' caches keep whole pages */
	GATE_ARENAS,     /* free memory in other arenas, which malloc never gives back by itself */
	GATE_WAIT,       /* it will give whole pages back, but not now: see enum model_giving */
	GATE_KINDS
};

/* "fast bins", "pinned top", "untrimmed top", "thread caches", "other arenas", "waiting" */
const char *gate_kind_name(enum gate_kind kind);

struct gate {
	enum gate_kind kind;
	uint64_t held_bytes;         /* resident, on whole pages: what it keeps from going back */
	uint64_t key_bytes;          /* what it holds them with: the fast, live or cached blocks;
	                                GATE_TOP: the trim threshold */
	size_t key_blocks;           /* GATE_ARENAS: the arenas; GATE_CACHE: the caches */
	size_t cached_blocks;        /* GATE_PIN: of these, freed but in threads' caches */
	uint64_t address;            /* GATE_PIN: of the block nearest to the top */
};

/* Fills at most GATE_KINDS, those that hold the most first, and returns how many. */
size_t gates_find(const struct model *model, const struct account *account,
                  const struct trim *trim, struct gate gates[GATE_KINDS]);

/* The threshold from which the top is trimmed has grown with what the program freed. */
bool gates_threshold_grew(const struct model *model);

#endif
