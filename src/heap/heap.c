#include "heap/heap.h"

#include "base/fmt.h"
#include "heap/cache.h"
#include "heap/misuse.h"
#include "os/os.h"

struct settings settings;

/* The program's own options, when it defines any. */
extern const char *cede_options __attribute__((weak));

static void warn(const char *line)
{
	char text[256];

	os_write_error(text, fmt_into(text, sizeof(text), "cede: %s\n", line));
}

void heap_start(void)
{
	settings_init(&settings);
	if (&cede_options != NULL && cede_options != NULL)
		settings_read_options(&settings, cede_options, warn);
	/* A raised program must not be steered by its caller's environment. */
	if (!os_is_secure()) {
		char *const *environment = os_environment();

		settings_read_environment(&settings, environment, warn);
		os_pressure_configure(environment);
		os_environment_done();
	}
	if (policy_is_default())
		settings.mxfast = 0;
	/* What the purger gives back need not be mapped by itself for that. */
	if (policy_is_default() && settings.background && settings.dynamic_threshold)
		settings.mmap_threshold = MAX_MMAP_THRESHOLD;
	arena_init(&main_arena, 0);
	main_arena.contiguous = true;
	cache_configure();
	fork_register();
	__atomic_store_n(&slabs_on, policy_is_default(), __ATOMIC_RELEASE);
}

_Noreturn COLD void misuse(const char *function, const void *block, const char *what)
{
	char text[256];

	os_write_error(text, fmt_into(text, sizeof(text), "cede: %s(%p): %s\n", function, block,
	                              what));
	os_abort();
}
