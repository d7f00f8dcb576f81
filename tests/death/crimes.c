#include "death/crimes.h"

#include <stdint.h>
#include <sys/mman.h>

#include "support/heap.h"

#define FAST   crime_sizes.fast
#define SMALL  crime_sizes.small
#define LARGE  crime_sizes.large
#define MAPPED (64u << 20) /* a mapping of its own, in every policy */

struct crime_sizes crime_sizes;

/* Larger free chunks of the default policy are in trees, where a size that is alone has
 * links that nobody reads. */
#define IN_SMALL_BINS (IN_CLASSIC | IN_CHUNKS_UNCACHED)

#define SIZE_WORD(block)      ((size_t *)(block))[-1]
#define PREV_SIZE_WORD(block) ((size_t *)(block))[-2]
/* The links of a free chunk, in the block's place. */
#define FD(block)          ((void **)(block))[0]
#define BK(block)          ((void **)(block))[1]
#define FD_NEXTSIZE(block) ((void **)(block))[2]
#define BK_NEXTSIZE(block) ((void **)(block))[3]

/* The compiler must not know what it is, or it would warn of each crime. */
static char *take(size_t size)
{
	char *block = heap_malloc(size);

	__asm__ volatile("" : "+r"(block));
	return block;
}

/* A block, and one after it that stays, so that it does not join the top. */
static char *take_fenced(size_t size)
{
	char *block = take(size);

	memset(take(FAST), 0, FAST);
	return block;
}

/* A request that none of the free chunks serves moves them all into their bins. */
static void sort_bins(void)
{
	take(LARGE * 2);
}

static void blame_free(void *block)
{
	crime_names(block);
	heap_free(block);
}

static void blame_realloc(void *block, size_t size)
{
	crime_names(block);
	(void)!heap_realloc(block, size);
}

/* ---- freed twice ---- */

static void twice(char *block)
{
	heap_free(block);
	blame_free(block);
}

static void twice_fast(void)
{
	twice(take_fenced(FAST));
}

static void twice_small(void)
{
	twice(take_fenced(SMALL));
}

static void twice_after_others(void)
{
	char *first = take_fenced(SMALL), *second = take_fenced(SMALL);

	heap_free(first);
	heap_free(second);
	blame_free(first);
}

static void twice_merged(void)
{
	char *first = take(SMALL), *second = take_fenced(SMALL);

	heap_free(first);
	heap_free(second);
	blame_free(second);
}

static void twice_top(void)
{
	twice(take(SMALL));
}

static void twice_mapped(void)
{
	twice(take(MAPPED));
}

/* ---- not a block ---- */

/* Where no heap is. */
static char *foreign(void)
{
	take(SMALL);
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page + 64;
}

static void free_odd(void)
{
	blame_free(take_fenced(SMALL) + 1);
}

static void free_half_aligned(void)
{
	blame_free(take_fenced(SMALL) + 8);
}

static void free_stack(void)
{
	_Alignas(16) char here[4096] = { 0 };

	blame_free(here + 2048);
}

static void free_interior_zeros(void)
{
	blame_free((char *)memset(take_fenced(SMALL), 0, SMALL) + 64);
}

static void free_interior_text(void)
{
	blame_free((char *)memset(take_fenced(SMALL), 'A', SMALL) + 64);
}

static void free_foreign(void)
{
	blame_free(foreign());
}

static void realloc_odd(void)
{
	blame_realloc(take_fenced(SMALL) + 8, SMALL * 2);
}

static void realloc_foreign(void)
{
	blame_realloc(foreign(), SMALL);
}

static void realloc_freed(void)
{
	char *block = take_fenced(SMALL);

	heap_free(block);
	blame_realloc(block, SMALL * 2);
}

/* ---- headers overwritten ---- */

static void size_text(void)
{
	char *block = take_fenced(SMALL);

	memset(block - sizeof(size_t), 'A', sizeof(size_t));
	blame_free(block);
}

static void size_zero(void)
{
	char *block = take_fenced(SMALL);

	SIZE_WORD(block) = 0;
	blame_free(block);
}

static void size_too_long(void)
{
	char *block = take_fenced(SMALL);

	for (int i = 0; i < 6; i++)
		memset(take(SMALL), 0, SMALL);
	SIZE_WORD(block) += 4 * SMALL - 4 * SMALL % 16;
	blame_free(block);
}

