#include "readers/allocator.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct known {
	const char *name;
	const char *file;            /* how its library's name begins, or NULL */
	const char *symbol;          /* that only it defines, or NULL */
};

/* musl is libc and loader in one file. */
static const struct known known[] = {
	{ "cede", "libcede", "cede_descriptor" },
	{ "jemalloc", "libjemalloc", "mallctl" },
	{ "jemalloc", NULL, "je_mallctl" },
	{ "tcmalloc", "libtcmalloc", "MallocExtension_ReleaseFreeMemory" },
	{ "tcmalloc", NULL, "TCMallocInternalMalloc" },
	{ "mimalloc", "libmimalloc", "mi_malloc" },
	{ "snmalloc", "libsnmalloc", "sn_rust_alloc" },
	{ "rpmalloc", "librpmalloc", "rpmalloc" },
	{ "musl", "ld-musl", NULL },
	{ "musl", "libc.musl", NULL },
};

#define KNOWN (sizeof(known) / sizeof(*known))

struct symbols {
	const char *name;            /* the allocator's */
	bool malloc;
};

static void symbol_judge(const char *symbol, struct symbols *found)
{
	if (!strcmp(symbol, "malloc"))
		found->malloc = true;
	for (size_t i = 0; i < KNOWN && !found->name; i++)
		if (known[i].symbol && !strcmp(symbol, known[i].symbol))
			found->name = known[i].name;
}

static void table_judge(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
                        struct symbols *found)
{
	Elf_Data *data = elf_getdata(section, NULL);
	GElf_Sym symbol;

	for (int i = 0; data && gelf_getsym(data, i, &symbol); i++) {
		const char *name = symbol.st_shndx == SHN_UNDEF ? NULL :
		                   elf_strptr(elf, header->sh_link, symbol.st_name);

		if (name)
			symbol_judge(name, found);
	}
}

static struct symbols file_judge(int file)
{
	struct symbols found = { NULL, false };
	Elf_Scn *section = NULL;
	Elf *elf;

	if (elf_version(EV_CURRENT) == EV_NONE || !(elf = elf_begin(file, ELF_C_READ, NULL)))
		return found;
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;

		if (gelf_getshdr(section, &header) &&
		    (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB))
			table_judge(elf, section, &header, &found);
	}
	elf_end(elf);
	return found;
}

static const char *name_of_file(const char *file)
{
	for (size_t i = 0; i < KNOWN; i++)
		if (known[i].file && !strncmp(file, known[i].file, strlen(known[i].file)))
			return known[i].name;
	return NULL;
}

static bool is_libc(const char *file)
{
	return !strncmp(file, "libc.so", 7) || !strncmp(file, "libc-", 5) ||
	       !strncmp(file, "ld-linux", 8) || !strncmp(file, "ld-2", 4);
}

void allocator_find(const struct memory *memory, struct allocator *allocator)
{
	*allocator = (struct allocator){ 0 };
	for (size_t i = 0; i < memory->mapping_count && !allocator->is_malloc; i++) {
		const struct memory_mapping *mapping = &memory->mappings[i];
		const char *file = memory_mapping_name(mapping);
		struct symbols found = { NULL, false };
		int opened;

		if (mapping->kind != MEMORY_FILE || !mapping->executable || is_libc(file))
			continue;
		opened = memory_mapping_open(memory, mapping);
		if (opened >= 0) {
			found = file_judge(opened);
			close(opened);
		}
		if (!found.name && (found.name = name_of_file(file)))
			found.malloc = true;
		if (!found.name || (allocator->name && !found.malloc))
			continue;
		allocator->name = found.name;
		allocator->is_malloc = found.malloc;
		snprintf(allocator->file, sizeof(allocator->file), "%s", file);
	}
}

bool allocator_is_glibc(const struct memory *memory)
{
	for (size_t i = 0; i < memory->mapping_count; i++) {
		const char *file = memory_mapping_name(&memory->mappings[i]);

		if (!strncmp(file, "libc.so.6", 9) || !strncmp(file, "libc-2.", 7))
			return true;
	}
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
