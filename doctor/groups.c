#include "doctor/groups.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 64

static struct group_key *item_at(const struct groups *groups, size_t index)
{
	return (struct group_key *)((char *)groups->items + index * groups->item_bytes);
}

/* Where the group is, or would be. */
static uint32_t *slot_find(const struct groups *groups, size_t class, size_t kind)
{
	size_t mask = 2 * groups->room - 1;
	size_t slot = ((class << 20 ^ kind) * 0x9e3779b97f4a7c15ul) >> 32 & mask;

	for (; groups->slots[slot]; slot = (slot + 1) & mask) {
		const struct group_key *group = item_at(groups, groups->slots[slot] - 1);

		if (group->class == class && group->kind == kind)
			break;
	}
	return &groups->slots[slot];
}

static bool groups_grow(struct groups *groups)
{
	size_t room = groups->room ? 2 * groups->room : ROOM_LEAST;
	void *items = realloc(groups->items, room * groups->item_bytes);
	uint32_t *slots = calloc(2 * room, sizeof(*slots));

	if (items)
		groups->items = items;
	groups->failed = !items || !slots || room >= UINT32_MAX;
	if (groups->failed) {
		free(slots);
		return false;
	}
	free(groups->slots);
	groups->slots = slots;
	groups->room = room;
	for (size_t i = 0; i < groups->count; i++)
		*slot_find(groups, item_at(groups, i)->class, item_at(groups, i)->kind) =
			(uint32_t)(i + 1);
	return true;
}

void *groups_get(struct groups *groups, size_t class, size_t kind)
{
	struct group_key *group;
	uint32_t *slot;

	if (groups->failed || (groups->count == groups->room && !groups_grow(groups)))
		return NULL;
	slot = slot_find(groups, class, kind);
	if (!*slot) {
		group = item_at(groups, groups->count);
		memset(group, 0, groups->item_bytes);
		*group = (struct group_key){ (uint32_t)class, (uint32_t)kind };
		*slot = (uint32_t)++groups->count;
	}
	return item_at(groups, *slot - 1);
}

void groups_sort(struct groups *groups, int (*compare)(const void *, const void *))
{
	if (groups->count)
		qsort(groups->items, groups->count, groups->item_bytes, compare);
	free(groups->slots);
	groups->slots = NULL;
}

int groups_order(const struct group_key *left, uint64_t left_has, const struct group_key *right,
                 uint64_t right_has)
{
	if (left_has != right_has)
		return left_has > right_has ? -1 : 1;
	if (left->class != right->class)
		return left->class < right->class ? -1 : 1;
	return left->kind < right->kind ? -1 : left->kind > right->kind;
}

void groups_free(struct groups *groups)
{
	free(groups->items);
	free(groups->slots);
	*groups = (struct groups){ .item_bytes = groups->item_bytes };
}
