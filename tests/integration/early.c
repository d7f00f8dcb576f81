/*
 * The heap before anything else runs: from the program's preinit functions, which
 * come before every constructor, the heap's own included; and from inside dlsym,
 * whose error text is allocated.  Layer: tests.
 */
#include <dlfcn.h>

#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

static void *early_blocks[100];
static int early_runs;

static void run_early(void)
{
	for (size_t i = 0; i < 100; i++) {
		early_blocks[i] = i % 2 == 0 ? malloc(i * 50 + 8) : calloc(i, 50);
		CHECK(early_blocks[i] != NULL);
		pattern_fill(early_blocks[i], i * 50, i);
	}
	for (size_t i = 0; i < 100; i += 3) {
		free(early_blocks[i]);
		early_blocks[i] = NULL;
	}
	early_blocks[1] = realloc(early_blocks[1], 300000);
	CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == NULL);
	CHECK(dlerror() != NULL);
	early_runs++;
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = run_early;

int main(void)
{
	CHECK(early_runs == 1);
	for (size_t i = 0; i < 100; i++) {
		if (early_blocks[i] == NULL)
			continue;
		CHECK(pattern_match(early_blocks[i], i * 50, i) == i * 50);
		free(early_blocks[i]);
	}
	run_early();
	return 0;
}
