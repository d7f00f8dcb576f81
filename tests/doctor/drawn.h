/*
 * A model drawn by hand.  Layer: tests.
 *
 *   drawn_region(&model, MODEL_BREAK, 0, begin, "L32 B4096 F32 T8192", "RR-");
 *
 * Blocks in their order: a letter for the state (L live, C cached, F fast, B bin, T
 * top, I internal, X foreign, S slab) and the bytes.  Pages: R resident, - absent, Z zeros, S
 * swapped; the last one goes on to the region's end.
 */
#ifndef TESTS_DOCTOR_DRAWN_H
#define TESTS_DOCTOR_DRAWN_H

#include "model/model.h"

/* Also counts the arena's blocks; arenas are added as they are named. */
void drawn_region(struct model *model, enum model_region_kind kind, uint32_t arena,
                  uint64_t begin, const char *blocks, const char *pages);

/* Finishes the model; its invariants must hold. */
void drawn_finish(struct model *model);

#endif
