/*
 * Blocks by size and kind: a table of what is told of each group.  Layer: doctor.
 *
 * An item is a struct of whoever uses it that begins with a struct group_key.  struct groups
 * owns them until groups_free.  Running out of memory sets `failed`; groups_get then
 * returns NULL.
 *
 * I1: no two items have the same class and kind.
 */
#ifndef CEDE_DOCTOR_GROUPS_H
#define CEDE_DOCTOR_GROUPS_H

#include "model/model.h"

struct group_key {
	uint32_t class;      /* by account_class_of */
	uint32_t kind;       /* as of struct kinds */
};

struct groups {
	void *items;
	size_t item_bytes, count, room;
	uint32_t *slots;     /* a table of indices and 1, twice as large as the room */
	bool failed;
};

static inline struct groups groups_make(size_t item_bytes)
{
	return (struct groups){ .item_bytes = item_bytes };
}

void groups_free(struct groups *groups);

/* The item of a group, all zeros when it is new.  Good until the next new one. */
void *groups_get(struct groups *groups, size_t class, size_t kind);

/* Orders the items; none can be got afterwards. */
void groups_sort(struct groups *groups, int (*compare)(const void *, const void *));

/* For orders in which what has more comes first, and alike ones by class and kind. */
int groups_order(const struct group_key *left, uint64_t left_has, const struct group_key *right,
                 uint64_t right_has);

#endif
