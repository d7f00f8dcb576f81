#include "readers/allocator.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "readers/glibc_find.h"

struct known {
	const char *name;
	const char *file;            /* how its library's name begins, or NULL */
	const char *symbol;          /* that only it defines, or NULL */
	const char *section;         /* that only it has, or NULL */
	bool is_libc;                /* its malloc gives way to any other one */
};

/* musl is libc and loader in one file; Go and Java have heaps of their own. */
static const struct known known[] = {
	{ .name = "cede", .file = "libcede", .symbol = "cede_descriptor" },
	{ .name = "jemalloc", .file = "libjemalloc", .symbol = "mallctl" },
	{ .name = "jemalloc", .symbol = "je_mallctl" },
	{ .name = "tcmalloc", .file = "libtcmalloc", .symbol = "MallocExtension_ReleaseFreeMemory" },
	{ .name = "tcmalloc", .symbol = "TCMallocInternalMalloc" },
	{ .name = "mimalloc", .file = "libmimalloc", .symbol = "mi_malloc" },
	{ .name = "snmalloc", .file = "libsnmalloc", .symbol = "sn_rust_alloc" },
	{ .name = "rpmalloc", .file = "librpmalloc", .symbol = "rpmalloc" },
	{ .name = "Go", .section = ".go.buildinfo" },
	{ .name = "Java", .file = "libjvm.so", .symbol = "JNI_CreateJavaVM" },
	{ .name = "musl", .file = "ld-musl", .symbol = "__dls3", .is_libc = true },
	{ .name = "musl", .file = "libc.musl", .symbol = "__libc_malloc_impl", .is_libc = true },
};

#define KNOWN (sizeof(known) / sizeof(*known))

/* A process may map files without end, and of any size. */
#define FILES_MOST 4096u
#define SECTION_MOST (256ul << 20)
#define SYMBOLS_MOST (1u << 24)      /* in all of them */

struct search {
	const struct known *found;   /* in the file at hand */
	bool malloc;
	size_t symbols;              /* that were looked at */
};

static void symbol_judge(const char *symbol, struct search *search)
{
	if (!strcmp(symbol, "malloc"))
		search->malloc = true;
	for (size_t i = 0; i < KNOWN && !search->found; i++)
		if (known[i].symbol && !strcmp(symbol, known[i].symbol))
			search->found = &known[i];
}

/* Sections are read whole. */
static bool section_is_short(Elf *elf, size_t index)
{
	Elf_Scn *section = elf_getscn(elf, index);
	GElf_Shdr header;

	return section && gelf_getshdr(section, &header) && header.sh_size <= SECTION_MOST;
}

static void table_judge(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
                        struct search *search)
{
	Elf_Data *data = header->sh_size <= SECTION_MOST &&
	                 section_is_short(elf, header->sh_link) ? elf_getdata(section, NULL) : NULL;
	GElf_Sym symbol;

	for (int i = 0; data && search->symbols < SYMBOLS_MOST && gelf_getsym(data, i, &symbol);
	     i++, search->symbols++) {
		const char *name = symbol.st_shndx == SHN_UNDEF ? NULL :
		                   elf_strptr(elf, header->sh_link, symbol.st_name);

		if (name)
			symbol_judge(name, search);
	}
}

static void section_judge(const char *section, struct search *search)
{
	for (size_t i = 0; i < KNOWN && !search->found; i++)
		if (known[i].section && !strcmp(section, known[i].section))
			search->found = &known[i];
}

static void file_judge(int file, struct search *search)
{
	Elf_Scn *section = NULL;
	size_t names;
	Elf *elf;

	if (elf_version(EV_CURRENT) == EV_NONE || !(elf = elf_begin(file, ELF_C_READ, NULL)))
		return;
	if (elf_getshdrstrndx(elf, &names) != 0 || !section_is_short(elf, names))
		names = SHN_UNDEF;
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		const char *name;

		if (!gelf_getshdr(section, &header))
			continue;
		name = elf_strptr(elf, names, header.sh_name);
		if (name)
			section_judge(name, search);
		if (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB)
			table_judge(elf, section, &header, search);
	}
	elf_end(elf);
}

static const struct known *known_by_name(const char *file)
{
	for (size_t i = 0; i < KNOWN; i++)
		if (known[i].file && !strncmp(file, known[i].file, strlen(known[i].file)))
			return &known[i];
	return NULL;
}

static bool is_loader(const char *file)
{
	return !strncmp(file, "ld-linux", 8) || !strncmp(file, "ld-2", 4);
}

static void mapping_judge(const struct memory *memory, const struct memory_mapping *mapping,
                          struct search *search)
{
	int file = memory_mapping_open(memory, mapping);

	search->found = NULL;
	search->malloc = false;
	if (file >= 0) {
		file_judge(file, search);
		close(file);
	}
	if (!search->found && (search->found = known_by_name(memory_mapping_name(mapping))))
		search->malloc = true;
	if (search->found && search->found->is_libc)
		search->malloc = false;
}

/* Code may be mapped in many pieces.  A core tells no inodes. */
static bool is_same_file(const struct memory_mapping *one, const struct memory_mapping *other)
{
	return one->inode == other->inode && !strcmp(one->path, other->path);
}

void allocator_find(const struct memory *memory, struct allocator *allocator)
{
	struct search search = { NULL, false, 0 };
	size_t files = 0;
	const struct memory_mapping *last = NULL;

	*allocator = (struct allocator){ 0 };
	for (size_t i = 0; i < memory->mapping_count && !allocator->is_malloc; i++) {
		const struct memory_mapping *mapping = &memory->mappings[i];
		const char *file = memory_mapping_name(mapping);

		if (mapping->kind != MEMORY_FILE || !mapping->executable || is_loader(file) ||
		    glibc_find_is_library(mapping) || (last && is_same_file(last, mapping)))
			continue;
		if (files++ == FILES_MOST)
			break;
		last = mapping;
		mapping_judge(memory, mapping, &search);
		if (!search.found || (allocator->name && !search.malloc))
			continue;
		allocator->name = search.found->name;
		allocator->is_malloc = search.malloc;
		snprintf(allocator->file, sizeof(allocator->file), "%s", file);
	}
}

bool allocator_is_glibc(const struct memory *memory)
{
	for (size_t i = 0; i < memory->mapping_count; i++)
		if (glibc_find_is_library(&memory->mappings[i]))
			return true;
	return false;
}

int allocator_word_bits(const struct memory *memory)
{
	unsigned char ident[EI_NIDENT] = "";
	char path[64];
	int file;

	snprintf(path, sizeof(path), "/proc/%d/exe", memory->pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return 0;
	if (read(file, ident, sizeof(ident)) != sizeof(ident))
		ident[EI_CLASS] = ELFCLASSNONE;
	close(file);
	return ident[EI_CLASS] == ELFCLASS64 ? 64 : ident[EI_CLASS] == ELFCLASS32 ? 32 : 0;
}
