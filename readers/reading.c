#include "readers/reading.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "readers/cede_heap.h"
#include "readers/contents.h"
#include "readers/gather.h"
#include "readers/glibc_lists.h"
#include "readers/glibc_walk.h"

#define STOPS_MOST 40
#define ALIKE_ENOUGH 4             /* disagreements in a row, of the same words */
/* To let threads leave malloc; each takes some 0.1 ms. */
#define STEPS_LEAST 100
#define STEPS_EACH 20              /* for each thread */
#define STEPS_MOST 1000
#define WAIT_MICROSECONDS 500
#define WAIT_MICROSECONDS_MOST 20000

/* One look at the process. */
struct look {
	struct memory *memory;
	struct model *model;
	struct words *words;       /* NULL when not wanted */
	struct stop stop;
	struct glibc glibc;
	struct cede_heap *cede;    /* NULL: the heap is glibc's */
	struct glibc_state state;
	struct contents contents;
	struct reading *reading;
	enum glibc_found found;
	bool for_good;             /* a second look would show the same */
	bool in_malloc;            /* a thread would not leave what may be malloc */
};

static uint64_t now_microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- the whole process --- */

static void mapping_count_pages(void *context, uint64_t begin, uint64_t end,
                                enum memory_page state)
{
	struct model_mapping *mapping = context;

	if (state == MEMORY_RESIDENT)
		mapping->resident_bytes += end - begin;
	else if (state == MEMORY_SWAPPED)
		mapping->swapped_bytes += end - begin;
}

static void mappings_add(const struct memory *memory, struct model *model, uint64_t *break_bytes)
{
	static const enum model_mapping_kind kinds[] = {
		[MEMORY_ANONYMOUS] = MODEL_ANONYMOUS, [MEMORY_BREAK] = MODEL_ANONYMOUS,
		[MEMORY_STACK] = MODEL_STACK, [MEMORY_FILE] = MODEL_FILE,
		[MEMORY_SPECIAL] = MODEL_OTHER,
	};

	for (size_t i = 0; i < memory->mapping_count; i++) {
		const struct memory_mapping *from = &memory->mappings[i];
		struct model_mapping to = { .begin = from->begin, .end = from->end,
		                            .kind = kinds[from->kind] };

		/* The kernel counts its code there as the process's, but none of its data. */
		if (from->kind != MEMORY_SPECIAL || !strcmp(from->path, "[vdso]"))
			memory_scan(memory, from->begin, from->end, mapping_count_pages, &to);
		model_add_mapping(model, &to);
		if (from->kind == MEMORY_BREAK)
			*break_bytes += to.resident_bytes;
	}
}

/* --- one look --- */

/* May be in the middle of a change: it runs in the code that malloc is part of, or asks
 * for memory. */
static bool thread_in_malloc(const struct glibc *glibc, const struct stop_thread *thread)
{
	static const long calls[] = { SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect,
	                              SYS_madvise };

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (thread->call == calls[i])
			return true;
	return thread->call < 0 && thread->instruction_pointer >= glibc->module_begin &&
	       thread->instruction_pointer < glibc->module_end;
}

/*
 * Lets the threads that may be inside malloc leave it, one by one.  A program that is
 * all in one file, or one that copies memory all the time, never seems to: what was
 * read then shows whether it was.
 */
static int threads_leave_malloc(struct look *look)
{
	const struct stop *stop = &look->stop;
	size_t most = STEPS_LEAST + STEPS_EACH * stop->count;

	most = most < STEPS_MOST ? most : STEPS_MOST;
	look->in_malloc = false;
	if (look->cede)
		return cede_heap_settle(look->cede, &look->stop, (unsigned)most, &look->in_malloc);
	for (size_t step = 0; step < most; step++) {
		size_t i = 0;
		int error;

		while (i < stop->count && (stop->threads[i].by_user ||
		       !thread_in_malloc(&look->glibc, &stop->threads[i])))
			i++;
		if (i == stop->count)
			return 0;
		error = stop_step(&look->stop, look->memory->pid, i);
		if (error)
			return error;
	}
	look->in_malloc = true;
	return 0;
}

static enum glibc_copied heap_copy(struct look *look)
{
	enum glibc_copied result;

	if (look->cede)
		return cede_heap_copy(look->cede, &look->state);
	result = glibc_state_copy(&look->state);
	if (result == GLIBC_COPIED)
		result = glibc_walk(&look->state);
	if (result == GLIBC_COPIED)
		result = glibc_walk_mapped(&look->state);
	return result;
}

/* A chunk's user has what lies 16 bytes behind it, to as far beyond its end. */
static enum glibc_copied words_copy(struct look *look)
{
	const struct range arena = {
		look->glibc.main_arena, look->glibc.main_arena + look->glibc.layout->state_bytes,
	};
	const struct gather gather = {
		.memory = look->memory, .stop = &look->stop, .model = look->model,
		.lead = GLIBC_LINKS, .own = look->cede ? look->cede->own : &arena,
		.own_count = look->cede ? sizeof(look->cede->own) / sizeof(*look->cede->own) : 1,
		.own_thread = look->cede ? look->cede->purger : 0,
	};

	return gather_words(&gather, look->words) ? GLIBC_COPIED : GLIBC_NO_MEMORY;
}

static enum glibc_copied contents_copy(struct look *look)
{
	look->model->lead = GLIBC_LINKS;
	look->contents.own_begin = look->glibc.main_arena;
	look->contents.own_end = look->glibc.main_arena + look->glibc.layout->state_bytes;
	return contents_gather(&look->contents, look->model) ? GLIBC_COPIED : GLIBC_NO_MEMORY;
}

