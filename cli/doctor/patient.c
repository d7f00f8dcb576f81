#include "doctor/patient.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "doctor/leads.h"
#include "readers/access.h"
#include "readers/cede_target.h"

#define LOST_BYTES (256ul << 10)     /* a break of so much is somebody's */

/* --- errors --- */

/* Who traces the process already: 0 for nobody. */
static int tracer_of(pid_t pid)
{
	char path[64], line[256];
	int tracer = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && !tracer && fgets(line, sizeof(line), file))
		if (sscanf(line, "TracerPid: %d", &tracer) != 1)
			tracer = 0;
	if (file)
		fclose(file);
	return tracer;
}

int patient_fail(pid_t pid, int error)
{
	int tracer = error == EPERM ? tracer_of(pid) : 0;
	char why[400];

	if (tracer > 0)
		return command_fail("process %d is traced by process %d: end that (gdb? strace?) and "
		                    "try again", pid, tracer);
	if (error == ETIMEDOUT)
		return command_fail("process %d does not stop: one of its threads waits for a disk or a "
		                    "child in a way that nothing interrupts; try again later", pid);
	access_explain(pid, error, why, sizeof(why));
	return command_fail("%s", why);
}

/* A core's threads cannot be let out of malloc. */
static int corrupt_fail(const struct patient *patient)
{
	const struct reading *reading = &patient->reading;

	if (!patient->memory.core)
		return command_fail("the heap of %s is corrupted: %s; no verdict on its memory",
		                    patient->what, reading->why);
	return command_fail("the heap in %s is corrupted, or was being changed (locked arenas: %zu): "
	                    "%s; no verdict on its memory", patient->what, reading->locked_arenas,
	                    reading->why);
}

static int outcome_fail(const struct patient *patient)
{
	const char *why = patient->reading.why;

	switch (patient->outcome) {
	case READING_UNKNOWN:
		return command_fail("%s: %s; look for a newer cede", patient->what, why);
	case READING_BUSY:
		return command_fail("%s was in the middle of changing its heap each of %u times; "
		                    "try again (%s)", patient->what, patient->reading.stops,
		                    *why ? why : "an arena was locked");
	case READING_CORRUPT:
		return corrupt_fail(patient);
	default:
		if (patient->memory.core)
			return command_fail("%s: %s", patient->what, strerror(patient->reading.error));
		return patient_fail(patient->pid, patient->reading.error);
	}
}

/* --- the examination --- */

/* A break in use, by a program with glibc's malloc, that glibc has no arena for. */
static bool is_arena_lost(const struct patient *patient, const struct memory *memory)
{
	return patient->outcome == READING_ABSENT && !patient->allocator.name &&
	       allocator_is_glibc(memory) && patient->reading.break_bytes >= LOST_BYTES;
}

void patient_text_clean(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

void patient_name_read(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, (int)size, file))
		snprintf(name, size, "?");
	if (file)
		fclose(file);
	name[strcspn(name, "\n")] = '\0';
	patient_text_clean(name);
}

/* The 22nd field, after a name that may hold anything. */
static uint64_t start_read(pid_t pid)
{
	char path[64], line[2048], *word;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	line[fread(line, 1, sizeof(line) - 1, file)] = '\0';
	fclose(file);
	word = strrchr(line, ')');
	for (int field = 2; word && field < 22; field++)
		word = strchr(word + 1, ' ');
	return word ? strtoull(word, NULL, 10) : 0;
}

uint64_t patient_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool patient_group(struct patient *patient)
{
	return patient->pins.items || pins_find(&patient->model, &patient->pins);
}

static void heap_read(struct patient *patient, const struct cede_descriptor *cede, bool leaks)
{
	struct words words = { 0 };

	patient->outcome = reading_take(&patient->memory, cede, &patient->model,
	                                leaks ? &words : NULL, &patient->reading);
	patient->leaks_wanted = leaks && patient->outcome == READING_DONE;
	if (patient->leaks_wanted && (!leaks_find(&patient->model, &words, &patient->leaks) ||
	    !patient_group(patient) || !leads_find(patient, &words))) {
		patient->outcome = READING_FAILED;
		patient->reading.error = ENOMEM;
	}
	words_free(&words);
}

