/*
 * The chunk: ptmalloc's unit of memory, with boundary tags.  Layer: heap.
 *
 * A chunk in use, and the one after it:
 *
 *   chunk -> +--------------------------------------------+
 *            | prev_size: the previous chunk's last bytes  |
 *            |   while it is in use, its size once free    |
 *            +---------------------------------------+-+-+-+
 *            | size of this chunk                    |A|M|P|
 *   block -> +---------------------------------------+-+-+-+
 *            | the program's bytes ...                    |
 *    next -> |   ... and 8 more: next's prev_size          |
 *            +---------------------------------------+-+-+-+
 *            | size of the next chunk                |A|M|P|
 *            +---------------------------------------+-+-+-+
 *
 * A free chunk keeps its links in the program's bytes, from `fd` on, and its
 * size once more in next's prev_size.  So 8 bytes of a chunk are overhead while
 * it is in use, and the smallest chunk is 32 bytes.
 *
 *   P  the previous chunk is in use: prev_size is not to be read
 *   M  the chunk is mapped by itself; prev_size is the distance to the mapping
 *   A  the chunk belongs to another arena than the main one
 *
 * Exceptions: a mapped chunk has no next.  The top chunk ends its arena and
 * leads to no header.  Chunks in fast bins look in use to their neighbours.
 *
 * I1: every chunk address and size is a multiple of 16, sizes are >= 32.
 * I2: no two neighbours are free (fast bins apart): each merge goes both ways.
 * I3: a free chunk's size equals next's prev_size.
 * Asserted by audit_arena().
 */
#ifndef CEDE_HEAP_CHUNK_H
#define CEDE_HEAP_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"

struct chunk {
	size_t prev_size;
	size_t size;
	struct chunk *fd; /* the rest only while free */
	struct chunk *bk;
	/* Large chunks.  classic: the next smaller and larger size (bins.h);
	 * default: the two subtrees (tree.h). */
	struct chunk *fd_nextsize;
	struct chunk *bk_nextsize;
};

#define PREV_INUSE     ((size_t)1)
#define IS_MMAPPED     ((size_t)2)
#define NON_MAIN_ARENA ((size_t)4)
#define SIZE_BITS      (PREV_INUSE | IS_MMAPPED | NON_MAIN_ARENA)

#define SIZE_SZ        sizeof(size_t)
#define CHUNK_ALIGN    ((size_t)16)
#define CHUNK_HEADER   (2 * SIZE_SZ)
#define MIN_CHUNK      ((size_t)32)

static inline void *chunk_to_block(const struct chunk *c)
{
	return (char *)c + CHUNK_HEADER;
}

static inline struct chunk *block_to_chunk(const void *block)
{
	return (struct chunk *)((char *)block - CHUNK_HEADER);
}

static inline struct chunk *chunk_at(const void *base, size_t offset)
{
	return (struct chunk *)((char *)base + offset);
}

static inline size_t chunk_size(const struct chunk *c)
{
	return c->size & ~SIZE_BITS;
}

/*
 * The size word of a chunk in use, read without its arena's lock: size, A and M
 * are the owner's, but a neighbour's thread may change P meanwhile.
 */
static inline size_t chunk_peek(const struct chunk *c)
{
	return __atomic_load_n(&c->size, __ATOMIC_RELAXED);
}

/* P of a chunk that may be in use, with the lock; see chunk_peek. */
static inline void chunk_set_prev_inuse(struct chunk *c)
{
	__atomic_store_n(&c->size, c->size | PREV_INUSE, __ATOMIC_RELAXED);
}

static inline void chunk_clear_prev_inuse(struct chunk *c)
{
	__atomic_store_n(&c->size, c->size & ~PREV_INUSE, __ATOMIC_RELAXED);
}

static inline struct chunk *chunk_next(const struct chunk *c)
{
	return chunk_at(c, chunk_size(c));
}

/* Only when the previous chunk is free. */
static inline struct chunk *chunk_prev(const struct chunk *c)
{
	return chunk_at(c, -c->prev_size);
}

static inline bool chunk_prev_inuse(const struct chunk *c)
{
	return (c->size & PREV_INUSE) != 0;
}

static inline bool chunk_is_mapped(const struct chunk *c)
{
	return (chunk_peek(c) & IS_MMAPPED) != 0;
}

/* Whether the chunk of that size at c is in use: its successor's P says so. */
static inline bool chunk_inuse_at(const struct chunk *c, size_t size)
{
	return (chunk_at(c, size)->size & PREV_INUSE) != 0;
}

/* A free chunk's size, at both ends. */
static inline void chunk_set_foot(struct chunk *c, size_t size)
{
	chunk_at(c, size)->prev_size = size;
}

/* The chunk that a request of `bytes` needs; bytes <= PTRDIFF_MAX. */
static inline size_t request_to_size(size_t bytes)
{
	size_t size = (bytes + SIZE_SZ + CHUNK_ALIGN - 1) & ~(CHUNK_ALIGN - 1);

	return size < MIN_CHUNK ? MIN_CHUNK : size;
}

/* The bytes a block of this chunk may hold. */
static inline size_t chunk_usable(const struct chunk *c)
{
	size_t size = chunk_peek(c);

	return (size & ~SIZE_BITS) - (size & IS_MMAPPED ? CHUNK_HEADER : SIZE_SZ);
}

#endif
