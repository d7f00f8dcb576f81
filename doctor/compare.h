/*
 * What changed in a heap between two looks at one process: memory that grows while it
 * is still reachable is found in no single one.  Layer: doctor; a calculation on two
 * models of the same process.
 *
 * A block is in both when it is live at the same address with the same size, also when
 * it was freed and handed out again in between.
 *
 * I1: before == both + gone, and after == both + fresh, in blocks and in bytes;
 * I2: the classes' blocks and bytes sum up to these, and so do the groups' before and after;
 */
#ifndef CEDE_DOCTOR_COMPARE_H
#define CEDE_DOCTOR_COMPARE_H

#include "doctor/groups.h"
#include "doctor/verdict.h"

struct compare_count {
	size_t blocks;
	uint64_t bytes;
};

/* Of live blocks: those of the first look, of the second, of both, of one only. */
struct compare_change {
	struct compare_count before, after, both, fresh, gone;
};

/*
 * Late blocks: live in the second look only, above the last block that is live in both,
 * with free memory below them.  It lies above all that is old, and yet not at the end.
 */
struct compare_late {
	struct compare_count blocks;
	uint64_t held_bytes;         /* resident, on whole pages: free, and below one of them */
	uint64_t old_bytes;          /* of these: pages that were free in the first look, too */
	uint64_t address;            /* of the last of them in the region where they hold most */
};

struct compare {
	struct compare_change all;
	struct compare_change classes[ACCOUNT_CLASSES];   /* by account_class_of */
	struct compare_late late;
	struct groups groups;        /* struct compare_group; those that grew most come first */
};

/* Live blocks of a size and kind.  The kind is the second look's; one that it does not
 * have is the first's, counted on from the second's last. */
struct compare_group {
	struct group_key key;
	struct compare_count before, after;
	uint64_t sample, sample_end; /* of the last block that is in the second look only: its
	                                memory, as the program has it; 0: there is none */
};

/* The models must be finished, and be there as long as kinds are asked for.  Returns false
 * when memory ran out; then there is nothing to free. */
bool compare_fill(const struct model *before, const struct model *after,
                  struct compare *compare);
void compare_free(struct compare *compare);

static inline const struct compare_group *compare_group_at(const struct compare *compare,
                                                           size_t index)
{
	return (const struct compare_group *)compare->groups.items + index;
}

/* By how many bytes the group grew; 0 when it did not. */
static inline uint64_t compare_group_grown(const struct compare_group *group)
{
	return group->after.bytes > group->before.bytes ?
	       group->after.bytes - group->before.bytes : 0;
}

/* A kind of a group. */
struct kind compare_kind(const struct model *before, const struct model *after, uint32_t kind);

/* By how many bytes live memory grew; 0 when it did not. */
uint64_t compare_grown(const struct compare_change *change);

/* The class that grew most, or ACCOUNT_CLASSES when none did. */
size_t compare_most(const struct compare *compare);

/* Live memory grew by as much as the limits say, its share being that of what was live. */
bool compare_is_leak(const struct compare *compare, const struct verdict_limits *limits);

#endif
