#include "readers/core.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "readers/core_notes.h"

#define SCAN_PAGES 32
#define PROGRAM_HEADERS 64
#define BREAK_REACH (4ul << 30)    /* from the program's end, which chance moves it from */

__attribute__((format(printf, 2, 3)))
static bool refuse(char why[CORE_WHY], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, CORE_WHY, format, args);
	va_end(args);
	return false;
}

/* --- segments --- */

static const struct core_segment *segment_at(const struct core *core, uint64_t address)
{
	size_t low = 0, high = core->segment_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (core->segments[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	/* Perhaps one further on. */
	return low < core->segment_count ? &core->segments[low] : NULL;
}

static int segment_compare(const void *a, const void *b)
{
	const struct core_segment *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* Returns what is wrong, or NULL; `total` sums up what the file must have. */
static const char *segment_add(struct core *core, const GElf_Phdr *header, uint64_t *total)
{
	uint64_t begin = header->p_vaddr, size = header->p_memsz;

	/* The one page behind all others that is the kernel's. */
	if (begin >= MEMORY_END || !size)
		return NULL;
	if (begin % MEMORY_PAGE || size % MEMORY_PAGE || size >= MEMORY_END - begin ||
	    header->p_filesz > size || header->p_filesz % MEMORY_PAGE ||
	    header->p_offset > INT64_MAX || header->p_filesz > INT64_MAX - header->p_offset)
		return "it is damaged (a segment that cannot be)";
	*total += header->p_filesz;
	/* Elsewhere than at a page's begin, gdb puts it. */
	core->pages_told = core->pages_told && header->p_offset % MEMORY_PAGE == 0;
	core->segments[core->segment_count++] = (struct core_segment){
		begin, begin + size, header->p_offset, header->p_filesz, header->p_flags };
	return NULL;
}

static bool segments_read(struct core *core, Elf *elf, char why[CORE_WHY])
{
	uint64_t total = 0, last = 0;
	size_t count;

	if (elf_getphdrnum(elf, &count) != 0 || !count || count > core->bytes / sizeof(Elf64_Phdr))
		return refuse(why, "it is damaged or cut off (its table of segments)");
	core->segments = calloc(count + 1, sizeof(*core->segments));
	if (!core->segments)
		return refuse(why, "there is not enough memory for it");
	for (size_t i = 0; i < count; i++) {
		const char *wrong = NULL;
		GElf_Phdr header;

		if (!gelf_getphdr(elf, (int)i, &header))
			return refuse(why, "it is damaged or cut off (its table of segments)");
		if (header.p_type == PT_LOAD)
			wrong = segment_add(core, &header, &total);
		if (wrong)
			return refuse(why, "%s", wrong);
		if (header.p_filesz <= UINT64_MAX - header.p_offset &&
		    header.p_offset + header.p_filesz > last)
			last = header.p_offset + header.p_filesz;
	}
	if (last > core->bytes)
		return refuse(why, "it is cut off: of %.1f MB only %.1f are there (a limit on the size "
		              "of cores? ulimit -c; a full disk?)", (double)last / 1e6,
		              (double)core->bytes / 1e6);
	/* Each byte once, or looking at all takes for ever. */
	if (total > core->bytes)
		return refuse(why, "it is damaged (its segments overlap)");
	qsort(core->segments, core->segment_count, sizeof(*core->segments), segment_compare);
	for (size_t i = 1; i < core->segment_count; i++)
		if (core->segments[i].begin < core->segments[i - 1].end)
			return refuse(why, "it is damaged (its segments overlap)");
	return true;
}

/* --- mapped files --- */

static const struct core_file *file_at(const struct core *core, uint64_t address)
{
	size_t low = 0, high = core->file_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (core->files[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < core->file_count && core->files[low].begin <= address ?
	       &core->files[low] : NULL;
}

static bool file_is_program(const struct core *core, const struct core_file *file)
{
	const struct core_file *program = file_at(core, core->program_headers);

	return program && !strcmp(program->path, file->path);
}

/* The name may belong to anything by now: a device, or a pipe. */
static int file_open(const struct core *core, const struct core_file *file)
{
	bool given = core->program && file_is_program(core, file);
	struct stat status;
	char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", given || !core->root ? "" : core->root,
	         given ? core->program : file->path);
	if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) {
		errno = ENOENT;
		return -1;
	}
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Compares the first page of an ELF file, if the core has it. */
static enum core_file_state file_state(const struct core *core, const struct core_file *file)
{
	char ours[MEMORY_PAGE], theirs[MEMORY_PAGE];
	const struct core_segment *segment = segment_at(core, file->begin);
	int descriptor;
	ssize_t length;

	if (file->offset || !segment || segment->begin > file->begin ||
	    segment->bytes < file->begin - segment->begin + MEMORY_PAGE ||
	    core_read(core, file->begin, ours, sizeof(ours)) != sizeof(ours) ||
	    memcmp(ours, ELFMAG, SELFMAG) != 0)
		return CORE_FILE_UNKNOWN;
	descriptor = file_open(core, file);
	if (descriptor < 0)
		return CORE_FILE_MISSING;
	length = pread(descriptor, theirs, sizeof(theirs), 0);
	close(descriptor);
	/* Beyond a short file's end the page has zeros. */
	if (length > 0)
		memset(theirs + length, 0, sizeof(theirs) - (size_t)length);
	return length > 0 && !memcmp(ours, theirs, sizeof(ours)) ? CORE_FILE_SAME : CORE_FILE_OTHER;
}

/* All parts of a file have the state of its first. */
static void files_compare(struct core *core)
{
	for (size_t i = 0; i < core->file_count; i++) {
		struct core_file *file = &core->files[i];

		if (i && !strcmp(file->path, file[-1].path))
			file->state = file[-1].state;
		else
			file->state = file_state(core, file);
	}
}

static bool program_is_right(struct core *core, char why[CORE_WHY])
{
	const struct core_file *file = file_at(core, core->program_headers);

	if (!core->program)
		return true;
	if (!file)
		return refuse(why, "it does not say which file its program is: leave --exe away");
	if (file->state == CORE_FILE_UNKNOWN)
		return refuse(why, "it has not the first page of its program, with which %s could be "
		              "compared: leave --exe away", core->program);
	if (file->state == CORE_FILE_MISSING)
		return refuse(why, "%s is no file that can be read", core->program);
	return file->state != CORE_FILE_OTHER ||
	       refuse(why, "%s is not the program that it is of (%.100s)", core->program, file->path);
}

/* --- opening --- */

static bool kind_check(Elf *elf, char why[CORE_WHY])
{
	GElf_Ehdr header;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header))
		return refuse(why, "it is no core (one that is compressed must be unpacked first)");
	if (header.e_type != ET_CORE)
		return refuse(why, "it is no core but a program or a library");
	if (header.e_machine == EM_386 || gelf_getclass(elf) != ELFCLASS64)
		return refuse(why, "it is of a 32-bit program, which cede cannot read");
	return header.e_machine == EM_X86_64 ||
	       refuse(why, "it is of a program for another machine than x86-64 (ELF's number %u)",
	              header.e_machine);
}

static bool core_parse(struct core *core, char why[CORE_WHY])
{
	Elf *elf = elf_version(EV_CURRENT) == EV_NONE ? NULL :
	           elf_begin(core->descriptor, ELF_C_READ, NULL);
	bool done = false;

	if (!elf)
		return refuse(why, "it cannot be read as a core (%s)", elf_errmsg(-1));
	if (kind_check(elf, why) && segments_read(core, elf, why)) {
		const char *wrong = core_notes_read(core, elf);

		done = !wrong || refuse(why, "%s", wrong);
	}
	elf_end(elf);
	return done;
}

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

static bool core_begin(struct core *core, const struct core_options *options, char why[CORE_WHY])
{
	struct stat status;

	*core = (struct core){ .path = copy_of(options->path), .program = copy_of(options->program),
	                       .root = copy_of(options->root) };
	/* No pipe is waited for. */
	core->descriptor = open(options->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (core->descriptor < 0 || fstat(core->descriptor, &status) != 0)
		return refuse(why, "%s", strerror(errno));
	if (S_ISDIR(status.st_mode))
		return refuse(why, "it is a folder, not a core");
	if (!S_ISREG(status.st_mode))
		return refuse(why, "it is no regular file");
	if (!status.st_size)
		return refuse(why, "it is empty (a limit on the size of cores? ulimit -c)");
	core->bytes = (uint64_t)status.st_size;
	core->pages_told = lseek(core->descriptor, 0, SEEK_HOLE) < status.st_size;
	core->written = (uint64_t)status.st_mtim.tv_sec * 1000 +
	                (uint64_t)status.st_mtim.tv_nsec / 1000000;
	return true;
}

/* What its first words lie beside was written to by each process. */
static bool memory_is_there(const struct core *core, char why[CORE_WHY])
{
	uint64_t word;

	return !core->random_bytes ||
	       core_read(core, core->random_bytes & ~7ul, &word, sizeof(word)) == sizeof(word) ||
	       refuse(why, "it has nothing of the process's own memory, which then had been told to keep "
	              "it back (/proc/PID/coredump_filter)");
}

struct core *core_open(const struct core_options *options, char why[CORE_WHY])
{
	struct core *core = calloc(1, sizeof(*core));

	if (!core) {
		refuse(why, "there is not enough memory for it");
		return NULL;
	}
	if (core_begin(core, options, why) && core_parse(core, why)) {
		files_compare(core);
		if (memory_is_there(core, why) && program_is_right(core, why))
			return core;
	}
	core_close(core);
	return NULL;
}

void core_close(struct core *core)
{
	for (size_t i = 0; i < core->thread_count; i++)
		free(core->threads[i].registers);
	if (core->descriptor >= 0)
		close(core->descriptor);
	free(core->path);
	free(core->program);
	free(core->root);
	free(core->segments);
	free(core->files);
	free(core->file_names);
	free(core->threads);
	free(core);
}

struct stop_thread *core_threads(const struct core *core, size_t *count)
{
	struct stop_thread *threads = calloc(core->thread_count, sizeof(*threads));

	if (threads)
		memcpy(threads, core->threads, core->thread_count * sizeof(*threads));
	*count = core->thread_count;
	return threads;
}

/* --- the table of mappings --- */

static void mapping_of_segment(const struct core *core, const struct core_segment *segment,
                               struct memory_mapping *mapping)
{
	const struct core_file *file = file_at(core, segment->begin);
	bool vdso = core->vdso >= segment->begin && core->vdso < segment->end;
	bool stack = core->random_bytes >= segment->begin && core->random_bytes < segment->end;

	*mapping = (struct memory_mapping){
		.begin = segment->begin, .end = segment->end,
		.file_offset = file ? file->offset + (segment->begin - file->begin) : 0,
		.readable = segment->flags & PF_R, .writable = segment->flags & PF_W,
		.executable = segment->flags & PF_X,
	};
	mapping->path = file ? file->path : vdso ? "[vdso]" : stack ? "[stack]" : "";
	mapping->deleted = file && file->deleted;
	mapping->kind = memory_path_kind(mapping->path, !!file);
}

/* gdb writes nothing of what is in files unchanged: it can be read, and may be code. */
static void mapping_of_file(const struct core_file *file, struct memory_mapping *mapping)
{
	*mapping = (struct memory_mapping){
		.begin = file->begin, .end = file->end, .file_offset = file->offset,
		.readable = true, .executable = true,
		.deleted = file->deleted, .path = file->path, .kind = memory_path_kind(file->path, 1),
	};
}

/* Where the program's data ends by its own headers, or 0. */
static uint64_t program_end(const struct core *core)
{
	const struct core_file *file = file_at(core, core->program_headers);
	Elf64_Phdr headers[PROGRAM_HEADERS];
	size_t count = core->program_header_count;
	uint64_t moved = 0, end = 0;

	if (!file || count > PROGRAM_HEADERS ||
	    core_read(core, core->program_headers, headers, count * sizeof(*headers)) !=
	    count * sizeof(*headers))
		return 0;
	for (size_t i = 0; i < count; i++) {
		const Elf64_Phdr *header = &headers[i];

		if (header->p_type != PT_LOAD)
			continue;
		/* The headers are in one of these parts of the file. */
		if ((header->p_offset & ~(MEMORY_PAGE - 1)) == file->offset)
			moved = file->begin - (header->p_vaddr & ~(MEMORY_PAGE - 1));
		if (header->p_vaddr + header->p_memsz > end)
			end = header->p_vaddr + header->p_memsz;
	}
	return (end + moved + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1);
}

/*
 * The break comes after the program's data, some way off, or at once where chance is
 * forbidden: then both may be one mapping.  No core tells where it is.
 */
static void break_mark(const struct core *core, struct memory_mapping *mappings, size_t count)
{
	uint64_t end = program_end(core);

	for (size_t i = 0; end && i < count; i++) {
		struct memory_mapping *mapping = &mappings[i];

		if (mapping->end <= end)
			continue;
		if (mapping->kind != MEMORY_ANONYMOUS ||
		    (mapping->begin > end && mapping->begin - end > BREAK_REACH))
			return;
		if (!mapping->writable)
			continue;
		do
			mapping++->kind = MEMORY_BREAK;
		while (mapping < mappings + count && mapping->begin == mapping[-1].end &&
		       mapping->kind == MEMORY_ANONYMOUS && mapping->writable);
		return;
	}
}

struct memory_mapping *core_mappings(const struct core *core, size_t *count)
{
	struct memory_mapping *mappings = calloc(core->segment_count + core->file_count + 1,
	                                         sizeof(*mappings));
	size_t segment = 0, file = 0;

	*count = 0;
	while (mappings && (segment < core->segment_count || file < core->file_count)) {
		const struct core_segment *next = &core->segments[segment];

		if (file == core->file_count ||
		    (segment < core->segment_count && next->begin < core->files[file].end)) {
			mapping_of_segment(core, next, &mappings[(*count)++]);
			while (file < core->file_count && core->files[file].begin < next->end)
				file++;
			segment++;
		} else {
			mapping_of_file(&core->files[file++], &mappings[(*count)++]);
		}
	}
	if (mappings)
		break_mark(core, mappings, *count);
	return mappings;
}

int core_mapping_open(const struct core *core, const struct memory_mapping *mapping)
{
	const struct core_file *file = file_at(core, mapping->begin);

	if (!file || file->state != CORE_FILE_SAME) {
		errno = ENOENT;
		return -1;
	}
	return file_open(core, file);
}

/* --- bytes --- */

/* What the core left out, from the file that was mapped. */
static size_t file_read(const struct core *core, uint64_t address, void *to, size_t size)
{
	const struct core_file *file = file_at(core, address);
	ssize_t length;
	int descriptor;

	if (!file || file->state != CORE_FILE_SAME)
		return 0;
	descriptor = file_open(core, file);
	if (descriptor < 0)
		return 0;
	if (size > file->end - address)
		size = file->end - address;
	length = pread(descriptor, to, size, (off_t)(file->offset + (address - file->begin)));
	close(descriptor);
	return length > 0 ? (size_t)length : 0;
}

/* As far as one segment, or one file, has it. */
static size_t piece_read(const struct core *core, uint64_t address, void *to, size_t size)
{
	const struct core_segment *segment = segment_at(core, address);
	ssize_t length;

	if (segment && segment->begin <= address && address - segment->begin < segment->bytes) {
		if (size > segment->bytes - (address - segment->begin))
			size = segment->bytes - (address - segment->begin);
		length = pread(core->descriptor, to, size,
		               (off_t)(segment->offset + (address - segment->begin)));
		return length > 0 ? (size_t)length : 0;
	}
	if (segment && segment->begin > address && size > segment->begin - address)
		size = segment->begin - address;
	return file_read(core, address, to, size);
}

size_t core_read(const struct core *core, uint64_t address, void *to, size_t size)
{
	size_t done = 0, piece;

	while (done < size && (piece = piece_read(core, address + done, (char *)to + done,
	                                          size - done)) > 0)
		done += piece;
	return done;
}

/* --- pages --- */

static bool page_is_zeros(const uint64_t page[MEMORY_PAGE / 8])
{
	for (size_t i = 0; i < MEMORY_PAGE / 8; i += 8) {
		uint64_t any = 0;

		for (size_t j = 0; j < 8; j++)
			any |= page[i + j];
		if (any)
			return false;
	}
	return true;
}

static void buffer_visit(const uint64_t *buffer, uint64_t begin, size_t pages,
                         memory_visitor *visit, void *context)
{
	for (size_t first = 0, last; first < pages; first = last) {
		bool zeros = page_is_zeros(buffer + first * (MEMORY_PAGE / 8));

		for (last = first + 1; last < pages &&
		     page_is_zeros(buffer + last * (MEMORY_PAGE / 8)) == zeros; last++)
			;
		visit(context, begin + first * MEMORY_PAGE, begin + last * MEMORY_PAGE,
		      zeros ? MEMORY_ZERO : MEMORY_RESIDENT);
	}
}

/* Visits pages in a file without holes: of each, whether it is zeros. */
static bool data_scan(const struct core *core, const struct core_segment *segment,
                      uint64_t begin, uint64_t end, memory_visitor *visit, void *context)
{
	uint64_t buffer[SCAN_PAGES * MEMORY_PAGE / 8];

	while (begin < end) {
		size_t size = end - begin < sizeof(buffer) ? end - begin : sizeof(buffer);
		ssize_t length = pread(core->descriptor, buffer, size,
		                       (off_t)(segment->offset + (begin - segment->begin)));

		if (length < (ssize_t)MEMORY_PAGE)
			return false;
		buffer_visit(buffer, begin, (size_t)length / MEMORY_PAGE, visit, context);
		begin += (size_t)length & ~(MEMORY_PAGE - 1);
	}
	return true;
}

/* A page may begin anywhere in the file, so that both ends of a hole may lie in it. */
static bool segment_scan(const struct core *core, const struct core_segment *segment,
                         uint64_t begin, uint64_t end, memory_visitor *visit, void *context)
{
	if (end - segment->begin > segment->bytes)
		end = segment->begin + segment->bytes;
	while (begin < end) {
		uint64_t at = segment->offset + (begin - segment->begin);
		off_t data = lseek(core->descriptor, (off_t)at, SEEK_DATA), hole;
		uint64_t stop;

		if (data < 0)
			return errno == ENXIO;
		begin += ((uint64_t)data - at) & ~(MEMORY_PAGE - 1);
		hole = lseek(core->descriptor, data, SEEK_HOLE);
		if (hole <= data)
			return false;
		stop = segment->begin + (((uint64_t)hole - segment->offset + MEMORY_PAGE - 1) &
		                         ~(MEMORY_PAGE - 1));
		if (stop > end)
			stop = end;
		if (begin < stop && core->pages_told)
			visit(context, begin, stop, MEMORY_RESIDENT);
		else if (begin < stop && !data_scan(core, segment, begin, stop, visit, context))
			return false;
		begin = begin < stop ? stop : begin;
	}
	return true;
}

bool core_scan(const struct core *core, uint64_t begin, uint64_t end,
               memory_visitor *visit, void *context)
{
	const struct core_segment *segment = segment_at(core, begin);

	for (; segment && segment < core->segments + core->segment_count && segment->begin < end;
	     segment++)
		if (!segment_scan(core, segment, begin > segment->begin ? begin : segment->begin,
		                  end < segment->end ? end : segment->end, visit, context))
			return false;
	return true;
}
