#include "readers/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "readers/demangle.h"
#include "readers/ranges.h"
#include "readers/symbols.h"

#define VTABLE "_ZTV"
#define VTABLE_HEAD 16         /* before the word that objects lead to: offset and typeinfo */

/* A mapped file. */
struct module {
	const struct memory_mapping *mapping;   /* the first of it */
	uint64_t base;                          /* where its first byte is mapped; 0: it is not */
	int file;                               /* descriptor; -1 before it is opened, and if not */
	bool is_opened;
	struct symbols *symbols;                /* NULL when it has none */
};

struct names {
	const struct memory *memory;
	struct module *modules;
	size_t module_count;
	struct range *spans;                    /* ascending */
	uint32_t *span_modules;
	size_t span_count;
	struct range recent;                    /* where the last address was */
};

/* --- modules --- */

static bool module_has(const struct module *module, const struct memory_mapping *mapping)
{
	return mapping->inode == module->mapping->inode &&
	       !strcmp(mapping->path, module->mapping->path);
}

/* Variables that begin as zeros lie behind the others, without a file. */
static bool follows_variables(const struct memory *memory, size_t index)
{
	const struct memory_mapping *mapping = &memory->mappings[index], *before = mapping - 1;

	return index && mapping->kind == MEMORY_ANONYMOUS && mapping->writable &&
	       before->kind == MEMORY_FILE && before->writable && before->end == mapping->begin;
}

static void span_add(struct names *names, size_t index)
{
	const struct memory_mapping *mapping = &names->memory->mappings[index];
	struct module *module;

	if (mapping->kind == MEMORY_FILE && (!names->module_count ||
	    !module_has(&names->modules[names->module_count - 1], mapping)))
		names->modules[names->module_count++] =
			(struct module){ .mapping = mapping, .file = -1 };
	module = &names->modules[names->module_count - 1];
	if (mapping->kind == MEMORY_FILE && !mapping->file_offset && !module->base)
		module->base = mapping->begin;
	names->span_modules[names->span_count] = (uint32_t)(names->module_count - 1);
	names->spans[names->span_count++] = (struct range){ mapping->begin, mapping->end };
}

struct names *names_open(const struct memory *memory)
{
	struct names *names = calloc(1, sizeof(*names));
	size_t count = memory->mapping_count + 1;

	if (!names)
		return NULL;
	names->memory = memory;
	names->modules = calloc(count, sizeof(*names->modules));
	names->spans = calloc(count, sizeof(*names->spans));
	names->span_modules = calloc(count, sizeof(*names->span_modules));
	if (!names->modules || !names->spans || !names->span_modules) {
		names_close(names);
		return NULL;
	}
	for (size_t i = 0; i < memory->mapping_count; i++)
		if (memory->mappings[i].kind == MEMORY_FILE || follows_variables(memory, i))
			span_add(names, i);
	return names;
}

void names_close(struct names *names)
{
	for (size_t i = 0; i < names->module_count; i++) {
		if (names->modules[i].symbols)
			symbols_close(names->modules[i].symbols);
		if (names->modules[i].file >= 0)
			close(names->modules[i].file);
	}
	free(names->modules);
	free(names->spans);
	free(names->span_modules);
	free(names);
}

bool names_cover(struct names *names, uint64_t address)
{
	const struct ranges spans = { names->spans, names->span_count };
	size_t span;

	if (address >= names->recent.begin && address < names->recent.end)
		return true;
	if (!spans.count || address < spans.items[0].begin ||
	    address >= spans.items[spans.count - 1].end)
		return false;
	span = ranges_find(&spans, address);
	if (spans.items[span].begin > address)
		return false;
	names->recent = spans.items[span];
	return true;
}

static struct module *module_at(struct names *names, uint64_t address)
{
	const struct ranges spans = { names->spans, names->span_count };

	return names_cover(names, address) ?
	       &names->modules[names->span_modules[ranges_find(&spans, address)]] : NULL;
}

static void module_open(struct names *names, struct module *module)
{
	if (module->is_opened)
		return;
	module->is_opened = true;
	module->file = memory_mapping_open(names->memory, module->mapping);
	if (module->file >= 0 && module->base)
		module->symbols = symbols_open(module->file, module->mapping->path, module->base);
}

/* --- reading --- */

