/*
 * A core file: memory, threads and mapped files of a process as they were when it was
 * written, by the kernel or by a debugger.  Layer: readers.
 *
 * All that it says is hostile: what it counts is checked against the size of the file
 * before anything gets memory for it.  The file is read where it is asked for, never
 * mapped: one that is cut off meanwhile gives nothing instead of a signal.
 *
 * Which pages were resident, the kernel tells: it leaves a hole in the file for a page
 * that was not.  gdb, and whoever copies a core through a pipe, write zeros there.  So in
 * a file without a hole, and in gdb's, pages of zeros are MEMORY_ZERO: they count as not
 * resident, though they may have been.  Swapped pages show as resident.
 *
 * Of the programs and libraries that were mapped it has what was written to, and mostly
 * the first page.  The rest is read from the files themselves, if their first pages, which
 * have the build id, are those of the core.
 */
#ifndef CEDE_READERS_CORE_H
#define CEDE_READERS_CORE_H

#include "readers/memory.h"
#include "readers/stop.h"

#define CORE_WHY 400

struct core_options {
	const char *path;
	const char *program;       /* in place of the one that is named in the core, or NULL */
	const char *root;          /* where the names of files begin, or NULL */
};

/* What the core says of a span of addresses: bytes in the core from `offset` on, then
 * memory that is not in it. */
struct core_segment {
	uint64_t begin, end, offset, bytes;
	uint32_t flags;
};

enum core_file_state {
	CORE_FILE_UNKNOWN,         /* the core has nothing of it to compare */
	CORE_FILE_SAME,
	CORE_FILE_MISSING,         /* not there, or not readable */
	CORE_FILE_OTHER            /* another one has its name by now */
};

/* A part of a file that was mapped. */
struct core_file {
	uint64_t begin, end, offset;
	const char *path;
	bool deleted;
	enum core_file_state state;
};

struct core {
	int descriptor;
	uint64_t bytes;
	bool pages_told;           /* holes are pages that were not resident */
	char *path, *program, *root;     /* of struct core_options */
	struct core_segment *segments;   /* ascending, apart */
	size_t segment_count;
	struct core_file *files;         /* ascending, apart */
	size_t file_count;
	char *file_names;
	struct stop_thread *threads;     /* the first: which the signal was for */
	size_t thread_count;
	uint64_t random_bytes, vdso, program_headers;   /* addresses that the kernel gave */
	uint64_t program_header_count;
	pid_t pid;
	char name[16];                   /* of the process, as it called itself */
	int signal;                      /* that ended it, or 0 */
	uint64_t written;                /* when, in milliseconds since 1970 */
};

/*
 * Reads all but the memory.  Returns NULL after `why` tells what is wrong: no core, one
 * of another machine or word size, one that is cut off or damaged, no memory.
 */
struct core *core_open(const struct core_options *options, char why[CORE_WHY]);
void core_close(struct core *core);

/* The table of mappings, ascending, to be freed; paths point into the core.  Returns
 * NULL when memory ran out. */
struct memory_mapping *core_mappings(const struct core *core, size_t *count);

/* As memory_read_some, memory_scan and memory_mapping_open. */
size_t core_read(const struct core *core, uint64_t address, void *to, size_t size);
bool core_scan(const struct core *core, uint64_t begin, uint64_t end,
               memory_visitor *visit, void *context);
int core_mapping_open(const struct core *core, const struct memory_mapping *mapping);

/* A copy of the threads, to be freed.  Returns NULL when memory ran out. */
struct stop_thread *core_threads(const struct core *core, size_t *count);

#endif
