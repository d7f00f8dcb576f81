#include "inject/frames.h"

#include <elfutils/libdwfl.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MOST 1000u

struct walk {
	Dwfl *dwfl;
	const struct functions *functions;
	unsigned frames;
};

/* The file that is mapped, which need not be what its name means to us. */
static int file_open(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                     char **file_name, Elf **elf)
{
	const struct memory *memory = *data;
	const struct memory_mapping *mapping = memory_mapping_at(memory, base);

	if (!mapping || mapping->kind != MEMORY_FILE)
		return dwfl_linux_proc_find_elf(module, data, name, base, file_name, elf);
	*file_name = strdup(mapping->path);
	return memory_mapping_open(memory, mapping);
}

/* What is left out of a file is not looked for elsewhere. */
static int debuginfo_none(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                          const char *file, const char *link, GElf_Word check, char **found)
{
	(void)module, (void)data, (void)name, (void)base;
	(void)file, (void)link, (void)check, (void)found;
	return -1;
}

static int module_tell(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                       void *memory)
{
	(void)module, (void)name, (void)base;
	*data = memory;
	return DWARF_CB_OK;
}

/* Whether the file tells how to leave this function; libdw would guess. */
static bool way_out_is_told(const struct walk *walk, Dwarf_Addr address)
{
	Dwfl_Module *module = dwfl_addrmodule(walk->dwfl, address);
	Dwarf_Addr bias;
	Dwarf_CFI *table = module ? dwfl_module_eh_cfi(module, &bias) : NULL;
	Dwarf_Frame *frame = NULL;
	bool told = table && dwarf_cfi_addrframe(table, address - bias, &frame) == 0;

	free(frame);
	return told;
}

static int frame_judge(Dwfl_Frame *frame, void *context)
{
	struct walk *walk = context;
	bool interrupted;
	Dwarf_Addr address;

	if (walk->frames++ == FRAMES_MOST || !dwfl_frame_pc(frame, &address, &interrupted))
		return DWARF_CB_ABORT;
	/* A call may be the last of its function. */
	if (!interrupted)
		address--;
	return functions_have(walk->functions, address) || !way_out_is_told(walk, address) ?
	       DWARF_CB_ABORT : DWARF_CB_OK;
}

bool frames_are_outside(const struct memory *memory, pid_t thread,
                        const struct functions *functions)
{
	static const Dwfl_Callbacks callbacks = { .find_elf = file_open,
	                                          .find_debuginfo = debuginfo_none };
	struct walk walk = { .dwfl = dwfl_begin(&callbacks), .functions = functions };
	bool outside = false;

	if (!walk.dwfl)
		return false;
	if (dwfl_linux_proc_report(walk.dwfl, memory->pid) == 0 &&
	    dwfl_report_end(walk.dwfl, NULL, NULL) == 0 &&
	    dwfl_getmodules(walk.dwfl, module_tell, (void *)memory, 0) == 0 &&
	    dwfl_linux_proc_attach(walk.dwfl, memory->pid, true) == 0)
		outside = dwfl_getthread_frames(walk.dwfl, thread, frame_judge, &walk) == 0;
	dwfl_end(walk.dwfl);
	return outside;
}
