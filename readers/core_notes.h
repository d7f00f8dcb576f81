/*
 * What a core's notes say of the process: threads, mapped files, name, signal.
 * Layer: readers.
 */
#ifndef CEDE_READERS_CORE_NOTES_H
#define CEDE_READERS_CORE_NOTES_H

#include <gelf.h>

#include "readers/core.h"

/* Fills the core from its notes.  Returns NULL, or what is wrong. */
const char *core_notes_read(struct core *core, Elf *elf);

#endif
