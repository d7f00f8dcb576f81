/*
 * What was freed goes back: programs that fill memory, free it and do nothing more.
 * Layer: tests; on libc's names, so that any allocator can be preloaded.
 *
 *   return WAY CASE [NUMBER ...]       WAY as in rest.h
 *
 *     blocks LOW HIGH MIB KEEP SHUFFLED   MIB of blocks of LOW to HIGH bytes; freed but for
 *                                         one in KEEP (0: all), then these; SHUFFLED 1: in
 *                                         random order
 *     list COUNT KEPT      COUNT blocks of 64 KiB among KEPT list nodes of 24 bytes; the
 *                          blocks are freed, then the nodes
 *     pin COUNT            COUNT blocks of 4 KiB, and one of a byte, which stays
 *     realloc COUNT MIB    COUNT blocks, each grown by a half at a time to MIB, then cut
 *                          to 100 bytes
 *     phases MIB           phases of blocks of different sizes, MIB each, of which 2% live
 *                          to the end
 *
 *     asleep THREADS MIB   each thread takes MIB of blocks of 16 B to 200 KiB, frees them and
 *                          sleeps
 *     crumbs THREADS LOW HIGH STEP BYTES   the same with BYTES, one block at least, of
 *                          each size from LOW to HIGH in steps of STEP
 *     ended THREADS MIB    each takes MIB, eight at a time, frees half of its blocks and
 *                          ends; the main thread frees the others
 *     relay COUNT          a thread takes COUNT blocks of 100 bytes, another frees them;
 *                          both sleep
 *     fork MIB             MIB of blocks are freed by the parent and by the child
 *     idle SECONDS         sixteen threads freed all and sleep: none wakes up in SECONDS
 */
#include <stdlib.h>
#include <string.h>

#include "return/blocks.h"
#include "return/rest.h"
#include "return/threads.h"
#include "support/check.h"

#define MIB          ((size_t)1 << 20)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MOST_NUMBERS 5

static void blocks(const char *way, const size_t *numbers)
{
	size_t low = numbers[0], high = numbers[1], bytes = numbers[2] * MIB, keep = numbers[3];
	struct blocks blocks;

	blocks_make(&blocks, low, high, bytes);
	rest_start(way);
	blocks_take(&blocks, low, high, bytes);
	rest_full();
	if (numbers[4] != 0)
		blocks_shuffle(&blocks);
	blocks_free(&blocks, keep);
	rest_check("freed", 0);
	if (keep != 0) {
		rest_drop();
		rest_check("all freed", 0);
	}
}

static void list(const char *way, const size_t *numbers)
{
	size_t count = numbers[0], kept = numbers[1];
	struct blocks large;

	blocks_make(&large, 65536, 65536, count * 65536);
	rest_start(way);
	for (size_t i = 0; i < count; i++) {
		blocks_take(&large, 65536, 65536, 65536);
		for (size_t node = kept * i / count; node < kept * (i + 1) / count; node++)
			rest_keep(memset(malloc(24), 'a', 24), 24);
	}
	rest_full();
	blocks_free(&large, 0);
	rest_check("blocks freed", 0);
	rest_drop();
	rest_check("cleared", 0);
}

static void pin(const char *way, const size_t *numbers)
{
	size_t bytes = numbers[0] * 4096;
	struct blocks blocks;

	blocks_make(&blocks, 4096, 4096, bytes);
	rest_start(way);
	blocks_take(&blocks, 4096, 4096, bytes);
	rest_keep(memset(malloc(1), 'a', 1), 1);
	rest_full();
	blocks_free(&blocks, 0);
	rest_check("freed", 0);
}

/* One at a time: several that grow at once would need room to pass each other. */
static void grow_and_cut(const char *way, const size_t *numbers)
{
	size_t most = numbers[1] * MIB;

	rest_start(way);
	for (size_t i = 0; i < numbers[0]; i++) {
		char *block = NULL;
		size_t size = 0;

		for (size_t next = 16; next <= most; next += next / 2) {
			block = realloc(block, next);
			CHECK(block != NULL);
			memset(block + size, 'a', next - size);
			size = next;
		}
		if (i + 1 == numbers[0])
			rest_full();
		block = realloc(block, 100);
		rest_keep(block, 100);
	}
	rest_check("cut", 0);
	rest_drop();
	rest_check("freed", 0);
}

static void phases(const char *way, const size_t *numbers)
{
	static const size_t sizes[][2] = {
		{ 48, 96 }, { 5000, 10000 }, { 160, 320 }, { 20000, 40000 }, { 512, 1024 },
		{ 100000, 200000 }, { 1500, 3000 }, { 16, 32 }, { 300000, 3000000 }, { 3000, 6000 },
	};
	struct blocks blocks;

	blocks_make(&blocks, 16, 32, numbers[0] * MIB);
	rest_start(way);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		blocks_take(&blocks, sizes[i][0], sizes[i][1], numbers[0] * MIB);
		rest_full();
		blocks_free(&blocks, 50);
	}
	rest_check("freed", 0);
	rest_drop();
	rest_check("all freed", 0);
}

static const struct {
	const char *name;
	void (*run)(const char *way, const size_t *numbers);
	int numbers;
} cases[] = {
	{ "blocks", blocks, 5 },        { "list", list, 2 },
	{ "pin", pin, 1 },              { "realloc", grow_and_cut, 2 },
	{ "phases", phases, 1 },        { "asleep", threads_asleep, 2 },
	{ "crumbs", threads_crumbs, 5 }, { "ended", threads_ended, 2 },  { "relay", threads_relay, 1 },
	{ "fork", threads_fork, 1 },    { "idle", threads_idle, 1 },
};

int main(int argc, char **argv)
{
	size_t numbers[MOST_NUMBERS] = { 0 };

	for (int i = 3; i < argc && i - 3 < MOST_NUMBERS; i++)
		numbers[i - 3] = strtoul(argv[i], NULL, 10);
	for (size_t i = 0; argc > 2 && i < COUNT(cases); i++) {
		if (strcmp(argv[2], cases[i].name) == 0 && argc == 3 + cases[i].numbers) {
			cases[i].run(argv[1], numbers);
			return 0;
		}
	}
	dprintf(2, "usage: return WAY CASE [NUMBER ...]\n");
	return 2;
}