/* Up to the page's end, and not more than `size` bytes.  Returns how many. */
static size_t page_read(struct names *names, uint64_t address, void *to, size_t size)
{
	const struct memory_mapping *mapping = memory_mapping_at(names->memory, address);
	uint64_t page = address & ~(MEMORY_PAGE - 1);
	size_t rest = page + MEMORY_PAGE - address;
	struct module *module = module_at(names, address);
	uint8_t state = MEMORY_ABSENT;
	ssize_t length;

	if (!mapping || !mapping->readable || !module || !memory_pages(names->memory, page, page + MEMORY_PAGE, &state))
		return 0;
	size = size < rest ? size : rest;
	if (state == MEMORY_RESIDENT || state == MEMORY_SWAPPED)
		return memory_read_some(names->memory, address, to, size);
	module_open(names, module);
	if (mapping->kind != MEMORY_FILE || module->file < 0)
		return 0;
	length = pread(module->file, to, size,
	               (off_t)(mapping->file_offset + (address - mapping->begin)));
	return length > 0 ? (size_t)length : 0;
}

static size_t bytes_read(struct names *names, uint64_t address, void *to, size_t size)
{
	size_t have = 0, more = 1;

	while (have < size && more) {
		more = page_read(names, address + have, (char *)to + have, size - have);
		have += more;
	}
	return have;
}

static bool words_read(struct names *names, uint64_t address, uint64_t words[2])
{
	return address % 8 == 0 && bytes_read(names, address, words, 16) == 16;
}

/* --- classes --- */

/* A type's name, as typeinfo has it: "*" before it says that it is no other file's. */
static bool type_name_read(struct names *names, uint64_t address, char text[DEMANGLE_MOST + 2])
{
	size_t length = bytes_read(names, address, text, DEMANGLE_MOST + 1);
	const char *end = memchr(text, '\0', length);

	if (!end)
		return false;
	if (*text == '*')
		memmove(text, text + 1, (size_t)(end - text));
	/* Only classes have tables: a name, nested, in the library's namespace, or local. */
	return strchr("NSZU", *text) ? *text : *text >= '1' && *text <= '9';
}

/* The class of objects that begin with this word, told by its typeinfo. */
static bool class_tell(struct names *names, uint64_t word, struct kind *kind)
{
	uint64_t head[2], typeinfo[2];
	char mangled[DEMANGLE_MOST + 2];

	if (word < VTABLE_HEAD || !words_read(names, word - VTABLE_HEAD, head) || head[0] ||
	    !words_read(names, head[1], typeinfo) || !names_cover(names, typeinfo[0]) ||
	    !type_name_read(names, typeinfo[1], mangled))
		return false;
	kind->form = KIND_OBJECT;
	return demangle(mangled, kind->name, sizeof(kind->name));
}

/* --- symbols --- */

static void symbol_tell(const struct symbol *symbol, uint64_t address, struct kind *kind,
                        uint64_t *offset)
{
	bool is_table = !strncmp(symbol->name, VTABLE, strlen(VTABLE));

	*offset = address - symbol->begin;
	kind->form = symbol->is_code ? KIND_CODE : KIND_DATA;
	/* Of a program made without typeinfo. */
	if (is_table && *offset >= VTABLE_HEAD) {
		kind->form = KIND_OBJECT;
		if (demangle(symbol->name + strlen(VTABLE), kind->name, sizeof(kind->name)))
			return;
	}
	if (strncmp(symbol->name, "_Z", 2) != 0 ||
	    !demangle(symbol->name, kind->name, sizeof(kind->name)))
		snprintf(kind->name, sizeof(kind->name), "%s", symbol->name);
}

void names_tell(struct names *names, uint64_t address, struct kind *kind, uint64_t *offset)
{
	struct module *module = module_at(names, address);
	const struct symbol *symbol;

	*kind = (struct kind){ .form = KIND_FILE };
	*offset = 0;
	if (!module)
		return;
	if (!class_tell(names, address, kind)) {
		module_open(names, module);
		symbol = module->symbols ? symbols_at(module->symbols, address) : NULL;
		if (symbol) {
			symbol_tell(symbol, address, kind, offset);
		} else {
			kind->form = KIND_FILE;
			*offset = address - module->base;
			snprintf(kind->name, sizeof(kind->name), "%s",
			         memory_mapping_name(module->mapping));
		}
	}
	kind_clean(kind);
}
