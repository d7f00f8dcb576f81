/*
 * The memory of another process: what is mapped where, which pages are resident,
 * and its bytes.  Layer: readers.
 *
 * It is a live process's, or was a process's of which a core file is left: who reads
 * need not know, but for what a core cannot tell (readers/core.h).
 *
 * The process may change or end at any moment, and all it holds is hostile: each
 * function says how much it could do, and none trusts a length.  struct memory
 * owns the table of mappings and its strings until memory_close or the next
 * memory_map.
 *
 * A page that is not resident must not be read: the kernel would give the process
 * the zero page, or bring the page in from its file.  Ask memory_pages first.
 */
#ifndef CEDE_READERS_MEMORY_H
#define CEDE_READERS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MEMORY_PAGE 4096ul          /* x86-64 has no other */
#define MEMORY_END (1ul << 56)      /* no address of a process is as high */

enum memory_kind {
	MEMORY_ANONYMOUS,
	MEMORY_BREAK,       /* "[heap]" */
	MEMORY_STACK,       /* of the first thread; others' are anonymous */
	MEMORY_FILE,
	MEMORY_SPECIAL      /* "[vdso]" and the like */
};

struct memory_mapping {
	uint64_t begin, end;
	uint64_t file_offset, inode;
	enum memory_kind kind;
	bool readable, writable, executable, shared;
	bool deleted;           /* the file has been replaced or removed since */
	const char *path;       /* of the file, without " (deleted)"; else "" or "[...]" */
};

struct core;

struct memory {
	struct core *core;      /* NULL: the process lives */
	pid_t pid;              /* or, when its first thread has ended, another thread's id */
	int pagemap;            /* descriptor, -1 when closed */
	struct memory_mapping *mappings;   /* ascending */
	size_t mapping_count;
	char *text;             /* what the paths point into; a core has its own */
};

/* Returns 0 or the errno of what failed: ESRCH no such process, EACCES and EPERM
 * not ours to read, EXDEV /proc is of another PID namespace, ENOMEM.  After a failure
 * nothing needs to be closed. */
int memory_open(struct memory *memory, pid_t pid);
void memory_close(struct memory *memory);

/* The same of a core, which memory_close then closes, too; after ENOMEM it is closed. */
int memory_open_core(struct memory *memory, struct core *core);

/* Reads the table of mappings again.  Returns 0 or an errno. */
int memory_map(struct memory *memory);

/* The mapping with this address, or NULL. */
const struct memory_mapping *memory_mapping_at(const struct memory *memory, uint64_t address);

/* The last part of a mapping's path. */
const char *memory_mapping_name(const struct memory_mapping *mapping);

/* What a mapping with this path is, as /proc has it; anonymous ones have no inode. */
enum memory_kind memory_path_kind(const char *path, uint64_t inode);

/* Cuts the " (deleted)" of a file that is no more off its path; returns whether it was. */
bool memory_path_cut(char *path);

/* Opens the mapped file itself, also when its name now belongs to another or lies
 * in a container.  Returns a descriptor, or -1 with errno. */
int memory_mapping_open(const struct memory *memory, const struct memory_mapping *mapping);

/* Reads `size` bytes, all or none. */
bool memory_read(const struct memory *memory, uint64_t address, void *to, size_t size);

/* Reads as far as it can.  Returns the bytes read, 0 when none. */
size_t memory_read_some(const struct memory *memory, uint64_t address, void *to, size_t size);

/* A page of the process, as memory_pages tells. */
enum memory_page {
	MEMORY_ABSENT,          /* never touched, or given back */
	MEMORY_RESIDENT,
	MEMORY_ZERO,            /* the kernel's shared page of zeros: costs nothing */
	MEMORY_SWAPPED          /* or a guard page of a stack, which cannot be read */
};

typedef void memory_visitor(void *context, uint64_t begin, uint64_t end,
                            enum memory_page state);

/*
 * Visits the runs of pages, ascending, from `begin` to `end` (both multiples of
 * MEMORY_PAGE) that are not absent.  Returns whether it saw all.  Before Linux 6.7
 * pages of zeros count as resident.
 */
bool memory_scan(const struct memory *memory, uint64_t begin, uint64_t end,
                 memory_visitor *visit, void *context);

/* The same, as one enum memory_page for each page; `pages` must be zeros before. */
bool memory_pages(const struct memory *memory, uint64_t begin, uint64_t end, uint8_t *pages);

#endif
