#include "readers/symbols.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <elfutils/libdwfl.h>

#define NESTED_MOST 16         /* symbols that begin behind one and end before it does */

struct symbols {
	Dwfl *dwfl;                /* has the names */
	struct symbol *items;      /* ascending */
	size_t count;
};

static int symbol_compare(const void *a, const void *b)
{
	const struct symbol *left = a, *right = b;

	if (left->begin != right->begin)
		return left->begin < right->begin ? -1 : 1;
	/* One thing may have several names: the plainest is told, and always the same. */
	return -strcmp(left->name, right->name);
}

static bool symbols_read(struct symbols *symbols, Dwfl_Module *module)
{
	int count = dwfl_module_getsymtab(module);

	symbols->items = count > 1 ? calloc((size_t)count, sizeof(*symbols->items)) : NULL;
	for (int i = 1; symbols->items && i < count; i++) {
		GElf_Sym symbol;
		GElf_Addr address;
		GElf_Word section;
		const char *name = dwfl_module_getsym_info(module, i, &symbol, &address, &section,
		                                           NULL, NULL);
		int type = name ? GELF_ST_TYPE(symbol.st_info) : STT_NOTYPE;

		if (!name || !*name || section == SHN_UNDEF || !symbol.st_size ||
		    symbol.st_size > UINT64_MAX - address ||
		    (type != STT_OBJECT && type != STT_FUNC && type != STT_GNU_IFUNC))
			continue;
		symbols->items[symbols->count++] = (struct symbol){
			address, address + symbol.st_size, name, type != STT_OBJECT,
		};
	}
	if (symbols->count)
		qsort(symbols->items, symbols->count, sizeof(*symbols->items), symbol_compare);
	return symbols->count;
}

struct symbols *symbols_open(int file, const char *path, uint64_t base)
{
	static char *debug_path;
	static const Dwfl_Callbacks callbacks = {
		.section_address = dwfl_offline_section_address,
		.find_debuginfo = dwfl_standard_find_debuginfo,
		.debuginfo_path = &debug_path,
	};
	struct symbols *symbols = calloc(1, sizeof(*symbols));
	Dwfl_Module *module = NULL;
	int own = dup(file);

	unsetenv("DEBUGINFOD_URLS");
	if (symbols && own >= 0 && (symbols->dwfl = dwfl_begin(&callbacks))) {
		dwfl_report_begin(symbols->dwfl);
		module = dwfl_report_elf(symbols->dwfl, path, path, own, base, false);
		dwfl_report_end(symbols->dwfl, NULL, NULL);
	}
	/* libdw closes the descriptor of what it has taken. */
	if (!module && own >= 0)
		close(own);
	if (module && symbols_read(symbols, module))
		return symbols;
	if (symbols)
		symbols_close(symbols);
	return NULL;
}

void symbols_close(struct symbols *symbols)
{
	if (symbols->dwfl)
		dwfl_end(symbols->dwfl);
	free(symbols->items);
	free(symbols);
}

const struct symbol *symbols_at(const struct symbols *symbols, uint64_t address)
{
	size_t low = 0, high = symbols->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (symbols->items[middle].begin <= address)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = 0; i < NESTED_MOST && low; i++)
		if (symbols->items[--low].end > address)
			return &symbols->items[low];
	return NULL;
}
