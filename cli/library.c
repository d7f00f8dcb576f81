#include "library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

int library_beside_command(char path[PATH_MAX], const char *relative)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length <= 0)
		return -1;
	self[length] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	return snprintf(path, PATH_MAX, "%s/%s", self, relative) < PATH_MAX ? 0 : -1;
}

int library_find(char path[PATH_MAX])
{
	static const char *const beside[] = { "../lib/libcede.so.0", "../lib/libcede.so" };
	const char *chosen = getenv("CEDE_LIBRARY");
	char candidate[PATH_MAX];

	if (chosen && *chosen) {
		if (realpath(chosen, path))
			return 0;
		command_say("CEDE_LIBRARY=%s: %s", chosen, strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
		if (library_beside_command(candidate, beside[i]) == 0 && realpath(candidate, path))
			return 0;
	if (realpath(CEDE_LIBDIR "/libcede.so.0", path))
		return 0;
	command_say("libcede.so.0 is neither beside this command (../lib) nor in " CEDE_LIBDIR
	            ": install it, or set CEDE_LIBRARY to its path");
	return -1;
}

/* Sets name to "first<separator>second", either of which may be empty. */
static int environment_join(const char *name, const char *first, const char *separator,
                            const char *second)
{
	char *value;
	int result;

	if (asprintf(&value, "%s%s%s", first, *first && *second ? separator : "", second) < 0)
		return -1;
	result = setenv(name, value, 1);
	free(value);
	return result;
}

static const char *environment_get(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

int library_preload(const char *path, const char *options)
{
	if (strpbrk(path, " :")) {
		command_say("%s: the loader cannot preload a path with a space or a colon: "
		            "move the library, or set CEDE_LIBRARY to another path of it", path);
		return -1;
	}
	if (environment_join("LD_PRELOAD", path, ":", environment_get("LD_PRELOAD")) == 0 &&
	    (!*options ||
	     environment_join("CEDE_OPTIONS", environment_get("CEDE_OPTIONS"), ",", options) == 0))
		return 0;
	command_say("out of memory");
	return -1;
}
