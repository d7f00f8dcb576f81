/*
 * What glibc adds to the family, and what cede adds to that.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "api/export.h"
#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/extent.h"
#include "heap/giving.h"
#include "heap/heap.h"
#include "heap/registry.h"
#include "heap/subheap.h"
#include "introspect/stats.h"
#include "introspect/text.h"
#include "os/os.h"

EXPORT int cede_mallopt(int param, int value)
{
	int accepted;

	(void)registry_self();
	lock_acquire(&main_arena.lock);
	/* Fast bins of a size that is no longer fast would never be emptied. */
	free_consolidate(&main_arena);
	/* The default policy has no fast bins, not even for a moment. */
	if (policy_is_default() && param == M_MXFAST)
		accepted = value >= 0 && (size_t)value <= MAX_MXFAST;
	else
		accepted = settings_mallopt(&settings, param, value);
	cache_configure();
	lock_release(&main_arena.lock);
	if (!cache_is_on())
		(void)cache_drain_idle(true);
	return accepted;
}

/* Trims every arena's end, and in classic the rest of it. */
static size_t trim_arenas(size_t pad)
{
	size_t gone = 0;

	for (struct arena *a = &main_arena; a != NULL; a = arena_following(a)) {
		lock_acquire(&a->lock);
		if (!policy_is_default())
			gone += trim_arena(a, pad);
		else if (arena_is_main(a))
			gone += grow_trim_main(a, pad);
		else
			gone += subheap_trim(a, pad, true);
		AUDIT(a);
		lock_release(&a->lock);
	}
	return gone;
}

/*
 * Statistics count what is cached as free: it is freed first, as far as its threads
 * are not at work this moment.
 */
static void count_cached(void)
{
	(void)registry_self();
	(void)cache_drain_idle(true);
}

EXPORT int cede_malloc_trim(size_t pad)
{
	size_t gone = 0, ends;

	(void)registry_self();
	/* Pages first, outside the locks: then moving the ends is quick. */
	if (policy_is_default()) {
		(void)cache_drain_idle(true);
		gone = giving_release(SIZE_MAX);
	}
	ends = trim_arenas(pad);
	/* By default these are addresses alone, unless the system refused to take pages. */
	return gone != 0 ||
	       (ends != 0 && (!policy_is_default() || __atomic_load_n(&extent_unsure, __ATOMIC_RELAXED)));
}

EXPORT size_t cede_release(size_t max_bytes)
{
	(void)registry_self();
	if (!policy_is_default())
		return trim_arenas(0);
	(void)cache_drain_idle(true);
	return giving_release(max_bytes != 0 ? max_bytes : SIZE_MAX);
}

EXPORT int cede_stats(struct cede_stats *out, size_t size)
{
	struct cede_stats all;

	if (out == NULL)
		return EINVAL;
	count_cached();
	stats_fill(&all);
	memset(out, 0, size);
	memcpy(out, &all, size < sizeof(all) ? size : sizeof(all));
	return 0;
}

static void to_stderr(void *ctx, const char *text, size_t length)
{
	(void)ctx;
	os_write_error(text, length);
}

/* To descriptor 2 and not to the stream, whose buffer would be a block more. */
EXPORT void cede_malloc_stats(void)
{
	count_cached();
	text_malloc_stats(to_stderr, NULL);
}

static void to_stream(void *ctx, const char *text, size_t length)
{
	(void)fwrite(text, 1, length, ctx);
}

EXPORT int cede_malloc_info(int options, void *stream)
{
	if (options != 0)
		return EINVAL;
	count_cached();
	text_malloc_info(to_stream, stream);
	return 0;
}

EXPORT void cede_mallinfo2(struct mallinfo2 *out)
{
	count_cached();
	text_mallinfo2(out);
}

EXPORT void cede_mallinfo(struct mallinfo *out)
{
	struct mallinfo2 wide;

	cede_mallinfo2(&wide);
	*out = (struct mallinfo){
		.arena = (int)wide.arena,
		.ordblks = (int)wide.ordblks,
		.smblks = (int)wide.smblks,
		.hblks = (int)wide.hblks,
		.hblkhd = (int)wide.hblkhd,
		.usmblks = (int)wide.usmblks,
		.fsmblks = (int)wide.fsmblks,
		.uordblks = (int)wide.uordblks,
		.fordblks = (int)wide.fordblks,
		.keepcost = (int)wide.keepcost,
	};
}

#define TEXT_OF(x) #x
#define VERSION(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

EXPORT const char *cede_version(void)
{
	return VERSION(CEDE_VERSION_MAJOR, CEDE_VERSION_MINOR, CEDE_VERSION_PATCH);
}