static int memory_examine(struct patient *patient, bool leaks)
{
	struct memory *memory = &patient->memory;
	struct cede_descriptor cede;
	struct cede_refusal refusal;
	bool on_cede;

	patient_text_clean(patient->what);
	allocator_find(memory, &patient->allocator);
	on_cede = cede_target_find(memory, &cede, &refusal);
	if (!on_cede && patient->allocator.is_malloc && !strcmp(patient->allocator.name, "cede"))
		return command_fail("%s", refusal.text);
	/* Its names do not tell when it is inside the program, or was loaded before another. */
	if (on_cede && (!patient->allocator.name || strcmp(patient->allocator.name, "cede")))
		patient->allocator = (struct allocator){ .name = "cede", .is_malloc = true };
	heap_read(patient, on_cede ? &cede : NULL, leaks);
	patient->taken = memory->core ? memory->core->written : patient_now();
	patient_text_clean(patient->allocator.file);
	patient_text_clean(patient->reading.why);
	if (is_arena_lost(patient, memory)) {
		patient->outcome = READING_CORRUPT;
		snprintf(patient->reading.why, sizeof(patient->reading.why),
		         "its break is in use, but what glibc keeps of it cannot be found");
	}
	return patient->outcome == READING_DONE || patient->outcome == READING_ABSENT ?
	       COMMAND_OK : outcome_fail(patient);
}

int patient_examine(struct patient *patient, pid_t pid, bool leaks)
{
	int error;

	memset(patient, 0, sizeof(*patient));
	patient->pid = pid;
	snprintf(patient->what, sizeof(patient->what), "process %d", pid);
	error = memory_open(&patient->memory, pid);
	if (error)
		return patient_fail(pid, error);
	patient->is_open = true;
	patient_name_read(pid, patient->name, sizeof(patient->name));
	if (allocator_word_bits(&patient->memory) == 32)
		return command_fail("process %d is a 32-bit program, which cede cannot read", pid);
	patient->started = start_read(pid);
	return memory_examine(patient, leaks);
}

static int core_examine(struct patient *patient, const struct patient_source *source, bool leaks)
{
	const struct core_options options = { source->core, source->program, source->root };
	char why[CORE_WHY];
	struct core *core;

	snprintf(patient->what, sizeof(patient->what), "%s", source->core);
	core = core_open(&options, why);
	if (!core) {
		patient_text_clean(why);
		return command_fail("%s: %s", source->core, why);
	}
	if (memory_open_core(&patient->memory, core) != 0)
		return command_fail("out of memory");
	patient->is_open = true;
	patient->pid = core->pid;
	strcpy(patient->name, core->name);
	patient_text_clean(patient->name);
	return memory_examine(patient, leaks);
}

int patient_take(struct patient *patient, const char *command, const char **arguments,
                 const struct patient_source *source, bool leaks)
{
	pid_t pid;
	int result;

	memset(patient, 0, sizeof(*patient));
	if (source->core && arguments)
		return command_misused("%s: a core or a process, not both (see cede help %s)", command,
		                       command);
	if (source->core)
		return core_examine(patient, source, leaks);
	if (source->program || source->root)
		return command_misused("%s: --exe and --sysroot go with --core", command);
	result = patient_named(command, arguments, &pid);
	return result == COMMAND_OK ? patient_examine(patient, pid, leaks) : result;
}

void patient_source_free(struct patient_source *source)
{
	free(source->core);
	free(source->program);
	free(source->root);
}

void patient_judge(struct patient *patient, const struct verdict_limits *limits)
{
	/* Its malloc may be one whose heap was not read. */
	bool elsewhere = patient->allocator.is_malloc && !*patient->reading.cede;

	verdict_reach(&patient->model, limits, patient->outcome == READING_ABSENT || elsewhere,
	              &patient->verdict);
	if (patient->leaks_wanted)
		verdict_weigh_leaks(&patient->leaks, limits, &patient->verdict);
}

int patient_exit_status(enum verdict_kind verdict)
{
	static const int statuses[] = {
		[VERDICT_LIVE] = COMMAND_OK, [VERDICT_LEAK] = 10, [VERDICT_RETENTION] = 11,
		[VERDICT_FRAGMENTATION] = 12, [VERDICT_NOT_GLIBC] = 13,
	};

	return statuses[verdict];
}

void patient_discharge(struct patient *patient)
{
	model_free(&patient->model);
	groups_free(&patient->pins);
	leaks_free(&patient->leaks);
	free(patient->samples);
	if (patient->is_open)
		memory_close(&patient->memory);
}

int patient_named(const char *command, const char **arguments, pid_t *named)
{
	char *end;
	long pid;

	if (!arguments || arguments[1])
		return command_misused("%s: which process? (one process id; see cede help %s)", command,
		                       command);
	errno = 0;
	pid = strtol(arguments[0], &end, 10);
	if (errno || *end || end == arguments[0] || pid <= 0 || pid > INT32_MAX)
		return command_misused("%s: '%s' is no process id", command, arguments[0]);
	if (pid == getpid())
		return command_misused("%s: it cannot examine itself", command);
	*named = (pid_t)pid;
	return COMMAND_OK;
}
