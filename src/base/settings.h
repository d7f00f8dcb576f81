/*
 * What a user may set: cede's options, glibc's tunables, the MALLOC_* variables
 * and mallopt.  Pure: text in, values out.  Layer: base (no system calls).
 *
 * Ownership: one `struct settings` of the process lives in heap/heap.c.  policy,
 * background and dirty-handling fields are constant after start-up; the others
 * change by mallopt and, for the two thresholds, by the dynamic rule, under the
 * main arena's lock; readers take them relaxed.
 */
#ifndef CEDE_BASE_SETTINGS_H
#define CEDE_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

enum policy { POLICY_DEFAULT, POLICY_CLASSIC };

/* glibc's constants on 64-bit. */
#define DEFAULT_MXFAST          128UL           /* bytes of the largest fast chunk */
#define MAX_MXFAST              160UL           /* the largest request M_MXFAST takes */
#define DEFAULT_TRIM_THRESHOLD  (128UL << 10)
#define DEFAULT_MMAP_THRESHOLD  (128UL << 10)
#define MAX_MMAP_THRESHOLD      (32UL << 20)    /* top of the dynamic rule */
#define DEFAULT_TOP_PAD         (128UL << 10)
#define DEFAULT_MMAP_MAX        65536UL

struct settings {
	enum policy policy;
	bool background;         /* may the purger have its thread? */
	bool huge;               /* may slabs of large arenas lie on huge pages? */
	bool dynamic_threshold;  /* false once any of the next four was set */
	bool trim_threshold_set; /* the user chose it: then free trims the top at once */
	size_t retain_max;       /* bytes free and resident, at most; SIZE_MAX: any */
	size_t trim_threshold;   /* bytes; SIZE_MAX: never */
	size_t top_pad;          /* bytes */
	size_t mmap_threshold;   /* bytes */
	size_t mmap_max;         /* mapped blocks at once */
	size_t mxfast;           /* bytes of the largest *chunk* (header included) that goes
	                            to a fast bin; below the smallest chunk: none */
	size_t arena_test;       /* 0: as the policy has it */
	size_t arena_max;        /* 0: by the number of CPUs */
	unsigned perturb;        /* M_PERTURB's value, its low byte counts; 0: off */
};

/* glibc's defaults, the default policy. */
void settings_init(struct settings *s);

/* Told each line that deserves a warning: no "cede: " in front, no newline. */
typedef void settings_warn_fn(const char *line);

/*
 * "name=value,name=value": cede's own options (see cede/cede.h).  An unknown name
 * or value is told to `warn` and ignored.
 */
void settings_read_options(struct settings *s, const char *text, settings_warn_fn *warn);

/*
 * Reads CEDE_OPTIONS, GLIBC_TUNABLES and the MALLOC_* variables from a
 * NULL-terminated environment.  As in glibc, a tunable wins over the variable
 * that means the same, wherever each stands; one that is out of range or not a
 * number is ignored silently (CEDE_OPTIONS: with a warning).
 */
void settings_read_environment(struct settings *s, char *const *environment,
                               settings_warn_fn *warn);

/* The value of a variable in a NULL-terminated environment, or NULL. */
const char *settings_variable(char *const *environment, const char *name);

/*
 * mallopt: 0 when M_MXFAST is not in 0..MAX_MXFAST, else 1, for unknown parameters
 * too.  Negative values wrap: M_TRIM_THRESHOLD -1 is SIZE_MAX; M_MMAP_MAX below 0
 * counts as 0; M_ARENA_TEST and M_ARENA_MAX below 1 change nothing.  Source:
 * mallopt(3), and where it is wrong what glibc 2.36 was seen to do: it takes an
 * M_MMAP_THRESHOLD above 32 MiB.
 */
int settings_mallopt(struct settings *s, int param, int value);

#endif
