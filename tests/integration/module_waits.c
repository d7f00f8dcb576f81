/*
 * A module whose constructor waits for a thread that uses the heap for the first
 * time.  The loader holds its lock meanwhile, so the heap must not want it.
 * Layer: tests.
 */
#include <pthread.h>

#include "support/check.h"
#include "support/heap.h"

static void *thread_run(void *arg)
{
	for (size_t i = 1; i < 100; i++)
		free(memset(malloc(i * 1000), 1, i * 1000));
	return arg;
}

__attribute__((constructor)) static void wait_for_thread(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, thread_run, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}