static void next_size_zero(void)
{
	char *block = take(SMALL), *next = take_fenced(SMALL);

	SIZE_WORD(next) = 1;
	blame_free(block);
}

static void next_size_huge(void)
{
	char *block = take(SMALL), *next = take_fenced(SMALL);

	SIZE_WORD(next) = ~(size_t)0 << 5 | 1;
	blame_free(block);
}

static void prev_size_wrong(void)
{
	char *first = take(SMALL), *second = take_fenced(SMALL);

	heap_free(first);
	PREV_SIZE_WORD(second) -= 64;
	blame_free(second);
}

static void free_size_wrong(void)
{
	char *block = take_fenced(SMALL);

	take_fenced(SMALL);
	heap_free(block);
	SIZE_WORD(block) = 64 | 1;
	take(2 * SMALL);
}

static void mapped_size_wrong(void)
{
	char *block = take(MAPPED);

	SIZE_WORD(block) += 32;
	blame_free(block);
}

static void mapped_start_wrong(void)
{
	char *block = take(MAPPED);

	PREV_SIZE_WORD(block) = 48;
	blame_free(block);
}

static void mapped_realloc_wrong(void)
{
	char *block = take(MAPPED);

	SIZE_WORD(block) += 32;
	blame_realloc(block, 2 * MAPPED);
}

static void top_huge(void)
{
	char *block = take(SMALL);
	/* The size word of what follows, which is the top. */
	size_t *top_size = (size_t *)(block + heap_usable_size(block));

	*top_size = ~(size_t)0;
	take(LARGE);
}

/* ---- links overwritten ---- */

/* A merge takes the neighbour out of its bin; link 0 is its FD, 1 its BK. */
static void merge_over(int link)
{
	char *first = take(SMALL), *second = take_fenced(SMALL);

	heap_free(first);
	sort_bins();
	((void **)first)[link] = first + 64;
	heap_free(second);
}

static void links_merge(void)
{
	merge_over(0);
}

static void links_back_merge(void)
{
	merge_over(1);
}

static void links_small(void)
{
	char *block = take_fenced(SMALL);

	heap_free(block);
	sort_bins();
	BK(block) = block + 64;
	take(SMALL);
}

static void links_unsorted(void)
{
	char *block = take_fenced(SMALL);

	heap_free(block);
	BK(block) = block + 64;
	take(LARGE);
}

/* Two sizes in one large bin; the larger one's size links lead astray. */
static void links_large(void)
{
	char *first = take(LARGE), *second = take_fenced(SMALL);
	char *other = take_fenced(LARGE + 32);

	memset(first, 0, LARGE);
	heap_free(first);
	heap_free(other);
	sort_bins();
	FD_NEXTSIZE(first) = first + 64;
	BK_NEXTSIZE(first) = first + 64;
	heap_free(second);
}

/* ---- fast bins ---- */

static void fast_size_wrong(void)
{
	char *block = take_fenced(FAST);

	heap_free(block);
	SIZE_WORD(block) = 128 | 1;
	take(FAST);
}

static __attribute__((unused)) void fast_link_odd(void)
{
	char *first = take_fenced(FAST), *second = take_fenced(FAST);

	heap_free(first);
	heap_free(second);
	FD(second) = (char *)FD(second) + 8;
	take(FAST);
	take(FAST);
}

/* ---- blocks of slabs ---- */

#define HELD   96u /* a class, and in the next word what a block of it holds */
#define WORDS  (HELD / sizeof(size_t))

/* A block, and one after it that stays, so that the slab does. */
static size_t *take_slab(void)
{
	void *block = take(HELD);

	memset(take(HELD), 'A', HELD);
	return memset(block, 'A', HELD);
}

/* The block is in its slab, whatever caches there are. */
static size_t *freed_to_slab(size_t *block)
{
	heap_free(block);
	heap_trim(0);
	return block;
}

static void slab_twice(void)
{
	twice((char *)take_slab());
}

static void slab_twice_after_others(void)
{
	size_t *block = take_slab();

	heap_free(block);
	for (int i = 0; i < 100; i++)
		heap_free(take(HELD + 64));
	heap_free(take(HELD));
	heap_free(take_slab());
	blame_free(block);
}

static void slab_twice_left_cache(void)
{
	blame_free(freed_to_slab(take_slab()));
}

