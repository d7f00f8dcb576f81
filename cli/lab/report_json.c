#include "lab/report.h"

#include <cJSON.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "command.h"

static void bytes_add(cJSON *object, const char *name, uint64_t bytes)
{
	cJSON_AddNumberToObject(object, name, (double)bytes);
}

static double milliseconds_kept(double seconds)
{
	return (double)(long long)(seconds * 1000 + 0.5) / 1000;
}

static void machine_add(cJSON *root)
{
	cJSON *machine = cJSON_AddObjectToObject(root, "machine");
	struct measure_machine memory = { 0 };
	struct utsname name;

	if (uname(&name) == 0)
		cJSON_AddStringToObject(machine, "kernel", name.release);
	cJSON_AddNumberToObject(machine, "processors", (double)sysconf(_SC_NPROCESSORS_ONLN));
	if (measure_machine(&memory) == 0)
		bytes_add(machine, "memory_bytes", memory.total);
}

static void step_add(cJSON *steps, const struct moment *moment,
                     const struct run_sample *sample)
{
	cJSON *step = cJSON_CreateObject();

	cJSON_AddItemToArray(steps, step);
	cJSON_AddStringToObject(step, "step", moment->name);
	cJSON_AddNumberToObject(step, "process", moment->process);
	cJSON_AddNumberToObject(step, "seconds", milliseconds_kept(sample->seconds));
	bytes_add(step, "live_bytes", sample->live);
	bytes_add(step, "rss_bytes", sample->process.rss);
	bytes_add(step, "anonymous_bytes", sample->process.anonymous);
	bytes_add(step, "heap_bytes", sample->process.heap);
	bytes_add(step, "machine_free_bytes", sample->machine.free);
	bytes_add(step, "machine_available_bytes", sample->machine.available);
	if (sample->stats.known) {
		bytes_add(step, "arena_system_bytes", sample->stats.arena_system);
		bytes_add(step, "arena_in_use_bytes", sample->stats.arena_in_use);
		bytes_add(step, "total_system_bytes", sample->stats.total_system);
		bytes_add(step, "total_in_use_bytes", sample->stats.total_in_use);
	}
	if (sample->floor)
		bytes_add(step, "floor_bytes", sample->floor);
}

static void trace_add(cJSON *object, const struct run *run)
{
	cJSON *trace = cJSON_AddArrayToObject(object, "trace");

	for (size_t i = 0; i < run->point_count; i++) {
		const double values[] = { milliseconds_kept(run->points[i].seconds),
		                          (double)run->points[i].live, (double)run->points[i].rss };

		cJSON_AddItemToArray(trace, cJSON_CreateDoubleArray(values, 3));
	}
}

static void run_add(cJSON *runs, const struct run *run)
{
	static const char *const outcomes[] = {
		[RUN_FINISHED] = "finished", [RUN_KILLED] = "killed",
		[RUN_SKIPPED] = "skipped", [RUN_FAILED] = "failed",
	};
	const struct experiment *experiment = run->experiment;
	cJSON *object = cJSON_CreateObject(), *steps;
	uint64_t kept, gained;

	cJSON_AddItemToArray(runs, object);
	cJSON_AddStringToObject(object, "experiment", experiment->name);
	cJSON_AddStringToObject(object, "title", experiment->title);
	cJSON_AddStringToObject(object, "allocator", run->allocator->name);
	cJSON_AddStringToObject(object, "library", run->allocator->path);
	cJSON_AddStringToObject(object, "options",
	                        run->allocator->options ? run->allocator->options : "");
	bytes_add(object, "block_bytes", experiment->block_bytes);
	bytes_add(object, "total_bytes", experiment_bytes(experiment, run->total));
	if (run->limit)
		bytes_add(object, "limit_bytes", run->limit);
	cJSON_AddStringToObject(object, "outcome", outcomes[run->outcome]);
	cJSON_AddStringToObject(object, "note", run->note);
	if (run_kept(run, &kept, &gained)) {
		bytes_add(object, "gained_bytes", gained);
		bytes_add(object, "kept_bytes", kept);
	}
	steps = cJSON_AddArrayToObject(object, "steps");
	for (size_t i = 0; i < experiment_moment_count(experiment); i++)
		if (run->samples[i].taken)
			step_add(steps, &experiment->moments[i], &run->samples[i]);
	trace_add(object, run);
}

int report_json(FILE *out, const struct run *runs, size_t count)
{
	cJSON *root = cJSON_CreateObject(), *list;
	char *text;

	cJSON_AddStringToObject(root, "schema", "cede-lab/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	machine_add(root);
	list = cJSON_AddArrayToObject(root, "runs");
	for (size_t i = 0; i < count; i++)
		run_add(list, &runs[i]);
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		return -1;
	fprintf(out, "%s\n", text);
	free(text);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
