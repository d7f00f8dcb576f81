/*
 * The malloc family under test.  A program built with TESTS_PREFIXED calls the
 * cede_* names inside itself; without it, the plain names, which are libc's or,
 * preloaded, cede's.  One source then serves every way to run the heap.
 * Layer: tests.
 */
#ifndef TESTS_SUPPORT_HEAP_H
#define TESTS_SUPPORT_HEAP_H

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef TESTS_PREFIXED

#include "cede/cede.h"

#define heap_malloc         cede_malloc
#define heap_free           cede_free
#define heap_free_sized     cede_free_sized
#define heap_calloc         cede_calloc
#define heap_realloc        cede_realloc
#define heap_reallocarray   cede_reallocarray
#define heap_memalign       cede_memalign
#define heap_aligned_alloc  cede_aligned_alloc
#define heap_posix_memalign cede_posix_memalign
#define heap_valloc         cede_valloc
#define heap_pvalloc        cede_pvalloc
#define heap_usable_size    cede_malloc_usable_size
#define heap_mallopt        cede_mallopt
#define heap_trim           cede_malloc_trim
#define heap_info           cede_malloc_info

static inline struct mallinfo2 heap_mallinfo2(void)
{
	struct mallinfo2 info;

	cede_mallinfo2(&info);
	return info;
}

#else

#define heap_malloc         malloc
#define heap_free           free
#define heap_calloc         calloc
#define heap_realloc        realloc
#define heap_reallocarray   reallocarray
#define heap_memalign       memalign
#define heap_aligned_alloc  aligned_alloc
#define heap_posix_memalign posix_memalign
#define heap_valloc         valloc
#define heap_pvalloc        pvalloc
#define heap_usable_size    malloc_usable_size
#define heap_mallopt        mallopt
#define heap_trim           malloc_trim
#define heap_info           malloc_info
#define heap_mallinfo2      mallinfo2

/* Of C23: libc may not have it. */
__attribute__((weak)) void free_sized(void *block, size_t size);

static inline void heap_free_sized(void *block, size_t size)
{
	if (free_sized != NULL)
		free_sized(block, size);
	else
		free(block);
}

#endif

/* How the run was set up: the registered tests say it in CEDE_OPTIONS, and a run
 * against libc has no such variable. */
static inline bool heap_option(const char *option)
{
	const char *options = getenv("CEDE_OPTIONS");

	return options != NULL && strstr(options, option) != NULL;
}

static inline bool heap_is_cede(void)
{
	return heap_option("");
}

static inline bool heap_is_default(void)
{
	return heap_option("policy=default");
}

static inline bool heap_has_purger(void)
{
	return heap_is_default() && !heap_option("background=off");
}

#endif
