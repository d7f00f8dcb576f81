#include "lab/experiment.h"

#include <stdio.h>
#include <string.h>

#define MALLOPT_BYTES 64            /* both thresholds, as the first article's cure has them */
#define ARTICLE_TOTAL (2ULL << 30)
#define ARTICLE_LIMIT 3000000000ULL

static const struct moment moments_once[EXPERIMENT_MOMENTS] = {
	{ "start", "start", MOMENT_START, 0 },
	{ "allocated", "allocated", MOMENT_STEP, 0 },
	{ "freed", "freed", MOMENT_STEP, 0 },
	{ "freed+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "trimmed", "trimmed", MOMENT_TRIM, 0 },
};

static const struct moment moments_twice[EXPERIMENT_MOMENTS] = {
	{ "start", "start", MOMENT_START, 0 },
	{ "allocated", "allocated", MOMENT_STEP, 0 },
	{ "freed", "freed", MOMENT_STEP, 0 },
	{ "freed+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "allocated-again", "again", MOMENT_STEP, 0 },
	{ "freed-again", "freed", MOMENT_STEP, 0 },
	{ "freed-again+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "trimmed", "trimmed", MOMENT_TRIM, 0 },
};

static const struct moment moments_list[EXPERIMENT_MOMENTS] = {
	{ "start", "start", MOMENT_START, 0 },
	{ "allocated", "allocated", MOMENT_STEP, 0 },
	{ "freed", "freed", MOMENT_STEP, 0 },
	{ "freed+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "cleared", "cleared", MOMENT_STEP, 0 },
	{ "cleared+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "trimmed", "trimmed", MOMENT_TRIM, 0 },
};

static const struct moment moments_two[EXPERIMENT_MOMENTS] = {
	{ "start", "start", MOMENT_START, 0 },
	{ "allocated", "allocated", MOMENT_STEP, 0 },
	{ "freed", "freed", MOMENT_STEP, 0 },
	{ "freed+1s", "+1 s", MOMENT_PAUSE, 0 },
	{ "second-start", "2: start", MOMENT_START, 1 },
	{ "second-allocated", "allocated", MOMENT_STEP, 1 },
	{ "second-freed", "freed", MOMENT_STEP, 1 },
	{ "second-freed+1s", "+1 s", MOMENT_PAUSE, 1 },
};

#define BLOCKS(bytes, what, default_) \
	.subject = "blocks", .block_bytes = (bytes), .title = "blocks of " #bytes " bytes" what, \
	.by_default = (default_), .moments = moments_once, .freed = 2
#define IN_ORDER(bytes) \
	{ .name = "blocks-" #bytes, .group = "blocks", BLOCKS(bytes, "", true) }
#define AT_RANDOM(bytes) \
	{ .name = "random-" #bytes, .group = "random", .shuffle = true, \
	  BLOCKS(bytes, ", freed in random order", false) }

const struct experiment experiments[] = {
	IN_ORDER(100), IN_ORDER(120), IN_ORDER(121), IN_ORDER(500), IN_ORDER(1024), IN_ORDER(10240),
	{ .name = "mallopt", .group = "cures", .mallopt = true,
	  BLOCKS(100, ", both thresholds set to 64 by mallopt", true) },
	{ .name = "periodic-trim", .group = "cures", .periodic_trim = true,
	  BLOCKS(100, ", malloc_trim(0) each 100 ms after the free", true) },
	{ .name = "two", .group = "two", .subject = "blocks", .block_bytes = 100, .limited = true,
	  .title = "blocks of 100 bytes in two processes under one memory limit",
	  .by_default = true, .moments = moments_two, .freed = 2 },
	{ .name = "twice", .group = "twice", .subject = "blocks", .block_bytes = 100, .twice = true,
	  .title = "blocks of 100 bytes, twice in a row",
	  .by_default = true, .moments = moments_twice, .freed = 5 },
	{ .name = "list", .group = "list", .subject = "list", .block_bytes = 65536,
	  .natural_bytes = 10000 * 65536ULL, .title = "blocks of 64 KiB among list nodes of 24 bytes",
	  .by_default = true, .moments = moments_list, .freed = 2 },
	{ .name = "pin", .group = "pin", .subject = "pin", .block_bytes = 4096,
	  .natural_bytes = 65536 * 4096ULL, .title = "blocks of 4 KiB below one byte that stays",
	  .by_default = true, .moments = moments_once, .freed = 2 },
	{ .name = "sparse", .group = "sparse", .subject = "sparse", .block_bytes = 100,
	  .natural_bytes = 1ULL << 30, .title = "blocks of 100 bytes, one in a hundred stays",
	  .moments = moments_once, .freed = 2 },
	AT_RANDOM(100), AT_RANDOM(120), AT_RANDOM(121), AT_RANDOM(500), AT_RANDOM(1024),
	AT_RANDOM(10240),
};

const size_t experiment_count = sizeof(experiments) / sizeof(experiments[0]);

bool experiment_matches(const struct experiment *experiment, const char *name)
{
	return !strcmp(name, "all") || !strcmp(name, experiment->name) ||
	       !strcmp(name, experiment->group);
}

size_t experiment_moment_count(const struct experiment *experiment)
{
	size_t count = 0;

	while (count < EXPERIMENT_MOMENTS && experiment->moments[count].name)
		count++;
	return count;
}

uint64_t experiment_bytes(const struct experiment *experiment, uint64_t total)
{
	uint64_t natural = experiment->natural_bytes;

	return natural && natural < total ? natural : total;
}

uint64_t experiment_limit(uint64_t total)
{
	return (uint64_t)((double)total * ((double)ARTICLE_LIMIT / ARTICLE_TOTAL));
}

static void argument_add(struct experiment_arguments *arguments, const char *name,
                         uint64_t value)
{
	snprintf(arguments->text[arguments->count], sizeof(arguments->text[0]), "%s=%llu", name,
	         (unsigned long long)value);
	arguments->count++;
}

void experiment_describe(const struct experiment *experiment, uint64_t total,
                         struct experiment_arguments *arguments)
{
	uint64_t bytes = experiment_bytes(experiment, total);

	arguments->count = 0;
	if (!strcmp(experiment->subject, "list") || !strcmp(experiment->subject, "pin")) {
		argument_add(arguments, "count", bytes / experiment->block_bytes);
	} else {
		argument_add(arguments, "size", experiment->block_bytes);
		argument_add(arguments, "total", bytes);
	}
	if (experiment->shuffle)
		argument_add(arguments, "shuffle", 1);
	if (experiment->twice)
		argument_add(arguments, "rounds", 2);
	if (experiment->mallopt)
		argument_add(arguments, "mallopt", MALLOPT_BYTES);
}
