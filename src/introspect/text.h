/*
 * The texts of malloc_stats and malloc_info and the numbers of mallinfo, made
 * from snapshots.  Layer: introspect.  Holds no lock and allocates nothing.
 */
#ifndef CEDE_INTROSPECT_TEXT_H
#define CEDE_INTROSPECT_TEXT_H

#include <stddef.h>

/* Receives the text piece by piece; ctx is the caller's. */
typedef void text_sink_fn(void *ctx, const char *text, size_t length);

/*
 * malloc_stats: glibc's text first, line for line, then cede's own lines.
 */
void text_malloc_stats(text_sink_fn *sink, void *ctx);

/*
 * malloc_info(0): glibc's XML, well formed, one <heap> an arena.  In the default
 * policy the sizes have a <slab> for each class with free blocks; and each heap, and
 * the whole, ends with <slabs>, which has struct slab_sums, <pages>, which has bytes,
 * and <lock>.
 */
void text_malloc_info(text_sink_fn *sink, void *ctx);

struct mallinfo2;
/* mallinfo2 over all arenas, field for field as glibc counts them. */
void text_mallinfo2(struct mallinfo2 *out);

#endif
