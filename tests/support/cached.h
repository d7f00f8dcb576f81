/*
 * The calling thread's cache, and what is in it.  Layer: tests; header only.  For children
 * of child_test.
 */
#ifndef TESTS_SUPPORT_CACHED_H
#define TESTS_SUPPORT_CACHED_H

#include <string.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/cache.h"
#include "heap/registry.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static bool with_slabs; /* small blocks are of slabs, not chunks: by an argument */
static struct arena *a;
static struct thread *t;

static inline void start(void)
{
	a = script_heap_of_slabs(true);
	if (!with_slabs)
		script_fail_from(OS_MAP_AT, 1);
	t = thread_self;
	EXPECT(t->caching);
}

static inline size_t held(unsigned class)
{
	const struct cache_bin *bin = thread_bin(t, class);

	return (size_t)(bin->top - thread_bin_array(t, bin));
}

static inline size_t held_at_all(void)
{
	size_t sum = 0;

	for (unsigned c = 0; c < CLASSES; c++)
		sum += held(c);
	return sum;
}

static inline void *get(size_t bytes)
{
	void *block = cede_malloc(bytes);

	EXPECT(block != NULL && cede_malloc_usable_size(block) >= bytes);
	return memset(block, 0x5a, bytes);
}

static inline size_t live_bytes(void)
{
	struct cede_stats stats;

	EXPECT(cede_stats(&stats, sizeof(stats)) == 0);
	return stats.live_bytes;
}

static inline void audit_all(void)
{
	for (struct arena *each = &main_arena; each != NULL; each = arena_following(each)) {
		lock_acquire(&each->lock);
		audit_arena(each);
		lock_release(&each->lock);
	}
}

static void *many[6000];

#endif
