/*
 * A process, or a core of one, and what was read of it, for the commands that look at its heap.
 * Layer: cli/doctor.  What goes wrong is told here, in words that help.
 */
#ifndef CEDE_CLI_DOCTOR_PATIENT_H
#define CEDE_CLI_DOCTOR_PATIENT_H

#include "doctor/pins.h"
#include "doctor/referrers.h"
#include "doctor/verdict.h"
#include "readers/allocator.h"
#include "readers/core.h"
#include "readers/reading.h"

/* What a command was told to look at.  The texts are the caller's. */
struct patient_source {
	char *core;                   /* NULL: a live process */
	char *program, *root;         /* as in struct core_options */
};

#define PATIENT_SOURCE_OPTIONS(source) \
	{ "core", 0, POPT_ARG_STRING, &(source)->core, 0, \
	  "Look at a core file instead of a process", "FILE" }, \
	{ "exe", 0, POPT_ARG_STRING, &(source)->program, 0, \
	  "The core's program, if it is not where it was", "FILE" }, \
	{ "sysroot", 0, POPT_ARG_STRING, &(source)->root, 0, \
	  "Where the core's programs and libraries are", "FOLDER" }

/* What leads to a block, in words: "the stack of thread 4711". */
struct patient_lead {
	uint64_t address;             /* of the block's memory */
	char text[160];
};

#define PATIENT_SAMPLE 64

/* The first bytes of a block's memory. */
struct patient_sample {
	uint64_t address;
	size_t size;
	unsigned char bytes[PATIENT_SAMPLE];
};

struct patient {
	char what[256];               /* "process 4711", or the core's path; printable */
	pid_t pid;
	char name[64];                /* of the process, printable */
	uint64_t started;             /* when, in clock ticks since the system's start */
	uint64_t taken;               /* when it was read, in milliseconds since 1970 */
	enum reading_outcome outcome;   /* READING_DONE, or READING_ABSENT: then no heap is there */
	struct reading reading;
	struct allocator allocator;
	char allocator_name[32];      /* what allocator.name points to, when loaded from a file */
	struct model model;
	struct verdict verdict;       /* patient_judge's to reach */
	struct groups pins;           /* of patient_group */
	bool leaks_wanted;
	struct leaks leaks;           /* when wanted, and a heap is there */
	struct patient_lead leads[REFERRERS_MOST];   /* when lost blocks were looked for */
	size_t lead_count;
	struct patient_sample *samples;   /* of a file that has some, ascending; else NULL */
	size_t sample_count;
	bool is_open;
	struct memory memory;         /* while it is open: what lost blocks hold; has the core */
};

/* The process id that is a command's only argument.  Returns COMMAND_OK, or what
 * command_misused gave. */
int patient_named(const char *command, const char **arguments, pid_t *pid);

/* Examines the core, or the process that the arguments name.  Returns as patient_examine,
 * or COMMAND_USAGE after it said what is wrong with the command line. */
int patient_take(struct patient *patient, const char *command, const char **arguments,
                 const struct patient_source *source, bool leaks);
void patient_source_free(struct patient_source *source);

/* Reads the process, and looks for lost blocks if told to.  Returns COMMAND_OK, or COMMAND_FAILED after it said why.  In
 * either case the patient must be discharged. */
int patient_examine(struct patient *patient, pid_t pid, bool leaks);
void patient_discharge(struct patient *patient);

/* Whether it was read from a core; also when it was loaded from a file of cede snapshot. */
static inline bool patient_is_core(const struct patient *patient)
{
	return !patient->reading.stops;
}

/* Reaches the verdict. */
void patient_judge(struct patient *patient, const struct verdict_limits *limits);

/* The exit status that stands for a verdict. */
int patient_exit_status(enum verdict_kind verdict);

/* Of any process, printable; "?" when it has ended. */
void patient_name_read(pid_t pid, char *name, size_t size);

/* Milliseconds since 1970. */
uint64_t patient_now(void);

/* Finds what pins.  Returns false when memory ran out. */
bool patient_group(struct patient *patient);

/* Says why a process could not be stopped or read, by errno, and returns COMMAND_FAILED. */
int patient_fail(pid_t pid, int error);

/* Leaves printable characters: what others wrote must not steer a terminal. */
void patient_text_clean(char *text);

#endif
