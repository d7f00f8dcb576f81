#include "lab/allocator.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "image.h"
#include "library.h"

static const struct {
	const char *name, *file;
} peers[] = {
	{ "jemalloc", "libjemalloc.so.2" },
	{ "tcmalloc", "libtcmalloc_minimal.so.4" },
	{ "mimalloc", "libmimalloc.so.[0-9]*" },
};

static const char library_directories[] =
	"{/usr/lib/x86_64-linux-gnu,/usr/lib/aarch64-linux-gnu,/usr/lib64,/usr/lib,/usr/local/lib}/";

static bool is_wanted(const char *name, const char *only)
{
	size_t length = strlen(name);

	for (const char *at = only; at && *at; at = strchrnul(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, name, length) && (at[length] == ',' || !at[length]))
			return true;
	}
	return !only;
}

static struct allocator *allocator_add(struct allocators *allocators, const char *name)
{
	struct allocator *added;

	if (allocators->count == ALLOCATORS_MAX) {
		command_say("at most %d allocators at once", ALLOCATORS_MAX);
		return NULL;
	}
	added = &allocators->list[allocators->count++];
	*added = (struct allocator){ 0 };
	snprintf(added->name, sizeof(added->name), "%s", name);
	return added;
}

static int library_add(struct allocators *allocators, const char *name, const char *file)
{
	struct allocator *added;
	struct image image;
	char path[PATH_MAX];

	/* Resolved, as the kernel names it among a process's mappings. */
	if (!realpath(file, path) || image_read(path, &image) != 0) {
		command_say("allocator %s: %s: %s", name, file, strerror(errno));
		return -1;
	}
	if (!image.is_elf || !image.defines_malloc) {
		command_say("allocator %s: %s is not a library that defines malloc", name, path);
		return -1;
	}
	added = allocator_add(allocators, name);
	if (!added)
		return -1;
	strcpy(added->path, path);
	added->has_stats = image.defines_malloc_stats;
	added->is_peer = true;
	return 0;
}

static int cede_add(struct allocators *allocators, const char *name, const char *options)
{
	char path[PATH_MAX];

	if (library_find(path) != 0 || library_add(allocators, name, path) != 0)
		return -1;
	allocators->list[allocators->count - 1].options = options;
	allocators->list[allocators->count - 1].is_peer = false;
	return 0;
}

static int peer_add(struct allocators *allocators, const char *name, const char *file)
{
	char pattern[256];
	glob_t found;
	int result = 0;

	snprintf(pattern, sizeof(pattern), "%s%s", library_directories, file);
	if (glob(pattern, GLOB_BRACE, NULL, &found) == 0) {
		result = library_add(allocators, name, found.gl_pathv[0]);
		globfree(&found);
	}
	return result;
}

static int named_add(struct allocators *allocators, const char *text)
{
	const char *sign = strchr(text, '=');
	char name[32];

	if (!sign || sign == text || (size_t)(sign - text) >= sizeof(name) ||
	    strpbrk(sign, " :")) {
		command_say("--allocator is name=/path/to/library.so (no space or colon in it), "
		            "not '%s'", text);
		return -1;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(sign - text), text);
	return library_add(allocators, name, sign + 1);
}

/* Every name in `only` must have become an allocator. */
static int only_check(const struct allocators *allocators, const char *only)
{
	char name[32];

	for (const char *at = only; at && *at; at = strchrnul(at, ',')) {
		size_t i = 0;

		at += *at == ',';
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, ","), at);
		while (i < allocators->count && strcmp(allocators->list[i].name, name))
			i++;
		if (i == allocators->count) {
			command_say("no allocator '%s' here: name its library with "
			            "--allocator %s=/path/to/library.so", name, name);
			return -1;
		}
	}
	return 0;
}

int allocators_find(struct allocators *allocators, char *const *named, const char *only)
{
	struct allocator *glibc;

	allocators->count = 0;
	if (is_wanted("glibc", only)) {
		glibc = allocator_add(allocators, "glibc");
		glibc->has_stats = true;
	}
	if (is_wanted("classic", only) && cede_add(allocators, "classic", "policy=classic") != 0)
		return -1;
	if (is_wanted("cede", only) && cede_add(allocators, "cede", "policy=default") != 0)
		return -1;
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		if (is_wanted(peers[i].name, only) &&
		    peer_add(allocators, peers[i].name, peers[i].file) != 0)
			return -1;
	for (char *const *text = named; text && *text; text++)
		if (named_add(allocators, *text) != 0)
			return -1;
	return only_check(allocators, only);
}