/* Nothing in the block tells that it was freed. */
static void slab_twice_rewritten(void)
{
	blame_free(memset(freed_to_slab(take_slab()), 'A', HELD));
}

static void slab_never_taken(void)
{
	blame_free(take_slab() + 20 * WORDS);
}

static void slab_ended(void)
{
	blame_free(freed_to_slab((size_t *)take(HELD)));
}

/* Another class has its place, and a block of it begins elsewhere. */
static void slab_ended_and_another(void)
{
	char *others[8], *old;

	for (int i = 0; i < 8; i++)
		others[i] = take(HELD);
	old = others[5];
	for (int i = 0; i < 8; i++)
		heap_free(others[i]);
	heap_trim(0);
	for (int i = 0; i < 8; i++)
		memset(take(2 * HELD + 16), 'A', 2 * HELD + 16);
	blame_free(old);
}

static void slab_odd(void)
{
	blame_free((char *)take_slab() + 8);
}

static void slab_interior(void)
{
	blame_free((char *)take_slab() + 32);
}

static void slab_interior_realloc(void)
{
	blame_realloc((char *)take_slab() + 32, 2 * HELD);
}

/* 65536 bytes are no multiple of a block. */
static void slab_past_the_last(void)
{
	uintptr_t unit = 64u << 10, start = (uintptr_t)take_slab() & -unit;

	blame_free((void *)(start + unit / HELD * HELD));
}

static void slab_unit_without_slab(void)
{
	uintptr_t unit = 64u << 10, start = (uintptr_t)take_slab() & -unit;

	blame_free((void *)(start + 8 * unit));
}

static void slab_realloc_freed(void)
{
	size_t *block = take_slab();

	heap_free(block);
	blame_realloc(block, 2 * HELD);
}

static void slab_realloc_left_cache(void)
{
	blame_realloc(freed_to_slab(take_slab()), 2 * HELD);
}

/* ---- freed with a size ---- */

/* The bin of the size given has room, or it would not be asked. */
static void sized_too_large(void)
{
	heap_free(take(10 * HELD));
	size_t *block = take_slab();

	crime_names(block);
	cede_free_sized(block, 10 * HELD);
}

static void sized_too_large_chunk(void)
{
	char *block = take(FAST);

	heap_free(take(512));
	crime_names(block);
	cede_free_sized(block, 512);
}

static void sized_interior(void)
{
	char *block = (char *)take_slab() + 32;

	crime_names(block);
	cede_free_sized(block, HELD);
}

static void sized_twice(void)
{
	size_t *block = take_slab();

	crime_names(block);
	cede_free_sized(block, HELD);
	cede_free_sized(block, HELD);
}

/* In the bins of two classes at once. */
static void sized_twice_differently(void)
{
	size_t *block = take_slab();

	crime_names(block);
	heap_free(take(HELD / 2));
	cede_free_sized(block, HELD);
	block[1] = 0;
	cede_free_sized(block, HELD / 2);
}

