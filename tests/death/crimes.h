/*
 * The table of what a program can do wrong.  Layer: tests.
 */
#ifndef TESTS_DEATH_CRIMES_H
#define TESTS_DEATH_CRIMES_H

/* Where a crime is one: the default policy, classic, and default without caches,
 * whose frees reach the heap at once. */
#define IN_DEFAULT  1u
#define IN_CLASSIC  2u
#define IN_UNCACHED 4u
#define IN_HEAP     (IN_CLASSIC | IN_UNCACHED)
#define IN_ALL      (IN_DEFAULT | IN_HEAP)

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
