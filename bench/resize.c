/*
 * resize: blocks that are large, and blocks that grow.  Layer: a program of its own
 * that links libc alone; the runner preloads the allocator.
 *
 *   resize large COUNT   COUNT blocks of 128 KiB to 16 MiB in turn, each touched on
 *       every page; at most four live at once
 *   resize grow STEPS    64 blocks that realloc makes an eighth longer, each until it
 *       passes a length of its own (4 KiB to 1 MiB, one of them 64 MiB), when it is
 *       cut back to 64 bytes; what was written must still be there
 */
#include <stdbool.h>
#include <string.h>

#include "block.h"

#define LIVE   4
#define CHAINS 64
#define STRIDE 4096 /* no page is smaller */

static uint64_t large(size_t count)
{
	struct block *held[LIVE] = { NULL };
	struct rng rng = { 2 };
	uint64_t bytes = 0;

	for (size_t i = 0; i < count + LIVE; i++) {
		struct block **slot = &held[i % LIVE];
		size_t low = (128ul << 10) << rng_below(&rng, 7);
		size_t size = low + rng_below(&rng, low);

		if (*slot != NULL)
			bytes += block_give(*slot);
		*slot = NULL;
		if (i >= count)
			continue;
		*slot = block_take(size);
		for (size_t at = STRIDE; at + 1 < size; at += STRIDE)
			((volatile char *)*slot)[at] = 1;
	}
	return bytes;
}

/* Words that count up from `seed`, in a block that only grows until it is cut. */
struct chain {
	uint64_t *words;
	size_t count;       /* of words, all of them written */
	size_t limit;       /* of words */
};

static void chain_resize(struct chain *chain, size_t count, uint64_t seed)
{
	size_t kept = count < chain->count ? count : chain->count;

	chain->words = realloc(chain->words, count * sizeof(uint64_t));
	CHECK(chain->words != NULL);
	CHECK(kept == 0 || (chain->words[0] == seed && chain->words[kept - 1] == seed + kept - 1));
	for (size_t i = kept; i < count; i++)
		chain->words[i] = seed + i;
	chain->count = count;
}

static uint64_t grow(size_t steps)
{
	struct chain chains[CHAINS] = { { NULL, 0, 0 } };
	struct rng rng = { 3 };
	uint64_t bytes = 0;

	for (size_t i = 0; i < CHAINS; i++)
		chains[i].limit = (512 << rng_below(&rng, 9)) + rng_below(&rng, 512);
	chains[0].limit = 8ul << 20;
	for (size_t step = 0; step < steps; step++) {
		size_t seed = rng_below(&rng, CHAINS);
		struct chain *chain = &chains[seed];
		bool is_cut = chain->count > chain->limit;

		chain_resize(chain, is_cut ? 8 : chain->count + chain->count / 8 + 8, seed);
		bytes += chain->count * sizeof(uint64_t);
	}
	for (size_t i = 0; i < CHAINS; i++)
		free(chains[i].words);
	return bytes;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "large"))
		report(large(argument(argc, argv, 2)));
	else if (!strcmp(pattern, "grow"))
		report(grow(argument(argc, argv, 2)));
	else
		CHECK_THAT(false, "no such pattern: %s", pattern);
	return 0;
}
