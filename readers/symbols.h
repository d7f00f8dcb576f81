/*
 * The variables and functions of a program or library, by address.  Layer: readers.
 * The file is hostile: it is read through libdw and never trusted for sizes.
 */
#ifndef CEDE_READERS_SYMBOLS_H
#define CEDE_READERS_SYMBOLS_H

#include <stdbool.h>
#include <stdint.h>

struct symbol {
	uint64_t begin, end;
	const char *name;      /* as the file has it, of any bytes */
	bool is_code;
};

struct symbols;

/*
 * Reads those of an open file that is mapped from `base` on, or of the separate file with
 * its debugging information, when that is installed; no server is asked for one.  The
 * descriptor remains the caller's.  Returns NULL when it has none.
 */
struct symbols *symbols_open(int file, const char *path, uint64_t base);
void symbols_close(struct symbols *symbols);

/* The one with this address in it, or NULL. */
const struct symbol *symbols_at(const struct symbols *symbols, uint64_t address);

#endif
