#include "inject/functions.h"

#include <errno.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct symbol {
	uint64_t begin, end;       /* as in the file */
	const char *name;
};

struct work {
	const struct memory *memory;
	const struct memory_mapping *data;
	Elf *elf;
	uint64_t bias;             /* from an address in the file to that in the process */
	struct symbol *symbols;    /* global functions, ascending */
	size_t count;
	bool has_errno;
	uint64_t errno_value;      /* within the file's thread-local data */
	struct functions *functions;
};

/* --- where the file is mapped --- */

static bool bias_find(struct work *work)
{
	size_t headers;
	GElf_Phdr header;

	if (elf_getphdrnum(work->elf, &headers) != 0)
		return false;
	for (size_t i = 0; i < work->memory->mapping_count; i++) {
		const struct memory_mapping *mapping = &work->memory->mappings[i];

		if (!mapping->executable || mapping->inode != work->data->inode ||
		    strcmp(mapping->path, work->data->path) != 0)
			continue;
		for (size_t j = 0; j < headers && gelf_getphdr(work->elf, (int)j, &header); j++)
			if (header.p_type == PT_LOAD && (header.p_flags & PF_X) &&
			    (header.p_offset & ~(MEMORY_PAGE - 1)) == mapping->file_offset) {
				work->bias = mapping->begin - (header.p_vaddr & ~(MEMORY_PAGE - 1));
				return true;
			}
	}
	return false;
}

/* --- symbols --- */

static int symbol_compare(const void *a, const void *b)
{
	const struct symbol *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static bool table_read(struct work *work, Elf_Scn *section, const GElf_Shdr *header)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t count = header->sh_entsize && data ? data->d_size / header->sh_entsize : 0;
	struct symbol *symbols = realloc(work->symbols, (work->count + count + 1) * sizeof(*symbols));
	GElf_Sym symbol;

	if (!symbols)
		return false;
	work->symbols = symbols;
	for (size_t i = 0; i < count && gelf_getsym(data, (int)i, &symbol); i++) {
		const char *name = elf_strptr(work->elf, header->sh_link, symbol.st_name);
		unsigned char type = GELF_ST_TYPE(symbol.st_info);

		/* Those that a library shows, also of a static program, where there are more. */
		if (!name || symbol.st_shndx == SHN_UNDEF ||
		    GELF_ST_BIND(symbol.st_info) == STB_LOCAL)
			continue;
		if (type == STT_TLS && !strcmp(name, "errno")) {
			work->has_errno = true;
			work->errno_value = symbol.st_value;
		} else if (type == STT_FUNC || type == STT_GNU_IFUNC) {
			symbols[work->count++] = (struct symbol){ symbol.st_value,
			                                          symbol.st_value + symbol.st_size, name };
		}
	}
	return true;
}

static bool symbols_read(struct work *work)
{
	Elf_Scn *section = NULL;
	bool is_read = true;

	while (is_read && (section = elf_nextscn(work->elf, section))) {
		GElf_Shdr header;

		if (gelf_getshdr(section, &header) &&
		    (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB))
			is_read = table_read(work, section, &header);
	}
	if (is_read && work->count)
		qsort(work->symbols, work->count, sizeof(*work->symbols), symbol_compare);
	return is_read;
}

static const struct symbol *symbol_find(const struct work *work, const char *name)
{
	for (size_t i = 0; i < work->count; i++)
		if (!strcmp(work->symbols[i].name, name))
			return &work->symbols[i];
	return NULL;
}

/* --- the code of malloc --- */

/* One of the functions of glibc's malloc.c. */
static bool is_of_malloc(const char *name)
{
	static const char *const names[] = {
		"malloc", "calloc", "realloc", "memalign", "aligned_alloc", "valloc", "pvalloc",
		"posix_memalign", "mallinfo", "mallopt", "default_morecore", "free_sized",
		"free_aligned_sized",
	};

	if (!strncmp(name, "__libc_", 7))
		name += 7;
	else if (!strncmp(name, "__", 2))
		name += 2;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return !strcmp(name, "free") || !strcmp(name, "cfree");
}

static void range_add(struct work *work, uint64_t begin, uint64_t end)
{
	struct functions *functions = work->functions;

	if (functions->range_count < FUNCTIONS_RANGES)
		functions->ranges[functions->range_count++] =
			(struct functions_range){ work->bias + begin, work->bias + end };
}

/*
 * malloc.c is one piece of the text, from the function of another file that comes before
 * it to the one that comes after: with all that it does not show.
 */