/* Everything that is read of the stopped process. */
static int process_copy(struct look *look, enum glibc_copied *copied)
{
	int error = memory_map(look->memory);

	*copied = GLIBC_COPIED;
	look->glibc = (struct glibc){ .memory = look->memory, .stop = &look->stop };
	if (error)
		return error;
	look->found = GLIBC_FOUND;
	if (look->cede)
		cede_heap_begin(look->cede, look->memory, &look->glibc);
	else
		look->found = glibc_find(&look->glibc);
	if (look->found == GLIBC_FOUND) {
		error = threads_leave_malloc(look);
		/* What ran may have mapped. */
		if (!error)
			error = memory_map(look->memory);
		if (!error)
			*copied = heap_copy(look);
		if (!error && *copied == GLIBC_COPIED)
			*copied = contents_copy(look);
		if (!error && *copied == GLIBC_COPIED && look->words)
			*copied = words_copy(look);
	}
	if (!error && *copied == GLIBC_COPIED)
		mappings_add(look->memory, look->model, &look->reading->break_bytes);
	return error;
}

/* What happens while the process waits. */
static int look_take(struct look *look, enum glibc_copied *copied)
{
	uint64_t begin = now_microseconds(), pause;
	int error = stop_begin(&look->stop, look->memory);

	if (error)
		return error;
	look->for_good = look->stop.for_good;
	error = process_copy(look, copied);
	look->reading->threads = look->stop.count;
	look->reading->locked_arenas = look->state.locked_arenas;
	stop_end(&look->stop);
	if (look->for_good)
		return error;
	look->reading->stops++;
	pause = now_microseconds() - begin;
	if (pause > look->reading->pause_microseconds)
		look->reading->pause_microseconds = pause;
	return error;
}

static enum glibc_copied look_complete(struct look *look)
{
	enum glibc_copied result = GLIBC_COPIED;

	if (!model_finish(look->model))
		return GLIBC_NO_MEMORY;
	if (look->cede)
		result = cede_heap_complete(look->cede, &look->state);
	else if (look->found == GLIBC_FOUND)
		result = glibc_lists_follow(&look->state);
	if (look->found == GLIBC_FOUND && result == GLIBC_COPIED &&
	    !contents_name(&look->contents, look->model))
		return GLIBC_NO_MEMORY;
	return result;
}

static int look_once(struct look *look, enum glibc_copied *result)
{
	int error;

	model_free(look->model);
	*look->reading->why = '\0';
	look->reading->break_bytes = 0;
	look->state = (struct glibc_state){
		.glibc = &look->glibc, .model = look->model, .window = look->state.window,
		.why = look->reading->why, .why_room = sizeof(look->reading->why),
	};
	error = look_take(look, result);
	if (!error && *result == GLIBC_COPIED)
		*result = look_complete(look);
	return error;
}

static enum reading_outcome outcome_of(struct look *look)
{
	if (look->found == GLIBC_NO_HEAP)
		return READING_ABSENT;
	look->reading->version = look->glibc.version;
	if (look->found == GLIBC_UNKNOWN_LAYOUT) {
		memcpy(look->reading->why, look->glibc.why, sizeof(look->reading->why));
		return READING_UNKNOWN;
	}
	look->model->audit.passed = true;
	return READING_DONE;
}

static enum reading_outcome looks_take(struct look *look)
{
	char before[sizeof(look->reading->why)] = "";
	unsigned alike = 0, wait = WAIT_MICROSECONDS;

	while (look->reading->stops < STOPS_MOST) {
		enum glibc_copied result = GLIBC_COPIED;
		struct window *window = look->state.window;
		int error = look_once(look, &result);

		if (look->cede)
			cede_heap_free(look->cede);
		look->reading->error = error ? error : result == GLIBC_NO_MEMORY ? ENOMEM : 0;
		glibc_state_free(&look->state);
		look->state.window = window;
		if (look->reading->error)
			return READING_FAILED;
		if (result == GLIBC_COPIED)
			return outcome_of(look);
		if (look->for_good)
			return READING_CORRUPT;
		alike = result == GLIBC_BROKEN && !look->in_malloc &&
		        !strcmp(before, look->reading->why) ? alike + 1 : 0;
		if (alike == ALIKE_ENOUGH)
			return READING_CORRUPT;
		memcpy(before, look->reading->why, sizeof(before));
		usleep(wait);
		wait = wait < WAIT_MICROSECONDS_MOST ? 2 * wait : wait;
	}
	return READING_BUSY;
}

enum reading_outcome reading_take(struct memory *memory, const struct cede_descriptor *cede,
                                  struct model *model, struct words *words,
                                  struct reading *reading)
{
	struct cede_heap heap = { .descriptor = cede };
	struct look look = { .memory = memory, .model = model, .words = words, .reading = reading,
	                     .cede = cede ? &heap : NULL };
	enum reading_outcome outcome;

	*reading = (struct reading){ 0 };
	look.state.window = malloc(sizeof(*look.state.window));
	if (!look.state.window) {
		reading->error = ENOMEM;
		return READING_FAILED;
	}
	look.contents = (struct contents){ .memory = memory, .window = look.state.window };
	if (cede)
		snprintf(reading->cede, sizeof(reading->cede), "%u.%u.%u", cede->library_version[0],
		         cede->library_version[1], cede->library_version[2]);
	outcome = looks_take(&look);
	contents_free(&look.contents);
	free(look.state.window);
	if (outcome != READING_DONE && outcome != READING_ABSENT)
		snprintf(model->audit.text, sizeof(model->audit.text), "%s", reading->why);
	return outcome;
}
