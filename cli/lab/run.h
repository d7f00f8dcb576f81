/*
 * One run: an experiment under an allocator, measured at each of its moments and
 * sampled all along.  Layer: cli/lab.  A run owns its trace.
 */
#ifndef CEDE_CLI_LAB_RUN_H
#define CEDE_CLI_LAB_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lab/allocator.h"
#include "lab/experiment.h"
#include "lab/measure.h"

/* What was measured at a moment of the experiment. */
struct run_sample {
	bool taken;
	double seconds;        /* since the run began */
	uint64_t live;         /* bytes the subject asked for and has not freed */
	uint64_t floor;        /* bytes of the pages that hold a live byte; 0: not told */
	struct measure_process process;
	struct measure_machine machine;
	struct measure_stats stats;
};

/* Every 20 ms, over all subjects of the run. */
struct run_point {
	double seconds;
	uint64_t live, rss;    /* bytes */
};

enum run_outcome {
	RUN_FINISHED,
	RUN_KILLED,            /* the memory limit did it: a result, not an error */
	RUN_SKIPPED,           /* the machine does not permit it */
	RUN_FAILED
};

struct run {
	const struct experiment *experiment;
	const struct allocator *allocator;
	uint64_t total;        /* bytes the caller asked for, as of experiment_bytes */
	uint64_t limit;        /* of the memory cgroup; 0: none */
	struct run_sample samples[EXPERIMENT_MOMENTS];
	struct run_point *points;
	size_t point_count, point_capacity;
	enum run_outcome outcome;
	char note[384];        /* why, for people; "" when there is nothing to say */
};

/* Set by a signal handler: the run in progress ends as soon as it can. */
extern volatile sig_atomic_t run_interrupted;

/* Called at each moment, to show progress. */
typedef void run_progress_fn(const struct run *run, const char *moment);

/*
 * Performs run->experiment under run->allocator with run->total; everything else
 * in *run must be zero.  `program` is the subject's path.  Nothing is left
 * behind, neither process nor cgroup.
 */
void run_perform(struct run *run, const char *program, run_progress_fn *progress);

/*
 * What the first process gained by allocating, and what of it stayed resident a
 * second after its last free, bytes.  False when the run did not come so far.
 */
bool run_kept(const struct run *run, uint64_t *kept, uint64_t *gained);

/* Index of the pause that run_kept speaks of. */
size_t run_kept_moment(const struct experiment *experiment);

void run_free(struct run *run);

#endif
