/*
 * The experiments of the two articles, as data: what the subject does, and at
 * which moments the lab measures it.  Layer: cli/lab.  Everything is constant.
 */
#ifndef CEDE_CLI_LAB_EXPERIMENT_H
#define CEDE_CLI_LAB_EXPERIMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moment_action {
	MOMENT_START,   /* a subject is started, and has not allocated yet */
	MOMENT_STEP,    /* the subject performed its next step */
	MOMENT_PAUSE,   /* one second went by since the step before */
	MOMENT_TRIM     /* the subject called malloc_trim(0) */
};

/* One measurement. */
struct moment {
	const char *name;    /* in JSON */
	const char *title;   /* at most 9 columns, in the table */
	enum moment_action action;
	int process;         /* which subject: 0, or 1 in experiments of two */
};

#define EXPERIMENT_MOMENTS 8
#define EXPERIMENT_ARGUMENTS 8

struct experiment {
	const char *name, *group;
	const char *title;
	const char *subject;          /* the subject program's experiment */
	unsigned block_bytes;
	uint64_t natural_bytes;       /* what the article allocates; 0: as much as is asked */
	bool shuffle, twice, mallopt; /* the subject's parameters of these names */
	bool periodic_trim;           /* malloc_trim(0) each 100 ms of a pause */
	bool limited;                 /* both subjects in one memory cgroup with a limit */
	bool by_default;              /* runs when no experiment is named */
	const struct moment *moments; /* EXPERIMENT_MOMENTS of them, or a NULL name ends */
	int freed;                    /* index of the moment of the free that matters */
};

/* What the subject program is told, ready for exec. */
struct experiment_arguments {
	char text[EXPERIMENT_ARGUMENTS][32];
	int count;
};

extern const struct experiment experiments[];
extern const size_t experiment_count;

/* By a name, a group, or "all". */
bool experiment_matches(const struct experiment *experiment, const char *name);

size_t experiment_moment_count(const struct experiment *experiment);

/* Bytes in blocks, when the caller asks for at most `total`. */
uint64_t experiment_bytes(const struct experiment *experiment, uint64_t total);

/* The memory limit of a limited experiment, bytes: 3 GB when `total` is 2 GiB. */
uint64_t experiment_limit(uint64_t total);

void experiment_describe(const struct experiment *experiment, uint64_t total,
                         struct experiment_arguments *arguments);

#endif
