/*
 * What lies where in the files that a process has mapped: its classes, variables and
 * functions by name.  Layer: readers.
 *
 * A class of C++ with virtual functions has a table of them, to which its objects' first
 * word leads, and with it its name, also in a program without symbols.  All else is
 * named by the symbols of the file, which is read when it is first asked for.
 *
 * What is not resident of a file is read from the file itself, as reading it from the
 * process would make it resident there.
 */
#ifndef CEDE_READERS_NAMES_H
#define CEDE_READERS_NAMES_H

#include "model/kinds.h"
#include "readers/memory.h"

struct names;

/* `memory` must outlive it, and its mappings must stay.  Returns NULL when memory ran
 * out. */
struct names *names_open(const struct memory *memory);
void names_close(struct names *names);

/* Whether the address is in a mapped file, or in the variables that go with it. */
bool names_cover(struct names *names, uint64_t address);

/*
 * Of an address that is covered: the class whose table of virtual functions it leads into,
 * as the word of an object does (KIND_OBJECT); the variable or function it lies in, with
 * `offset` bytes before it; else the file (KIND_FILE).
 */
void names_tell(struct names *names, uint64_t address, struct kind *kind, uint64_t *offset);

#endif
