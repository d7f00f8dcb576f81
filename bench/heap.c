/*
 * A heap to be looked at from outside: one list through so many blocks of a size, in the
 * order of their addresses or in none; then a part of them, by chance, is given back.
 *
 *   heap BLOCKS BYTES ordered|shuffled PERCENT
 *
 * It writes "ready" and waits for the end of its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "support/check.h"
#include "support/pattern.h"

struct node {
	struct node *next;
	uint64_t zero;
};

static struct node *first;

static struct node **nodes_take(size_t count, size_t bytes)
{
	/* Not of the heap. */
	struct node **nodes = mmap(NULL, count * sizeof(*nodes), PROT_READ | PROT_WRITE,
	                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(nodes != MAP_FAILED && bytes >= sizeof(struct node));
	for (size_t i = 0; i < count; i++) {
		nodes[i] = malloc(bytes);
		CHECK(nodes[i] != NULL);
		memset(nodes[i], 0, bytes);
	}
	return nodes;
}

static void nodes_shuffle(struct node **nodes, size_t count, struct rng *rng)
{
	for (size_t i = count - 1; i > 0; i--) {
		size_t other = rng_below(rng, i);
		struct node *node = nodes[i];

		nodes[i] = nodes[other];
		nodes[other] = node;
	}
}

int main(int argc, char **argv)
{
	struct rng rng = { 1 };
	struct node **nodes;
	size_t count;

	CHECK_THAT(argc == 5, "%d arguments, not 4", argc - 1);
	count = strtoul(argv[1], NULL, 10);
	nodes = nodes_take(count, strtoul(argv[2], NULL, 10));
	if (!strcmp(argv[3], "shuffled"))
		nodes_shuffle(nodes, count, &rng);
	for (size_t i = 0; i < count; i++) {
		if (rng_below(&rng, 100) < strtoul(argv[4], NULL, 10)) {
			free(nodes[i]);
			continue;
		}
		nodes[i]->next = first;
		first = nodes[i];
	}
	munmap(nodes, count * sizeof(*nodes));
	puts("ready");
	fflush(stdout);
	return getchar() != EOF;
}
