#include "readers/core_notes.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>

#define NOTES_MOST (512ul << 20)    /* of 40,000 threads */
#define NO_MEMORY "there is not enough memory for it"
#define DAMAGED_FILES "it is damaged (its table of mapped files)"

struct note {
	uint32_t type;
	const char *owner;
	const char *bytes;
	size_t size;
};

/* --- threads --- */

static const char *registers_add(struct core *core, const void *words, size_t size)
{
	struct stop_thread *thread = &core->threads[core->thread_count - 1];
	size_t count = size / sizeof(uint64_t);
	uint64_t *larger = realloc(thread->registers,
	                           (thread->register_count + count + 1) * sizeof(*larger));

	if (!larger)
		return NO_MEMORY;
	memcpy(larger + thread->register_count, words, count * sizeof(*larger));
	thread->registers = larger;
	thread->register_count += count;
	return NULL;
}

/* What the kernel ends a process with, and writes its core; a debugger stops it with others. */
static int signal_that_ends(int signal)
{
	static const int ends[] = { SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS,
	                            SIGSYS, SIGXCPU, SIGXFSZ };

	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (signal == ends[i])
			return signal;
	return 0;
}

static const char *thread_add(struct core *core, const struct note *note)
{
	struct elf_prstatus status;
	struct user_regs_struct registers;
	struct stop_thread *larger;

	if (note->size != sizeof(status))
		return "it is damaged (a thread's registers are of another size)";
	memcpy(&status, note->bytes, sizeof(status));
	memcpy(&registers, &status.pr_reg, sizeof(registers));
	larger = realloc(core->threads, (core->thread_count + 1) * sizeof(*larger));
	if (!larger)
		return NO_MEMORY;
	core->threads = larger;
	larger[core->thread_count++] = (struct stop_thread){
		.id = status.pr_pid, .by_user = true, .thread_pointer = registers.fs_base,
		.instruction_pointer = registers.rip, .stack_pointer = registers.rsp,
		.call = (long)registers.orig_rax,
	};
	if (core->thread_count == 1)
		core->signal = signal_that_ends(status.pr_cursig);
	return registers_add(core, &status.pr_reg, sizeof(status.pr_reg));
}

/* A thread in a system call came there by a function, which need not keep vectors. */
static const char *vectors_add(struct core *core, const struct note *note)
{
	if (!core->thread_count || core->threads[core->thread_count - 1].call >= 0)
		return NULL;
	return registers_add(core, note->bytes, note->size);
}

/* --- mapped files --- */

