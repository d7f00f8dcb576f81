#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "command.h"
#include "image.h"

#define SCRIPT_DEPTH 4      /* as many interpreters of interpreters as the kernel follows */
#define SCRIPT_LINE 256     /* bytes of the first line that the kernel reads */

static int refuse(const char *path, const char *why)
{
	command_say("%s: %s", path, why);
	return -1;
}

static int path_check(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return refuse(path, errno == ENOENT ? "not found: check its name" : strerror(errno));
	if (S_ISDIR(status.st_mode))
		return refuse(path, "is a directory, not a program");
	if (!S_ISREG(status.st_mode) || access(path, X_OK) != 0)
		return refuse(path, "is not executable: chmod +x makes it so, if it is a program");
	return 0;
}

static int path_search(const char *name, char path[PATH_MAX])
{
	const char *directories = getenv("PATH"), *end;

	if (!directories)
		directories = "/usr/local/bin:/usr/bin:/bin";
	for (;; directories = end + 1) {
		struct stat status;

		end = strchrnul(directories, ':');
		snprintf(path, PATH_MAX, "%.*s/%s", end == directories ? 1 : (int)(end - directories),
		         end == directories ? "." : directories, name);
		if (stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0)
			return 0;
		if (!*end)
			break;
	}
	return refuse(name, "not found in PATH: check its name, or give its path");
}

int program_resolve(const char *name, char path[PATH_MAX])
{
	if (!strchr(name, '/'))
		return path_search(name, path);
	if (strlen(name) >= PATH_MAX)
		return refuse(name, strerror(ENAMETOOLONG));
	strcpy(path, name);
	return path_check(path);
}

/* The loader ignores LD_PRELOAD when the kernel raises the rights of a program. */
static int rights_check(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return refuse(path, strerror(errno));
	if ((status.st_mode & S_ISUID) && status.st_uid != getuid())
		return refuse(path, "is set-user-id, and the loader preloads nothing into such a "
		              "program: run it as its owner");
	if ((status.st_mode & S_ISGID) && (status.st_mode & S_IXGRP) && status.st_gid != getgid())
		return refuse(path, "is set-group-id, and the loader preloads nothing into such a "
		              "program: run it with that group as your own");
	if (getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0)
		return refuse(path, "has file capabilities, and the loader preloads nothing into such "
		              "a program: run it as root, or a copy of it without them");
	return 0;
}

static int image_check(const char *path, const struct image *image, const char *library)
{
	struct image ours;

	if (image_read(library, &ours) != 0 || !ours.is_elf)
		return refuse(library, "is not a shared library: reinstall cede, or correct CEDE_LIBRARY");
	if (image->elf_class != ours.elf_class || image->machine != ours.machine)
		return refuse(path, image->elf_class != ours.elf_class ?
		              "is a program of another word size than libcede: it needs a libcede "
		              "built for it" :
		              "is a program for another machine than libcede: it needs a libcede "
		              "built for it");
	if (!*image->interpreter)
		return refuse(path, "is a static program, which loads no library: link it with "
		              "libcede.a instead");
	if (strstr(image->interpreter, "ld-musl"))
		return refuse(path, "uses musl, and libcede needs glibc: build the program against glibc");
	if (image->defines_malloc)
		command_say("warning: %s has a malloc of its own, which goes before cede's", path);
	else if (*image->needs_allocator)
		command_say("warning: %s is linked with %s; cede goes before it, but calls that only "
		            "%s answers stay with it", path, image->needs_allocator,
		            image->needs_allocator);
	return 0;
}

/* The path after "#!", or "" when the file does not begin so. */
static void script_interpreter(const char *path, char interpreter[SCRIPT_LINE + 1])
{
	char line[SCRIPT_LINE + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, line, SCRIPT_LINE);
	char *begin;

	if (fd >= 0)
		close(fd);
	*interpreter = '\0';
	if (length < 2 || line[0] != '#' || line[1] != '!')
		return;
	line[length] = '\0';
	line[strcspn(line, "\n")] = '\0';
	begin = line + 2 + strspn(line + 2, " \t");
	begin[strcspn(begin, " \t")] = '\0';
	strcpy(interpreter, begin);
}

int program_check(const char *path, const char *library)
{
	char interpreter[SCRIPT_LINE + 1], file[PATH_MAX];

	snprintf(file, sizeof(file), "%s", path);
	for (int depth = 0; depth <= SCRIPT_DEPTH; depth++) {
		struct image image;

		if (path_check(file) != 0)
			return -1;
		if (image_read(file, &image) != 0)
			return refuse(file, strerror(errno));
		if (image.is_elf)
			return rights_check(file) == 0 ? image_check(file, &image, library) : -1;
		script_interpreter(file, interpreter);
		if (!*interpreter)
			return refuse(file, "is neither a program nor a script that begins with #! and "
			              "its interpreter: give the interpreter before it");
		snprintf(file, sizeof(file), "%s", interpreter);
	}
	return refuse(path, "its interpreter is a script of a script, too deep for the kernel");
}
