#include "readers/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "readers/core.h"

#define DELETED " (deleted)"

/* --- the table of mappings --- */

static char *file_text(const char *path, int *error)
{
	size_t used = 0, room = 1 << 16;
	char *text = malloc(room);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 1;

	*error = fd < 0 ? errno : 0;
	while (fd >= 0 && text && length > 0) {
		length = read(fd, text + used, room - used - 1);
		if (length < 0) {
			*error = errno;
			break;
		}
		used += (size_t)length;
		if (used + 1 == room) {
			char *larger = realloc(text, room *= 2);

			if (!larger)
				free(text);
			text = larger;
		}
	}
	if (fd >= 0)
		close(fd);
	if (!text)
		*error = ENOMEM;
	if (*error) {
		free(text);
		return NULL;
	}
	text[used] = '\0';
	return text;
}

enum memory_kind memory_path_kind(const char *path, uint64_t inode)
{
	if (!strcmp(path, "[heap]"))
		return MEMORY_BREAK;
	if (!strcmp(path, "[stack]"))
		return MEMORY_STACK;
	/* A name given by prctl ("[anon:...]"), or by huge pages, makes no file of it. */
	if (!*path || !strncmp(path, "[anon", 5) || !strcmp(path, "/anon_hugepage"))
		return MEMORY_ANONYMOUS;
	return inode || *path != '[' ? MEMORY_FILE : MEMORY_SPECIAL;
}

bool memory_path_cut(char *path)
{
	size_t length = strlen(path), cut = strlen(DELETED);

	if (length <= cut || strcmp(path + length - cut, DELETED) != 0)
		return false;
	path[length - cut] = '\0';
	return true;
}

static bool mapping_parse(char *line, struct memory_mapping *mapping)
{
	char access[5];
	int path = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %" SCNu64 " %n",
	           &mapping->begin, &mapping->end, access, &mapping->file_offset,
	           &mapping->inode, &path) < 5 || !path)
		return false;
	mapping->readable = access[0] == 'r';
	mapping->writable = access[1] == 'w';
	mapping->executable = access[2] == 'x';
	mapping->shared = access[3] == 's';
	mapping->deleted = memory_path_cut(line + path);
	mapping->path = line + path;
	mapping->kind = memory_path_kind(mapping->path, mapping->inode);
	return mapping->begin < mapping->end && mapping->end < MEMORY_END;
}

/* That of the program that runs now: what is open may be of one before an exec. */
static int pagemap_open(struct memory *memory)
{
	char path[64];
	int file;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", memory->pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return errno == ENOENT ? ESRCH : errno;
	if (memory->pagemap >= 0)
		close(memory->pagemap);
	memory->pagemap = file;
	return 0;
}

int memory_map(struct memory *memory)
{
	struct memory_mapping *mappings;
	size_t lines = 0, count = 0;
	char path[64], *text, *rest;
	int error;

	if (memory->core)
		return 0;
	error = pagemap_open(memory);
	if (error)
		return error;
	snprintf(path, sizeof(path), "/proc/%d/maps", memory->pid);
	text = file_text(path, &error);
	if (!text)
		return error;
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	mappings = calloc(lines + 1, sizeof(*mappings));
	if (!mappings) {
		free(text);
		return ENOMEM;
	}
	for (char *line = strtok_r(text, "\n", &rest); line && count < lines;
	     line = strtok_r(NULL, "\n", &rest))
		if (mapping_parse(line, &mappings[count]))
			count++;
	free(memory->mappings);
	free(memory->text);
	memory->mappings = mappings;
	memory->mapping_count = count;
	memory->text = text;
	return 0;
}

static int task_open(struct memory *memory, pid_t task)
{
	int error;

	*memory = (struct memory){ .pid = task, .pagemap = -1 };
	error = memory_map(memory);
	/* A thread that ended shows no memory any more. */
	if (!error && !memory->mapping_count)
		error = ESRCH;
	if (error)
		memory_close(memory);
	return error;
}

/* Its numbers of processes would be those of others for us. */
static bool proc_is_ours(void)
{
	char number[32] = "";

	return readlink("/proc/self", number, sizeof(number) - 1) < 0 || atoi(number) == getpid();
}

int memory_open(struct memory *memory, pid_t pid)
{
	int error = proc_is_ours() ? task_open(memory, pid) : EXDEV;
	struct dirent *entry;
	char path[64];
	DIR *folder;

	if (error != ESRCH)
		return error;
	/* The first thread may have ended before the others. */
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	while (error && folder && (entry = readdir(folder)))
		if (atoi(entry->d_name) > 0)
			error = task_open(memory, (pid_t)atoi(entry->d_name));
	if (folder)
		closedir(folder);
	return error;
}

int memory_open_core(struct memory *memory, struct core *core)
{
	*memory = (struct memory){ .core = core, .pid = core->pid, .pagemap = -1 };
	memory->mappings = core_mappings(core, &memory->mapping_count);
	if (memory->mappings)
		return 0;
	memory_close(memory);
	return ENOMEM;
}

void memory_close(struct memory *memory)
{
	if (memory->core)
		core_close(memory->core);
	if (memory->pagemap >= 0)
		close(memory->pagemap);
	free(memory->mappings);
	free(memory->text);
	*memory = (struct memory){ .pagemap = -1 };
}