const struct crime crimes[] = {
	{ "twice_fast", IN_ALL, twice_fast, "free", "double free" },
	{ "twice_small", IN_ALL, twice_small, "free", "double free" },
	{ "twice_after_others", IN_ALL, twice_after_others, "free", "double free" },
	{ "twice_merged", IN_ALL, twice_merged, "free", "double free" },
	{ "twice_top", IN_ALL, twice_top, "free", "double free" },
	{ "twice_mapped", IN_ALL, twice_mapped, "free", "double free|invalid pointer" },
	{ "free_odd", IN_ALL, free_odd, "free", "invalid pointer" },
	{ "free_half_aligned", IN_ALL, free_half_aligned, "free", "invalid pointer" },
	{ "free_stack", IN_ALL, free_stack, "free", "invalid pointer" },
	{ "free_interior_zeros", IN_ALL, free_interior_zeros, "free", "invalid pointer" },
	{ "free_interior_text", IN_ALL, free_interior_text, "free",
	  "invalid pointer|double free, or corrupted size" },
	{ "free_foreign", IN_ALL, free_foreign, "free", "invalid pointer" },
	{ "realloc_odd", IN_ALL, realloc_odd, "realloc", "invalid pointer" },
	{ "realloc_foreign", IN_ALL, realloc_foreign, "realloc", "invalid pointer" },
	{ "realloc_freed", IN_ALL, realloc_freed, "realloc", "invalid pointer|double free" },
	{ "size_text", IN_ALL, size_text, "free",
	  "invalid pointer|(double free, or )?corrupted size" },
	{ "size_zero", IN_ALL, size_zero, "free", "invalid pointer|corrupted size" },
	{ "size_too_long", IN_ALL, size_too_long, "free", "double free|corrupted size" },
	{ "next_size_zero", IN_ALL, next_size_zero, "free", "corrupted size" },
	{ "next_size_huge", IN_ALL, next_size_huge, "free", "corrupted size" },
	{ "prev_size_wrong", IN_HEAP, prev_size_wrong, "free", "corrupted size" },
	{ "free_size_wrong", IN_HEAP, free_size_wrong, "malloc", "corrupted size" },
	{ "mapped_size_wrong", IN_ALL, mapped_size_wrong, "free",
	  "invalid pointer|corrupted size" },
	{ "mapped_start_wrong", IN_ALL, mapped_start_wrong, "free",
	  "invalid pointer|corrupted size" },
	{ "mapped_realloc_wrong", IN_ALL, mapped_realloc_wrong, "realloc",
	  "invalid pointer|corrupted size" },
	{ "top_huge", IN_ALL, top_huge, "malloc", "corrupted top" },
	{ "links_merge", IN_HEAP, links_merge, "heap", "corrupted links" },
	{ "links_back_merge", IN_SMALL_BINS, links_back_merge, "heap", "corrupted links" },
	{ "links_small", IN_SMALL_BINS, links_small, "malloc", "corrupted (links|small bin)" },
	{ "links_unsorted", IN_HEAP, links_unsorted, "malloc", "corrupted (links|unsorted bin)" },
	{ "links_large", IN_HEAP, links_large, "heap", "corrupted links" },
	{ "fast_size_wrong", IN_CLASSIC, fast_size_wrong, "malloc", "corrupted fast bin" },
	{ "slab_twice", IN_SLABS, slab_twice, "free", "double free" },
	{ "slab_twice_after_others", IN_SLABS, slab_twice_after_others, "free", "double free" },
	{ "slab_twice_left_cache", IN_SLABS, slab_twice_left_cache, "free", "double free" },
	{ "slab_twice_rewritten", IN_SLABS, slab_twice_rewritten, "free", "double free" },
	{ "slab_never_taken", IN_SLABS, slab_never_taken, "free", "double free" },
	{ "slab_ended", IN_SLABS, slab_ended, "free", "double free, or invalid pointer: no block" },
	{ "slab_ended_and_another", IN_SLABS, slab_ended_and_another, "free",
	  "invalid pointer: inside a block" },
	{ "slab_odd", IN_SLABS, slab_odd, "free", "invalid pointer: not a multiple" },
	{ "slab_interior", IN_SLABS, slab_interior, "free", "invalid pointer: inside a block" },
	{ "slab_interior_realloc", IN_SLABS, slab_interior_realloc, "realloc",
	  "invalid pointer: inside a block" },
	{ "slab_past_the_last", IN_SLABS, slab_past_the_last, "free",
	  "double free, or invalid pointer: no block" },
	{ "slab_unit_without_slab", IN_SLABS, slab_unit_without_slab, "free",
	  "double free, or invalid pointer: no block" },
	{ "slab_realloc_freed", IN_SLABS, slab_realloc_freed, "realloc", "double free" },
	{ "slab_realloc_left_cache", IN_SLABS, slab_realloc_left_cache, "realloc", "double free" },
	{ "sized_too_large", IN_DEFAULT, sized_too_large, "free_sized", "the block is smaller" },
	{ "sized_too_large_chunk", IN_CHUNKS, sized_too_large_chunk, "free_sized",
	  "the block is smaller" },
	{ "sized_interior", IN_DEFAULT, sized_interior, "free", "invalid pointer: inside a block" },
	{ "sized_twice", IN_SLABS, sized_twice, "free", "double free" },
	{ "sized_twice_differently", IN_SLABS, sized_twice_differently, "free", "double free" },
#ifndef CEDE_AUDIT /* whose walk between the two calls follows the link first */
	{ "fast_link_odd", IN_CLASSIC, fast_link_odd, "malloc", "corrupted fast bin" },
#endif
	{ 0 },
};
