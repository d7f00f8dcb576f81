/*
 * One sentence about a heap: why does the process hold on to its memory?
 * Layer: doctor; a calculation on the model.
 */
#ifndef CEDE_DOCTOR_VERDICT_H
#define CEDE_DOCTOR_VERDICT_H

#include "doctor/gates.h"
#include "doctor/leaks.h"

enum verdict_kind {
	VERDICT_LIVE,            /* the program uses it, or too little to speak of is held */
	VERDICT_RETENTION,       /* free, on pages without use: it could go back */
	VERDICT_FRAGMENTATION,   /* free, but on pages that live blocks share */
	VERDICT_NOT_GLIBC,       /* most of it is not in glibc's heap */
	VERDICT_LEAK             /* in use, but nothing leads to it; or it grew between two
	                            looks (compare.h) */
};

/* "live", "retention", "fragmentation", "not glibc", "leak" */
const char *verdict_kind_name(enum verdict_kind kind);

/* From which share of the heap's resident bytes, and from how many bytes. */
struct verdict_limits {
	unsigned share_percent;
	uint64_t bytes;
};

#define VERDICT_LIMITS ((struct verdict_limits){ 25, 16ul << 20 })

struct verdict {
	enum verdict_kind kind;
	struct account account;
	struct trim trim;
	struct gate gates[GATE_KINDS];   /* those that hold the most first */
	size_t gate_count;
};

/* The model must be finished, and its audit passed; `other_allocator` says that the
 * process has another malloc than glibc's. */
void verdict_reach(const struct model *model, const struct verdict_limits *limits,
                   bool other_allocator, struct verdict *verdict);

/* Live, retention or fragmentation, of an account's heap_bytes, whole_bytes and shared_bytes. */
enum verdict_kind verdict_of_heap(const struct account *account,
                                  const struct verdict_limits *limits);

/* Makes a verdict that has been reached one of a leak, when what is lost weighs more. */
void verdict_weigh_leaks(const struct leaks *leaks, const struct verdict_limits *limits,
                         struct verdict *verdict);

#endif