static int file_compare(const void *a, const void *b)
{
	const struct core_file *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* The kernel counts offsets in pages, gdb in bytes, and each says so. */
static bool file_set(struct core_file *file, const uint64_t words[3], uint64_t unit, char *path)
{
	*file = (struct core_file){
		.begin = words[0], .end = words[1], .offset = words[2] * unit, .path = path,
		.deleted = memory_path_cut(path) };
	return file->begin % MEMORY_PAGE == 0 && file->end % MEMORY_PAGE == 0 &&
	       file->begin < file->end && file->end < MEMORY_END && words[2] < MEMORY_END / unit;
}

/* Two numbers, then three for each mapping; then the names, each with its zero. */
static const char *files_add(struct core *core, const struct note *note)
{
	const char *numbers = note->bytes + 2 * sizeof(uint64_t);
	uint64_t head[2], words[3], rest = note->size - sizeof(head);
	char *name, *next, *end;

	if (core->files || note->size < sizeof(head))
		return DAMAGED_FILES;
	memcpy(head, note->bytes, sizeof(head));
	if (head[0] > rest / sizeof(words) || (head[1] != 1 && head[1] != MEMORY_PAGE))
		return DAMAGED_FILES;
	rest -= head[0] * sizeof(words);
	core->files = calloc(head[0] + 1, sizeof(*core->files));
	core->file_names = calloc(rest + 1, 1);
	if (!core->files || !core->file_names)
		return NO_MEMORY;
	memcpy(core->file_names, numbers + head[0] * sizeof(words), rest);
	name = core->file_names;
	end = name + rest;
	while (core->file_count < head[0]) {
		memcpy(words, numbers + core->file_count * sizeof(words), sizeof(words));
		if (name >= end)
			return DAMAGED_FILES;
		next = name + strlen(name) + 1;
		if (!file_set(&core->files[core->file_count++], words, head[1], name))
			return DAMAGED_FILES;
		name = next;
	}
	qsort(core->files, core->file_count, sizeof(*core->files), file_compare);
	for (size_t i = 1; i < core->file_count; i++)
		if (core->files[i].begin < core->files[i - 1].end)
			return DAMAGED_FILES;
	return NULL;
}

/* --- the process --- */

static void process_set(struct core *core, const struct note *note)
{
	struct elf_prpsinfo info;

	if (note->size != sizeof(info))
		return;
	memcpy(&info, note->bytes, sizeof(info));
	core->pid = info.pr_pid;
	memcpy(core->name, info.pr_fname, sizeof(core->name) - 1);
}

static void vector_set(struct core *core, const struct note *note)
{
	uint64_t pair[2];

	for (size_t at = 0; at + sizeof(pair) <= note->size; at += sizeof(pair)) {
		memcpy(pair, note->bytes + at, sizeof(pair));
		if (pair[0] == AT_RANDOM)
			core->random_bytes = pair[1];
		else if (pair[0] == AT_SYSINFO_EHDR)
			core->vdso = pair[1];
		else if (pair[0] == AT_PHDR)
			core->program_headers = pair[1];
		else if (pair[0] == AT_PHNUM)
			core->program_header_count = pair[1];
	}
}

/* --- all --- */

static const char *note_take(struct core *core, const struct note *note)
{
	if (!strcmp(note->owner, "LINUX"))
		return note->type == NT_X86_XSTATE ? vectors_add(core, note) : NULL;
	if (strcmp(note->owner, "CORE") != 0)
		return NULL;
	switch (note->type) {
	case NT_PRSTATUS:
		return thread_add(core, note);
	case NT_FPREGSET:
		return vectors_add(core, note);
	case NT_FILE:
		return files_add(core, note);
	case NT_PRPSINFO:
		process_set(core, note);
		return NULL;
	case NT_AUXV:
		vector_set(core, note);
	}
	return NULL;
}

static const char *notes_take(struct core *core, Elf_Data *data)
{
	size_t at = 0, next, owner, bytes;
	GElf_Nhdr header;

	for (; (next = gelf_getnote(data, at, &header, &owner, &bytes)) > 0; at = next) {
		const char *start = data->d_buf;
		const struct note note = { header.n_type, start + owner, start + bytes,
		                           header.n_descsz };
		const char *wrong = header.n_namesz && !start[owner + header.n_namesz - 1] ?
		                    note_take(core, &note) : NULL;

		if (wrong)
			return wrong;
	}
	return NULL;
}

const char *core_notes_read(struct core *core, Elf *elf)
{
	size_t count, total = 0;

	if (elf_getphdrnum(elf, &count) != 0)
		return "it is damaged (its table of segments)";
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr header;
		Elf_Data *data;
		const char *wrong;

		if (!gelf_getphdr(elf, (int)i, &header) || header.p_type != PT_NOTE ||
		    !header.p_filesz)
			continue;
		if (header.p_filesz > NOTES_MOST - total)
			return "it is damaged (more notes than any process has)";
		total += header.p_filesz;
		data = elf_getdata_rawchunk(elf, (int64_t)header.p_offset, header.p_filesz,
		                            header.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
		if (!data)
			return "its notes cannot be read";
		wrong = notes_take(core, data);
		if (wrong)
			return wrong;
	}
	if (!core->thread_count)
		return "it has no threads (notes of the kind NT_PRSTATUS)";
	if (!core->files)
		return "it has no table of mapped files (NT_FILE), without which libc cannot be found; "
		       "Linux writes it since 3.7, and gdb's gcore does";
	if (core->pid <= 0)
		core->pid = core->threads[0].id;
	return NULL;
}