const struct memory_mapping *memory_mapping_at(const struct memory *memory, uint64_t address)
{
	size_t low = 0, high = memory->mapping_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (memory->mappings[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < memory->mapping_count && memory->mappings[low].begin <= address ?
	       &memory->mappings[low] : NULL;
}

const char *memory_mapping_name(const struct memory_mapping *mapping)
{
	const char *slash = strrchr(mapping->path, '/');

	return slash ? slash + 1 : mapping->path;
}

int memory_mapping_open(const struct memory *memory, const struct memory_mapping *mapping)
{
	char path[64 + 4096];
	struct stat status;
	int fd;

	if (memory->core)
		return core_mapping_open(memory->core, mapping);
	/* This names the file that is mapped, whatever became of its name, but asks for
	 * a capability. */
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, memory->pid,
	         mapping->begin, mapping->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || mapping->deleted)
		return fd;
	/* By its name, which may be something else by now, even a pipe. */
	snprintf(path, sizeof(path), "/proc/%d/root%s", memory->pid, mapping->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) ||
	                status.st_ino != mapping->inode)) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

/* --- bytes --- */

size_t memory_read_some(const struct memory *memory, uint64_t address, void *to, size_t size)
{
	struct iovec local = { to, size }, remote = { (void *)address, size };
	ssize_t length;

	if (address >= MEMORY_END || size > MEMORY_END)
		return 0;
	if (memory->core)
		return core_read(memory->core, address, to, size);
	length = process_vm_readv(memory->pid, &local, 1, &remote, 1, 0);
	return length > 0 ? (size_t)length : 0;
}

bool memory_read(const struct memory *memory, uint64_t address, void *to, size_t size)
{
	return memory_read_some(memory, address, to, size) == size;
}

/* --- pages --- */

/* From Linux 6.7's <linux/fs.h>, which is newer than the headers we build with. */
struct scan_range {
	uint64_t begin, end, categories;
};

struct scan {
	uint64_t size, flags, begin, end, walk_end, ranges, range_count, max_pages;
	uint64_t inverted, needed, any_of, returned;
};

#define SCAN_REQUEST _IOWR('f', 16, struct scan)
#define SCAN_IS_PRESENT (1ul << 3)
#define SCAN_IS_SWAPPED (1ul << 4)
#define SCAN_IS_ZERO (1ul << 5)
#define SCAN_RANGES 512

static enum memory_page scanned_state(uint64_t categories)
{
	if (categories & SCAN_IS_ZERO)
		return MEMORY_ZERO;
	return categories & SCAN_IS_PRESENT ? MEMORY_RESIDENT : MEMORY_SWAPPED;
}

/* Advances *at as far as the kernel could tell. */
static bool scan_by_ranges(const struct memory *memory, uint64_t *at, uint64_t end,
                           memory_visitor *visit, void *context)
{
	struct scan_range ranges[SCAN_RANGES];

	while (*at < end) {
		struct scan scan = {
			.size = sizeof(scan), .begin = *at, .end = end,
			.ranges = (uintptr_t)ranges, .range_count = SCAN_RANGES,
			.any_of = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
			.returned = SCAN_IS_PRESENT | SCAN_IS_SWAPPED | SCAN_IS_ZERO,
		};
		int count = ioctl(memory->pagemap, SCAN_REQUEST, &scan);

		if (count < 0 || scan.walk_end <= *at)
			return false;
		for (int i = 0; i < count; i++)
			visit(context, ranges[i].begin, ranges[i].end,
			      scanned_state(ranges[i].categories));
		*at = scan.walk_end;
	}
	return true;
}

#define PAGEMAP_PRESENT (1ul << 63)
#define PAGEMAP_SWAPPED (1ul << 62)
#define PAGEMAP_ENTRIES 1024
#define PAGEMAP_REACH (1ul << 40)

static bool scan_by_pages(const struct memory *memory, uint64_t at, uint64_t end,
                          memory_visitor *visit, void *context)
{
	uint64_t entries[PAGEMAP_ENTRIES];

	/* What is reserved in such amounts would take minutes to look through. */
	if (end - at > PAGEMAP_REACH)
		return false;
	while (at < end) {
		size_t wanted = (end - at) / MEMORY_PAGE;
		ssize_t length;

		if (wanted > PAGEMAP_ENTRIES)
			wanted = PAGEMAP_ENTRIES;
		length = pread(memory->pagemap, entries, wanted * sizeof(*entries),
		               (off_t)(at / MEMORY_PAGE * sizeof(*entries)));
		if (length < (ssize_t)sizeof(*entries))
			return false;
		for (size_t i = 0; i < (size_t)length / sizeof(*entries); i++, at += MEMORY_PAGE)
			if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
				visit(context, at, at + MEMORY_PAGE, entries[i] & PAGEMAP_PRESENT ?
				      MEMORY_RESIDENT : MEMORY_SWAPPED);
	}
	return true;
}

bool memory_scan(const struct memory *memory, uint64_t begin, uint64_t end,
                 memory_visitor *visit, void *context)
{
	if (memory->core)
		return core_scan(memory->core, begin, end, visit, context);
	return scan_by_ranges(memory, &begin, end, visit, context) ||
	       scan_by_pages(memory, begin, end, visit, context);
}

struct page_table {
	uint64_t begin;
	uint8_t *pages;
};

static void page_table_fill(void *context, uint64_t begin, uint64_t end, enum memory_page state)
{
	struct page_table *table = context;

	memset(table->pages + (begin - table->begin) / MEMORY_PAGE, state,
	       (end - begin) / MEMORY_PAGE);
}

bool memory_pages(const struct memory *memory, uint64_t begin, uint64_t end, uint8_t *pages)
{
	struct page_table table = { begin, pages };

	return memory_scan(memory, begin, end, page_table_fill, &table);
}
