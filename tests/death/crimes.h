/*
 * The table of what a program can do wrong.  Layer: tests.
 */
#ifndef TESTS_DEATH_CRIMES_H
#define TESTS_DEATH_CRIMES_H

#include <stddef.h>

/*
 * Where a crime is one: in classic, in the default policy, there also without caches,
 * whose frees reach the heap at once.  The default policy has small blocks in slabs,
 * unless it has no window for them: then they are chunks, as in classic.
 */
#define IN_CLASSIC         1u
#define IN_DEFAULT         2u
#define IN_UNCACHED        4u
#define IN_CHUNKS          8u /* default without a window */
#define IN_CHUNKS_UNCACHED 16u
#define IN_SLABS           (IN_DEFAULT | IN_UNCACHED)
#define IN_HEAP            (IN_CLASSIC | IN_UNCACHED | IN_CHUNKS_UNCACHED)
#define IN_ALL             (IN_HEAP | IN_DEFAULT | IN_CHUNKS)

/* Requests of chunks; with slabs these are larger. */
struct crime_sizes {
	size_t fast;  /* classic: a fast chunk */
	size_t small; /* a small chunk */
	size_t large; /* a large one */
};
extern struct crime_sizes crime_sizes;

struct crime {
	const char *name;
	unsigned policies;
	void (*commit)(void);
	const char *call; /* the call that must notice */
	const char *what; /* extended regular expression for the phrase */
};

/* Ends with a crime without a name. */
extern const struct crime crimes[];

/* A crime tells which pointer the line must name; without, any will do. */
void crime_names(void *block);

#endif
