/*
 * One death test for each misuse of the heap: a child commits it and must end by
 * SIGABRT, having written one line that names the call, the pointer and what is
 * wrong.
 *
 *   death classic|default|uncached|chunks|chunks_uncached [crime ...]
 *
 * CEDE_OPTIONS must name the same policy; all but the first are default, without caches,
 * and where the system refuses the slabs' window.  Layer: tests.  The crimes
 * that write to headers know the chunk of heap/chunk.h.
 */
#include <regex.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "death/crimes.h"
#include "support/check.h"
#include "support/heap.h"

/* What the child names before it commits the crime; shared with the parent. */
static void **named;

void crime_names(void *block)
{
	*named = block;
}

bool __real_os_map_at(void *start, size_t size);
bool __wrap_os_map_at(void *start, size_t size);

static bool no_window;

bool __wrap_os_map_at(void *start, size_t size)
{
	return !no_window && __real_os_map_at(start, size);
}

static void child_commit(const struct crime *crime, int output)
{
	struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	dup2(output, STDERR_FILENO);
	alarm(10);
	crime->commit();
	/* What a cache took in unseen is noticed when it leaves it. */
	heap_trim(0);
	_exit(0);
}

/* Returns the child's wait status; its stderr goes to `text`. */
static int crime_watch(const struct crime *crime, char *text, size_t size)
{
	size_t length = 0;
	int ends[2], status;
	ssize_t got;

	CHECK(pipe(ends) == 0);
	*named = NULL;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		child_commit(crime, ends[1]);
	close(ends[1]);
	while ((got = read(ends[0], text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	text[length] = '\0';
	close(ends[0]);
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

/* "cede: <call>(<pointer>): <what> ...", and nothing else. */
static bool line_is_right(const struct crime *crime, const char *text)
{
	char pattern[256], pointer[32] = "0x[0-9a-f]+";
	regex_t regex;

	if (*named != NULL)
		snprintf(pointer, sizeof(pointer), "%p", *named);
	snprintf(pattern, sizeof(pattern), "^cede: %s\\(%s\\): (%s)[^\n]*\n$", crime->call, pointer,
	         crime->what);
	CHECK(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) == 0);
	bool right = regexec(&regex, text, 0, NULL, 0) == 0;

	regfree(&regex);
	if (!right)
		dprintf(2, "%s: expected %s\n", crime->name, pattern);
	return right;
}

static bool crime_is_punished(const struct crime *crime)
{
	char text[4096];
	int status = crime_watch(crime, text, sizeof(text));
	bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
	bool right = line_is_right(crime, text);

	if (!aborted)
		dprintf(2, "%s: did not abort (wait status %#x)\n", crime->name, (unsigned)status);
	if (!right || !aborted)
		dprintf(2, "%s: wrote \"%s\"\n", crime->name, text);
	return right && aborted;
}

static bool crime_wanted(const struct crime *crime, char **names)
{
	if (*names == NULL)
		return true;
	while (*names != NULL && strcmp(*names, crime->name) != 0)
		names++;
	return *names != NULL;
}

/* 0 for a name that is none. */
static unsigned policy_named(const char *name)
{
	static const char *const names[] = { "classic", "default", "uncached", "chunks",
		                             "chunks_uncached" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return 1u << i;
	return 0;
}

/* The heap starts in the children. */
static void prepare(unsigned policy)
{
	if (policy & (IN_UNCACHED | IN_CHUNKS_UNCACHED))
		CHECK(setenv("CEDE_OPTIONS", "policy=default,background=off", 1) == 0);
	no_window = (policy & (IN_CHUNKS | IN_CHUNKS_UNCACHED)) != 0;
	if (policy & IN_SLABS)
		crime_sizes = (struct crime_sizes){ 33000, 40000, 60000 };
	else
		crime_sizes = (struct crime_sizes){ 24, 900, 5000 };
}

int main(int argc, char **argv)
{
	unsigned policy = argc < 2 ? 0 : policy_named(argv[1]);
	size_t ran = 0, failed = 0;

	if (policy == 0) {
		dprintf(2, "usage: death classic|default|uncached|chunks|chunks_uncached [crime ...]\n");
		return 2;
	}
	prepare(policy);
	named =
	    mmap(NULL, sizeof(void *), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(named != MAP_FAILED);
	for (const struct crime *crime = crimes; crime->name != NULL; crime++) {
		if ((crime->policies & policy) == 0 || !crime_wanted(crime, argv + 2))
			continue;
		bool punished = crime_is_punished(crime);

		ran++;
		failed += !punished;
		dprintf(1, "%-6s %s\n", punished ? "ok" : "FAILED", crime->name);
	}
	dprintf(1, "%zu crimes, %zu not punished\n", ran, failed);
	return ran == 0 || failed > 0;
}
