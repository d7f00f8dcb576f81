#include "support/folder.h"

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

char folder[64];

const char *folder_at(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	return path;
}

void folder_put(const char *name, const char *text)
{
	FILE *file;

	if (text == NULL) {
		assert_int_equal(mkdir(folder_at(name), 0700), 0);
		return;
	}
	file = fopen(folder_at(name), "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int delete_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status;
	(void)type;
	(void)walk;
	return remove(path);
}

int folder_setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), P_tmpdir "/cede-test-%ld", (long)getpid());
	return mkdir(folder, 0700);
}

int folder_teardown(void **state)
{
	(void)state;
	return nftw(folder, delete_one, 8, FTW_DEPTH | FTW_PHYS);
}
