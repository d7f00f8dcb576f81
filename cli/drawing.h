/*
 * Text in pictures.  Layer: cli.
 */
#ifndef CEDE_CLI_DRAWING_H
#define CEDE_CLI_DRAWING_H

#include <cairo.h>
#include <stdbool.h>

/* align: 0 begins at x, 0.5 is centred on it, 1 ends there. */
void drawing_text(cairo_t *cr, double x, double y, double align, double size, bool bold,
                  const char *text);

#endif