static bool ranges_find(struct work *work)
{
	static const char *const inside[] = { "malloc", "free", "calloc", "realloc", "malloc_trim" };
	static const char *const others[] = { "sbrk", "brk", "fork", "_Fork" };
	const struct symbol *trim = symbol_find(work, "malloc_trim"), *begin = trim, *end = trim;
	const struct symbol *first = work->symbols, *last = work->symbols + work->count - 1;

	if (!trim)
		return false;
	work->functions->trim = work->bias + trim->begin;
	while (begin > first && is_of_malloc(begin->name))
		begin--;
	while (end < last && is_of_malloc(end->name))
		end++;
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++) {
		const struct symbol *symbol = symbol_find(work, inside[i]);

		if (!symbol || symbol <= begin || symbol >= end)
			return false;
	}
	range_add(work, begin->end, end->begin);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		const struct symbol *symbol = symbol_find(work, others[i]);

		if (symbol)
			range_add(work, symbol->begin, symbol->end);
	}
	return true;
}

bool functions_have(const struct functions *functions, uint64_t word)
{
	for (size_t i = 0; i < functions->range_count; i++)
		/* A call that never returns may be a function's last instruction. */
		if (word >= functions->ranges[i].begin && word <= functions->ranges[i].end)
			return true;
	return false;
}

/* --- what a signal handler returns to --- */

static bool restorer_find(struct work *work)
{
	static const unsigned char code[] = { 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05 };
	unsigned char seen[sizeof(code)];
	size_t headers;
	GElf_Phdr header;

	if (elf_getphdrnum(work->elf, &headers) != 0)
		return false;
	for (size_t i = 0; i < headers && gelf_getphdr(work->elf, (int)i, &header); i++) {
		Elf_Data *text = header.p_type == PT_LOAD && (header.p_flags & PF_X) ?
		                 elf_getdata_rawchunk(work->elf, (int64_t)header.p_offset,
		                                      header.p_filesz, ELF_T_BYTE) : NULL;
		const char *found = text ? memmem(text->d_buf, text->d_size, code, sizeof(code)) : NULL;

		if (!found)
			continue;
		work->functions->restorer = work->bias + header.p_vaddr +
		                            (uint64_t)(found - (const char *)text->d_buf);
		return memory_read(work->memory, work->functions->restorer, seen, sizeof(seen)) &&
		       !memcmp(seen, code, sizeof(code));
	}
	return false;
}

/* --- errno --- */

/* A static program's thread-local data ends where a thread's pointer points to. */
static bool program_errno_find(struct work *work)
{
	size_t headers;
	GElf_Phdr header;

	if (elf_getphdrnum(work->elf, &headers) != 0)
		return false;
	for (size_t i = 0; i < headers && gelf_getphdr(work->elf, (int)i, &header); i++)
		if (header.p_type == PT_TLS && header.p_align) {
			work->functions->errno_offset =
				work->errno_value - (header.p_memsz + header.p_align - 1) /
				header.p_align * header.p_align;
			return true;
		}
	return false;
}

/* Where a library's is the loader has written wherever it uses some of it. */
static bool library_errno_find(struct work *work)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(work->elf, section))) {
		GElf_Shdr header;
		GElf_Rela entry;
		Elf_Data *data;
		uint64_t offset;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_RELA)
			continue;
		data = elf_getdata(section, NULL);
		for (int i = 0; data && gelf_getrela(data, i, &entry); i++)
			if (GELF_R_TYPE(entry.r_info) == R_X86_64_TPOFF64 &&
			    GELF_R_SYM(entry.r_info) == 0 &&
			    memory_read(work->memory, work->bias + entry.r_offset, &offset,
			                sizeof(offset))) {
				work->functions->errno_offset = offset - (uint64_t)entry.r_addend +
				                                work->errno_value;
				return true;
			}
	}
	return false;
}

/* --- all together --- */

static const char *file_read(struct work *work)
{
	if (!bias_find(work) || !symbols_read(work))
		return "cannot be read";
	if (!work->count || !symbol_find(work, "malloc_trim"))
		return "has no symbols that tell where malloc_trim is";
	if (!ranges_find(work))
		return "has a malloc that is not in one piece";
	if (!restorer_find(work))
		return "does not have what signal handlers return to";
	if (!work->has_errno || !(library_errno_find(work) || program_errno_find(work)))
		return "does not tell where errno is";
	return NULL;
}

bool functions_find(const struct memory *memory, uint64_t data, struct functions *functions,
                    char *why, size_t room)
{
	struct work work = { .memory = memory, .functions = functions,
	                     .data = memory_mapping_at(memory, data) };
	const char *lacks = "cannot be opened";
	int file = work.data ? memory_mapping_open(memory, work.data) : -1;

	*functions = (struct functions){ 0 };
	if (file >= 0 && elf_version(EV_CURRENT) != EV_NONE &&
	    (work.elf = elf_begin(file, ELF_C_READ, NULL)))
		lacks = file_read(&work);
	if (lacks)
		snprintf(why, room, "the file that has its malloc, %.100s, %s",
		         work.data ? memory_mapping_name(work.data) : "?", lacks);
	free(work.symbols);
	elf_end(work.elf);
	if (file >= 0)
		close(file);
	return !lacks;
}
