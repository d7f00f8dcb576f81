/*
 * The ways the library comes into a process.  Layer: tests.
 *
 *   loading owner            every name of the family is the library's: for a
 *                            program that was linked with it or preloads it
 *   loading dlopen LIBRARY   loaded late, beside libc's heap, and closed again
 *   loading constructor MODULE
 *                            a module's constructor, under the loader's lock, waits
 *                            for a new thread's first malloc
 */
#include <dlfcn.h>
#include <pthread.h>

#include "support/check.h"
#include "support/heap.h"

static const char *const family[] = {
	"malloc",
	"free",
	"calloc",
	"realloc",
	"aligned_alloc",
	"memalign",
	"posix_memalign",
	"valloc",
	"pvalloc",
	"malloc_usable_size",
	"free_sized",
	"free_aligned_sized",
	"reallocarray",
	"cfree",
	"mallopt",
	"mallinfo",
	"mallinfo2",
	"malloc_trim",
	"malloc_stats",
	"malloc_info",
	"__libc_malloc",
	"__libc_calloc",
	"__libc_realloc",
	"__libc_free",
	"__libc_memalign",
	"__libc_valloc",
	"__libc_pvalloc",
	"__libc_cfree",
	"__posix_memalign",
	"__libc_mallopt",
	"__libc_mallinfo",
	"_Znwm",
	"_Znam",
	"_ZdlPv",
	"_ZdaPv",
	"_ZdlPvm",
	"_ZdaPvm",
	"_ZnwmSt11align_val_t",
	"_ZnamSt11align_val_t",
	"_ZnwmRKSt9nothrow_t",
	"_ZdlPvSt11align_val_t",
	"_ZdlPvmSt11align_val_t",
	"_ZdlPvRKSt9nothrow_t",
};

static void owner(void)
{
	for (size_t i = 0; i < sizeof(family) / sizeof(family[0]); i++) {
		void *function = dlsym(RTLD_DEFAULT, family[i]);
		Dl_info info;

		CHECK_THAT(function != NULL, "no %s", family[i]);
		CHECK(dladdr(function, &info) != 0);
		CHECK_THAT(strstr(info.dli_fname, "libcede") != NULL, "%s is of %s", family[i],
		           info.dli_fname);
	}
	free(malloc(100));
}

struct late {
	void *(*take)(size_t);
	void (*give)(void *);
};

static void *late_thread(void *arg)
{
	struct late *late = arg;

	for (size_t i = 1; i < 1000; i++)
		late->give(memset(late->take(i * 20), 1, i * 20));
	return NULL;
}

static void late_run(struct late *late)
{
	pthread_t thread;

	late_thread(late);
	CHECK(pthread_create(&thread, NULL, late_thread, late) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void load_late(const char *path)
{
	struct late late;
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	CHECK_THAT(library != NULL, "%s", dlerror());
	*(void **)&late.take = dlsym(library, "cede_malloc");
	*(void **)&late.give = dlsym(library, "cede_free");
	CHECK(late.take != NULL && late.give != NULL);
	late_run(&late);
	/* A thread's end may still need the code: it stays where it is. */
	CHECK(dlclose(library) == 0);
	late_run(&late);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "owner") == 0) {
		owner();
	} else if (argc == 3 && strcmp(argv[1], "dlopen") == 0) {
		load_late(argv[2]);
	} else if (argc == 3 && strcmp(argv[1], "constructor") == 0) {
		alarm(20);
		CHECK_THAT(dlopen(argv[2], RTLD_NOW) != NULL, "%s", dlerror());
	} else {
		dprintf(2, "usage: loading owner | dlopen LIBRARY | constructor MODULE\n");
		return 2;
	}
	return 0;
}
