/*
 * A program that links the library and uses cede/cede.h: its own options string,
 * statistics of any size, release, version, and the descriptor that tools read.
 * CEDE_OPTIONS wins over the string; run without it, with one argument.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cede/cede.h"
#include "cede/descriptor.h"
#include "support/check.h"

const char *cede_options = "policy=classic,colour=blue";

extern const struct cede_descriptor cede_descriptor;

static void options_of_program(void)
{
	struct cede_stats stats;
	const char *environment = getenv("CEDE_OPTIONS");
	uint32_t want = environment != NULL && strstr(environment, "default") != NULL
	                        ? CEDE_POLICY_DEFAULT
	                        : CEDE_POLICY_CLASSIC;

	CHECK(cede_stats(&stats, sizeof(stats)) == 0);
	CHECK(stats.policy == want);
}

static void statistics_of_any_size(void)
{
	struct {
		struct cede_stats stats;
		unsigned char beyond[64];
	} large;
	struct cede_stats all;

	memset(&large, 0xff, sizeof(large));
	CHECK(cede_stats(NULL, sizeof(all)) == EINVAL);
	CHECK(cede_stats(&large.stats, sizeof(uint32_t)) == 0);
	CHECK(large.stats.purger == 0xffffffff);
	CHECK(cede_stats(&large.stats, sizeof(large)) == 0);
	for (size_t i = 0; i < sizeof(large.beyond); i++)
		CHECK(large.beyond[i] == 0);
	CHECK(cede_stats(&all, sizeof(all)) == 0);
	CHECK(all.arenas >= 1 && all.system_bytes >= all.live_bytes);
}

static void release_gives_back(void)
{
	enum { COUNT = 64, SIZE = 100 << 10 };
	char *blocks[COUNT], *pin;
	struct cede_stats before, after;

	for (int i = 0; i < COUNT; i++)
		blocks[i] = memset(malloc(SIZE), 1, SIZE);
	pin = malloc(100);
	CHECK(cede_stats(&before, sizeof(before)) == 0);
	for (int i = 0; i < COUNT; i++)
		free(blocks[i]);
	CHECK(cede_stats(&after, sizeof(after)) == 0);
	CHECK(before.live_bytes - after.live_bytes >= (size_t)COUNT * SIZE);
	CHECK(cede_release(0) >= (size_t)COUNT * SIZE / 2);
	free(pin);
}

static void descriptor_leads_to_state(void)
{
	const struct cede_descriptor *d = &cede_descriptor;
	struct cede_stats stats;
	const char *arena = (const char *)(uintptr_t)d->main_arena;
	uint64_t system_bytes;

	CHECK(strcmp(d->magic, CEDE_DESCRIPTOR_MAGIC) == 0);
	CHECK(d->version == CEDE_DESCRIPTOR_VERSION && d->size >= sizeof(*d));
	CHECK(cede_stats(&stats, sizeof(stats)) == 0);
	CHECK(*(const uint32_t *)(uintptr_t)d->policy == stats.policy);
	CHECK(*(const uint64_t *)(uintptr_t)d->page_size == (uint64_t)sysconf(_SC_PAGESIZE));
	memcpy(&system_bytes, arena + d->arena_system_bytes, sizeof(system_bytes));
	CHECK(system_bytes + stats.mapped_bytes == stats.system_bytes);
}

/* One line about what is unknown, and none about what is known. */
static void unknown_name_is_told(const char *self)
{
	char text[512] = "";
	int ends[2], status;
	pid_t child;

	CHECK(pipe(ends) == 0);
	child = fork();
	if (child == 0) {
		dup2(ends[1], 2);
		execl(self, self, "again", NULL);
		_exit(1);
	}
	close(ends[1]);
	CHECK(read(ends[0], text, sizeof(text) - 1) > 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK_THAT(strstr(text, "cede: ") == text && strstr(text, "colour") != NULL &&
	           strchr(text, '\n') == text + strlen(text) - 1, "stderr: %s", text);
}

int main(int argc, char **argv)
{
	CHECK(strncmp(cede_version(), "0.", 2) == 0);
	options_of_program();
	if (argc == 2)
		return 0;
	statistics_of_any_size();
	release_gives_back();
	descriptor_leads_to_state();
	unknown_name_is_told(argv[0]);
	return 0;
}
