/*
 * The picture of a heap as SVG or PNG.  Layer: cli/map.
 */
#ifndef CEDE_CLI_MAP_DRAW_H
#define CEDE_CLI_MAP_DRAW_H

#include "map/picture.h"

/* By the name's ending, .svg or else PNG.  Returns NULL, or what went wrong. */
const char *draw_write(const char *path, const struct picture *picture);

#endif
