/*
 * What an executable file or a shared library says of itself.  Layer: cli.
 * The file is hostile: it is read through libelf and never trusted for sizes.
 */
#ifndef CEDE_CLI_IMAGE_H
#define CEDE_CLI_IMAGE_H

#include <limits.h>
#include <stdbool.h>

struct image {
	bool is_elf;                   /* when false, nothing below is set */
	int elf_class;                 /* ELFCLASS32, ELFCLASS64 */
	int machine;                   /* EM_X86_64, ... */
	char interpreter[PATH_MAX];    /* the dynamic loader; "" in a static program */
	bool defines_malloc;           /* in its dynamic symbol table */
	bool defines_malloc_stats;
	char needs_allocator[64];      /* a known allocator among its direct needs, or "" */
};

/* Returns 0, or -1 with errno when the file cannot be opened. */
int image_read(const char *path, struct image *image);

#endif
