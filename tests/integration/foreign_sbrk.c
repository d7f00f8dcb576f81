/*
 * Somebody else moves the break between the heap's growths.  His memory stays his,
 * the heap's blocks keep their contents, and giving back takes nothing that is not
 * the heap's.  Layer: tests.
 */
#include <stdint.h>

#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"
#include "support/process.h"

#define ROUNDS  60
#define BLOCKS  40
#define FOREIGN 5000 /* not a multiple of a page, nor of 16 */

static void *foreign[ROUNDS];
static void *blocks[ROUNDS][BLOCKS];

static size_t foreign_start(size_t round)
{
	/* The pattern wants an aligned start. */
	return ((uintptr_t)foreign[round] + 7) & ~(uintptr_t)7;
}

static void foreign_take(size_t round)
{
	foreign[round] = sbrk(FOREIGN + (intptr_t)(round % 7));
	CHECK(foreign[round] != (void *)-1);
	pattern_fill((void *)foreign_start(round), FOREIGN - 8, round);
}

static void foreign_check(void)
{
	for (size_t round = 0; round < ROUNDS; round++)
		CHECK(pattern_match((void *)foreign_start(round), FOREIGN - 8, round) ==
		      FOREIGN - 8);
}

static size_t block_size(size_t round, size_t i)
{
	return 100 + (round * BLOCKS + i) * 1237 % 30000;
}

static void block_free(size_t round, size_t i)
{
	size_t size = block_size(round, i);

	CHECK(pattern_match(blocks[round][i], size, i) == size);
	heap_free(blocks[round][i]);
}

int main(void)
{
	for (size_t round = 0; round < ROUNDS; round++) {
		foreign_take(round);
		for (size_t i = 0; i < BLOCKS; i++) {
			blocks[round][i] = heap_malloc(block_size(round, i));
			pattern_fill(blocks[round][i], block_size(round, i), i);
		}
	}
	foreign_check();
	for (size_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BLOCKS; i += 2)
			block_free(round, i);
	}
	heap_trim(0);
	foreign_check();
	/* The end of the heap is no longer the break. */
	CHECK(sbrk(FOREIGN) != (void *)-1);
	for (size_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 1; i < BLOCKS; i += 2)
			block_free(round, i);
	}
	heap_trim(0);
	process_sleep_ms(700);
	foreign_check();
	char *block = memset(heap_malloc(100000), 1, 100000);

	foreign_check();
	heap_free(block);
	return 0;
}
