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
	CHECK(system_bytes + stats.slab_bytes + stats.mapped_bytes + stats.spare_bytes ==
	      stats.system_bytes);
}

/* A number of `size` bytes. */
static uint64_t number(const void *base, uint32_t offset, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)base + offset, size);
	return value;
}

/* What is live of a slab, by its bits. */
static uint64_t live_of(const struct cede_descriptor *d, const char *record)
{
	const uint64_t *bits = (const uint64_t *)number(record, d->record_bits, 8);
	uint64_t blocks = number(record, d->record_blocks, 2), free = 0;

	for (uint64_t i = 0; i < blocks; i++)
		free += bits[i / 64] >> i % 64 & 1;
	CHECK(free == number(record, d->record_free, 2));
	free += number(record, d->record_claimed, 2);
	return (blocks - free) * number(record, d->record_block_size, 4);
}

/* A tool finds every slab from the window, and each arena has their sum. */
static void descriptor_leads_to_slabs(void)
{
	const struct cede_descriptor *d = &cede_descriptor;
	const uint64_t *window = (const uint64_t *)d->window;
	const char *arena = (const char *)d->main_arena;
	uint64_t live = 0, units = 0;
	char *blocks[3000];
	struct cede_stats stats;

	for (size_t i = 0; i < 3000; i++)
		blocks[i] = malloc(i % 3 == 0 ? 24 : i);
	CHECK(cede_stats(&stats, sizeof(stats)) == 0);
	for (uint64_t unit = 0; window[0] != 0 && unit < window[1] * 16 / d->unit_size;) {
		const char *record = (const char *)window[3] + unit * d->record_size;

		if (((const uint16_t *)window[2])[unit] == 0) {
			unit++;
			continue;
		}
		CHECK(number(record, d->record_arena, 8) == d->main_arena);
		live += live_of(d, record);
		units += number(record, d->record_units, 1);
		unit += number(record, d->record_units, 1);
	}
	CHECK(live == stats.slab_live_bytes && live == number(arena, d->arena_slab_live, 8));
	CHECK(units == number(arena, d->arena_slab_units, 8));
	CHECK(units * d->unit_size <= stats.slab_bytes);
	CHECK(number(arena, d->arena_slab_pages, 8) * (uint64_t)sysconf(_SC_PAGESIZE) ==
	      stats.slab_resident_bytes);
	CHECK((live != 0) == (stats.policy == CEDE_POLICY_DEFAULT));
	for (size_t i = 0; i < 3000; i++)
		free(blocks[i]);
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
	descriptor_leads_to_slabs();
	unknown_name_is_told(argv[0]);
	return 0;
}
