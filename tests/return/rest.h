/*
 * What a process keeps of its memory after it freed: measured, and held to a limit.
 * Layer: tests.  Measures without the heap.
 *
 *   kept    anonymous and shared memory and swap of the process (smaps_rollup), beyond
 *           what it had at rest_start
 *   floor   the 4 KiB pages that hold a byte of a block that lives on: no allocator
 *           that moves nothing can keep less
 *   limit   1.05 floors, 4 MiB, and 12 KiB for each thread
 *
 * When it is measured is the program's first argument:
 *
 *   second    one second after the last free; nobody calls the heap meanwhile
 *   minute    then, and again a minute later, when it must not be more
 *   trim      at once when malloc_trim returns, which must say that something went
 *   figures   as `second`, but nothing is judged: for other allocators
 */
#ifndef TESTS_RETURN_REST_H
#define TESTS_RETURN_REST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Memory of the test's own that counts as there before; zero.  Before rest_start. */
void *rest_table(size_t bytes);

/* Before the first allocation.  `way` is the program's first argument. */
void rest_start(const char *way);

/* Now the process may have most. */
void rest_full(void);

/* The block, whose bytes are all used, lives on. */
void rest_keep(void *block, size_t size);

/* Frees what lives on. */
void rest_drop(void);

/*
 * After the last free: waits, measures, prints one line and, if it is too much, ends the
 * process.  `threads` is how many the test made and has not joined.
 */
void rest_check(const char *what, unsigned threads);

#ifdef __cplusplus
}
#endif
#endif
