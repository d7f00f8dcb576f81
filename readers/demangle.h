/*
 * C++ names as a person writes them.  Layer: readers.
 */
#ifndef CEDE_READERS_DEMANGLE_H
#define CEDE_READERS_DEMANGLE_H

#include <stdbool.h>
#include <stddef.h>

#define DEMANGLE_MOST 1024     /* characters of a mangled name that are believed */

/* A type, as typeinfo spells it ("4Tree"), or a symbol ("_ZN4Tree3addEv": the name alone,
 * without its arguments).  A long one ends with "...".  Returns false when it is neither;
 * `to` may then hold anything.  `room` is 4 at least. */
bool demangle(const char *mangled, char *to, size_t room);

#endif
