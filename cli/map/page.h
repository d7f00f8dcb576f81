/*
 * The picture of a heap as a page for a browser, which zooms and tells what lies under
 * the pointer.  Layer: cli/map.
 *
 * One file that asks for no other: page.html with the picture's data in it, as JSON in
 * script elements that no browser runs.
 */
#ifndef CEDE_CLI_MAP_PAGE_H
#define CEDE_CLI_MAP_PAGE_H

#include "map/picture.h"

/* Returns NULL, or what went wrong. */
const char *page_write(const char *path, const struct picture *picture);

#endif
