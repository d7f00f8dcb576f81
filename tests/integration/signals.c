/*
 * A signal handler that forks while its thread may be in the middle of malloc: the
 * child can use the heap.  Layer: tests.  It is more than POSIX promises, and what
 * programs that catch their own crash do.
 */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

#define FORKS 100

static volatile sig_atomic_t forks, bad_children;

static void handler(int signal_number)
{
	int status;
	pid_t child = fork();

	(void)signal_number;
	if (child == 0) {
		alarm(5);
		for (size_t i = 1; i < 100; i++)
			heap_free(memset(heap_malloc(i * 100), 1, i * 100));
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		bad_children++;
	forks++;
}

static void fork_in_handler(void)
{
	struct sigaction action = { .sa_handler = handler };
	struct itimerval every = { { 0, 3000 }, { 0, 3000 } };
	struct rng rng = { 9 };
	void *blocks[200] = { 0 };

	CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
	CHECK(setitimer(ITIMER_VIRTUAL, &every, NULL) == 0);
	while (forks < FORKS) {
		size_t i = rng_below(&rng, 200);

		heap_free(blocks[i]);
		blocks[i] = heap_malloc(rng_below(&rng, 5000));
	}
	CHECK_THAT(bad_children == 0, "%d of %d children failed", bad_children, FORKS);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "fork_in_handler", fork_in_handler, 60 },
	};

	return cases_main(argc, argv, cases, 1);
}
