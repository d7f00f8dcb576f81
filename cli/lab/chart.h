/*
 * The chart: a panel per experiment, a line of RSS per allocator, live bytes as
 * an area behind.  Layer: cli/lab.  Time zero of every line is the free that
 * the experiment is about, so that what follows it can be compared.
 */
#ifndef CEDE_CLI_LAB_CHART_H
#define CEDE_CLI_LAB_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "lab/run.h"

/* Whether the name ends in .svg or .png. */
bool chart_can_write(const char *path);

/*
 * Draws the runs, which come grouped by experiment; those without a trace are
 * left out.  Returns NULL, or what went wrong, for people.
 */
const char *chart_write(const char *path, const struct run *runs, size_t count);

#endif
