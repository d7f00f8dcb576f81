#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void interpreter_read(int fd, const GElf_Phdr *segment, struct image *image)
{
	size_t size = segment->p_filesz;
	ssize_t length;

	if (size >= sizeof(image->interpreter))
		size = sizeof(image->interpreter) - 1;
	length = pread(fd, image->interpreter, size, (off_t)segment->p_offset);
	image->interpreter[length > 0 ? length : 0] = '\0';
}

static void segments_read(int fd, Elf *elf, struct image *image)
{
	size_t count;
	GElf_Phdr segment;

	if (elf_getphdrnum(elf, &count) != 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (gelf_getphdr(elf, (int)i, &segment) && segment.p_type == PT_INTERP)
			interpreter_read(fd, &segment, image);
}

static void symbols_read(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
                         struct image *image)
{
	Elf_Data *data = elf_getdata(section, NULL);
	GElf_Sym symbol;

	for (int i = 0; data && gelf_getsym(data, i, &symbol); i++) {
		const char *name;

		if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
			continue;
		name = elf_strptr(elf, header->sh_link, symbol.st_name);
		if (!name)
			continue;
		if (!strcmp(name, "malloc"))
			image->defines_malloc = true;
		else if (!strcmp(name, "malloc_stats"))
			image->defines_malloc_stats = true;
	}
}

static void needs_read(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
                       struct image *image)
{
	static const char *const allocators[] = { "libjemalloc", "libtcmalloc", "libmimalloc" };
	Elf_Data *data = elf_getdata(section, NULL);
	GElf_Dyn entry;

	for (int i = 0; data && gelf_getdyn(data, i, &entry); i++) {
		const char *name;

		if (entry.d_tag != DT_NEEDED)
			continue;
		name = elf_strptr(elf, header->sh_link, entry.d_un.d_val);
		for (size_t a = 0; name && a < sizeof(allocators) / sizeof(allocators[0]); a++)
			if (!strncmp(name, allocators[a], strlen(allocators[a])))
				snprintf(image->needs_allocator, sizeof(image->needs_allocator), "%s", name);
	}
}

static void elf_read(int fd, Elf *elf, struct image *image)
{
	GElf_Ehdr file_header;
	Elf_Scn *section = NULL;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &file_header))
		return;
	image->is_elf = true;
	image->elf_class = file_header.e_ident[EI_CLASS];
	image->machine = file_header.e_machine;
	segments_read(fd, elf, image);
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;

		if (!gelf_getshdr(section, &header))
			continue;
		if (header.sh_type == SHT_DYNSYM)
			symbols_read(elf, section, &header, image);
		else if (header.sh_type == SHT_DYNAMIC)
			needs_read(elf, section, &header, image);
	}
}

int image_read(const char *path, struct image *image)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf *elf;

	*image = (struct image){ 0 };
	if (fd < 0)
		return -1;
	if (elf_version(EV_CURRENT) != EV_NONE && (elf = elf_begin(fd, ELF_C_READ, NULL))) {
		elf_read(fd, elf, image);
		elf_end(elf);
	}
	close(fd);
	return 0;
}
