/*
 * malloc's and free's fast paths, to be inlined under each of their names.
 * Layer: api.  What they compile to is in docs/thread-cache.md.
 */
#ifndef CEDE_API_FAST_H
#define CEDE_API_FAST_H

#include "heap/cache.h"

/* Of more than CLASS_EVEN bytes. */
void *malloc_larger(size_t bytes) HIDDEN;
/* The cache had no block, though it may have one by now. */
void *malloc_slow(size_t bytes) HIDDEN;
/* The cache did not take the block. */
void malloc_free_slow(void *block) HIDDEN;

static inline void *fast_malloc(size_t bytes)
{
	void *block;

	if (unlikely(bytes > CLASS_EVEN))
		return malloc_larger(bytes);
	block = cache_get(bytes);
	return likely(block != NULL) ? block : malloc_slow(bytes);
}

static inline void fast_free(void *block)
{
	if (unlikely(!cache_put(block)))
		malloc_free_slow(block);
}

/*
 * The caller says what it asked for: a block that holds so much, in whatever part of
 * the heap it lies.  One that does not is noticed when it leaves the cache.
 */
static inline void fast_free_sized(void *block, size_t bytes)
{
	if (likely(bytes <= CLASS_EVEN && block != NULL)) {
		if (unlikely(!cache_put_sized(block, bytes)))
			malloc_free_slow(block);
	} else {
		fast_free(block);
	}
}

#endif
