/*
 * libc's names for what api/malloc.c and api/extensions.c do.  Apart from them,
 * so that tests and sanitizers can have the one without the other.
 */
#include <malloc.h>
#include <stdlib.h>

#include "api/export.h"
#include "api/fast.h"
#include "cede/cede.h"

/* glibc's second names, and what its headers of today no longer declare. */
void cfree(void *block);
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
void __libc_cfree(void *block);
int __posix_memalign(void **out, size_t alignment, size_t size);
int __libc_mallopt(int param, int value);
struct mallinfo __libc_mallinfo(void);

/*
 * 32 bytes behind a line of the processor's cache: at the line's start it takes up to 15%
 * longer on Zen (docs/thread-cache.md).  What comes before it are instructions that nobody
 * runs; the attribute is for those who replace them.
 */
#define LINE_AND_32 __attribute__((aligned(64), patchable_function_entry(32, 32)))

EXPORT LINE_AND_32 void *malloc(size_t size) { return fast_malloc(size); }
EXPORT void free(void *block) { fast_free(block); }
EXPORT void *calloc(size_t count, size_t size) { return cede_calloc(count, size); }
EXPORT void *realloc(void *block, size_t size) { return cede_realloc(block, size); }

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	return cede_aligned_alloc(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	return cede_memalign(alignment, size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
	return cede_posix_memalign(out, alignment, size);
}

EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
	return cede_reallocarray(block, count, size);
}

EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size)
{
	cede_free_aligned_sized(block, alignment, size);
}

EXPORT void *valloc(size_t size) { return cede_valloc(size); }
EXPORT void *pvalloc(size_t size) { return cede_pvalloc(size); }
EXPORT size_t malloc_usable_size(void *block) { return cede_malloc_usable_size(block); }
EXPORT void free_sized(void *block, size_t size) { cede_free_sized(block, size); }
EXPORT void cfree(void *block) { cede_free(block); }

EXPORT int mallopt(int param, int value) { return cede_mallopt(param, value); }
EXPORT int malloc_trim(size_t pad) { return cede_malloc_trim(pad); }
EXPORT void malloc_stats(void) { cede_malloc_stats(); }
EXPORT int malloc_info(int options, FILE *stream) { return cede_malloc_info(options, stream); }

EXPORT struct mallinfo2 mallinfo2(void)
{
	struct mallinfo2 info;

	cede_mallinfo2(&info);
	return info;
}

EXPORT struct mallinfo __libc_mallinfo(void)
{
	struct mallinfo info;

	cede_mallinfo(&info);
	return info;
}

EXPORT struct mallinfo mallinfo(void) { return __libc_mallinfo(); }

EXPORT void *__libc_malloc(size_t size) { return cede_malloc(size); }
EXPORT void *__libc_calloc(size_t count, size_t size) { return cede_calloc(count, size); }
EXPORT void *__libc_realloc(void *block, size_t size) { return cede_realloc(block, size); }
EXPORT void __libc_free(void *block) { cede_free(block); }
EXPORT void *__libc_valloc(size_t size) { return cede_valloc(size); }
EXPORT void *__libc_pvalloc(size_t size) { return cede_pvalloc(size); }
EXPORT void __libc_cfree(void *block) { cede_free(block); }
EXPORT int __libc_mallopt(int param, int value) { return cede_mallopt(param, value); }

EXPORT void *__libc_memalign(size_t alignment, size_t size)
{
	return cede_memalign(alignment, size);
}

EXPORT int __posix_memalign(void **out, size_t alignment, size_t size)
{
	return cede_posix_memalign(out, alignment, size);
}
