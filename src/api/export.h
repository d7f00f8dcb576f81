/*
 * What the library shows.  Layer: api.
 */
#ifndef CEDE_API_EXPORT_H
#define CEDE_API_EXPORT_H

/* All else is hidden by the compiler, and again by exports.map. */
#define EXPORT __attribute__((visibility("default")))

#endif
