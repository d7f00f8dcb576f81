/*
 * cede_stats: the whole heap in one structure.  Layer: introspect.
 */
#ifndef CEDE_INTROSPECT_STATS_H
#define CEDE_INTROSPECT_STATS_H

#include "cede/cede.h"

void stats_fill(struct cede_stats *out);

#endif
