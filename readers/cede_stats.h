/*
 * What cede_stats() of a live process would say, read from its memory while it runs.
 * Layer: readers.
 */
#ifndef CEDE_READERS_CEDE_STATS_H
#define CEDE_READERS_CEDE_STATS_H

#include <cede/cede.h>

#include "readers/cede_target.h"

struct cede_reading {
	/* As the process itself would fill it; but it empties idle caches first, and here
	 * cached_bytes are all that are cached. */
	struct cede_stats stats;
	bool background;      /* whether its purger may have a thread */
	uint64_t retain_max;  /* bytes; UINT64_MAX: no bound */
	bool while_it_ran;    /* no two readings agreed: the figures are of different moments */
};

/* False, with the reason, when the process ended or what it holds makes no sense. */
bool cede_stats_read(const struct cede_target *target, struct cede_reading *reading,
                     struct cede_refusal *refusal);

#endif
