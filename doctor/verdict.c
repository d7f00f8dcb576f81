#include "doctor/verdict.h"

const char *verdict_kind_name(enum verdict_kind kind)
{
	static const char *const names[] = {
		[VERDICT_LIVE] = "live", [VERDICT_RETENTION] = "retention",
		[VERDICT_FRAGMENTATION] = "fragmentation", [VERDICT_NOT_GLIBC] = "not glibc",
		[VERDICT_LEAK] = "leak",
	};

	return names[kind];
}

static bool exceeds(const struct verdict_limits *limits, uint64_t bytes, uint64_t whole)
{
	return bytes >= limits->bytes && 100 * bytes >= limits->share_percent * whole;
}

/* The larger leads: a heap may have both. */
enum verdict_kind verdict_of_heap(const struct account *account,
                                  const struct verdict_limits *limits)
{
	bool retains = exceeds(limits, account->whole_bytes, account->heap_bytes);
	bool fragments = exceeds(limits, account->shared_bytes, account->heap_bytes);

	if (retains && (!fragments || account->whole_bytes >= account->shared_bytes))
		return VERDICT_RETENTION;
	return fragments ? VERDICT_FRAGMENTATION : VERDICT_LIVE;
}

/* What glibc's heap holds explains little of a process that has most elsewhere. */
static bool is_elsewhere(const struct account *account, const struct verdict_limits *limits,
                         bool other_allocator, enum verdict_kind kind)
{
	if (other_allocator)
		return account->heap_bytes <= account->other_bytes;
	return kind == VERDICT_LIVE && account->other_bytes >= limits->bytes &&
	       account->other_bytes / 3 >= account->heap_bytes;
}

void verdict_reach(const struct model *model, const struct verdict_limits *limits,
                   bool other_allocator, struct verdict *verdict)
{
	*verdict = (struct verdict){ 0 };
	account_fill(model, &verdict->account);
	trim_predict(model, &verdict->trim);
	verdict->gate_count = gates_find(model, &verdict->account, &verdict->trim, verdict->gates);
	verdict->kind = verdict_of_heap(&verdict->account, limits);
	if (is_elsewhere(&verdict->account, limits, other_allocator, verdict->kind))
		verdict->kind = VERDICT_NOT_GLIBC;
}

void verdict_weigh_leaks(const struct leaks *leaks, const struct verdict_limits *limits,
                         struct verdict *verdict)
{
	const struct account *account = &verdict->account;
	uint64_t other = verdict->kind == VERDICT_RETENTION ? account->whole_bytes :
	                 verdict->kind == VERDICT_FRAGMENTATION ? account->shared_bytes : 0;

	if (verdict->kind != VERDICT_NOT_GLIBC && leaks->lost_bytes >= other &&
	    exceeds(limits, leaks->lost_bytes, account->heap_bytes))
		verdict->kind = VERDICT_LEAK;
}
