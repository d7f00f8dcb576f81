#include <cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "doctor/words.h"
#include "watch/view.h"

static double megabytes(uint64_t bytes)
{
	return (double)bytes / 1e6;
}

/* A look failed, and others may not. */
static bool failure_say(const struct course *course)
{
	if (*course->failure)
		command_say("%s", course->failure);
	return *course->failure;
}

/* --- for people and their logs --- */

static int lines_open(void)
{
	printf("%-20s %10s %10s %12s %12s %10s  %-13s  %s\n", "MB", "resident", "live",
	       "free, whole", "free, shared", "given back", "verdict", "live memory");
	return COMMAND_OK;
}

static void lines_show(const struct course *course, const char *message, bool is_paused)
{
	const struct look *look = &course->look;
	char trend[80];

	(void)message, (void)is_paused;
	if (course->has_ended)
		printf("process %d has ended\n", course->pid);
	else if (!failure_say(course)) {
		course_trend_text(&course->live, trend, sizeof(trend));
		printf("%s %10.1f %10.1f %12.1f %12.1f %10.1f  %-13s  %s\n", moment(look->taken).text,
		       megabytes(look->resident_bytes), megabytes(look->live_resident_bytes),
		       megabytes(look->whole_bytes), megabytes(look->shared_bytes),
		       megabytes(look->gone_bytes), verdict_kind_name(course->verdict), trend);
	}
	fflush(stdout);
}

static void lines_close(const struct course *course)
{
	char text[160];

	course_sentence(course, text, sizeof(text));
	printf("%s (%d): %s: %s\n", course->look.name, course->pid,
	       verdict_kind_name(course->verdict), text);
}

const struct view view_lines = {
	.open = lines_open, .show = lines_show, .close = lines_close,
};

/* --- for programs --- */

static void number(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddNumberToObject(object, name, (double)value);
}

static void trend_add_to(cJSON *root, const char *name, const struct trend *trend)
{
	cJSON *object = cJSON_AddObjectToObject(root, name);

	cJSON_AddStringToObject(object, "trend", trend_kind_name(trend->kind));
	cJSON_AddNumberToObject(object, "bytes_per_minute", trend->bytes_per_minute);
	number(object, "confidence_percent", trend->confidence_percent);
	cJSON_AddNumberToObject(object, "minutes", trend->minutes);
}

static void look_add(cJSON *root, const struct look *look)
{
	cJSON *list;

	cJSON_AddStringToObject(root, "taken", moment(look->taken).text);
	cJSON_AddStringToObject(root, "allocator", look->allocator);
	number(root, "process_bytes", look->resident_bytes);
	number(root, "heap_bytes", look->heap_bytes);
	number(root, "live_bytes", look->live_bytes);
	number(root, "live_resident_bytes", look->live_resident_bytes);
	number(root, "whole_free_bytes", look->whole_bytes);
	number(root, "shared_free_bytes", look->shared_bytes);
	number(root, "gone_bytes", look->gone_bytes);
	number(root, "pause_microseconds", look->pause_microseconds);
	list = cJSON_AddArrayToObject(root, "reasons");
	for (size_t i = 0; i < look->reason_count; i++) {
		cJSON *reason = cJSON_CreateObject();

		cJSON_AddItemToArray(list, reason);
		cJSON_AddStringToObject(reason, "reason", look->reasons[i].name);
		number(reason, "bytes", look->reasons[i].bytes);
		cJSON_AddStringToObject(reason, "text", look->reasons[i].text);
	}
}

static int json_open(void)
{
	return COMMAND_OK;
}

static void json_show(const struct course *course, const char *message, bool is_paused)
{
	cJSON *root;
	char *text;

	(void)message, (void)is_paused;
	if (failure_say(course))
		return;
	root = cJSON_CreateObject();
	cJSON_AddStringToObject(root, "schema", "cede-watch/1");
	cJSON_AddStringToObject(root, "version", COMMAND_VERSION);
	number(root, "pid", (uint64_t)course->pid);
	cJSON_AddStringToObject(root, "name", course->look.name);
	number(root, "looks", course->looks);
	cJSON_AddNumberToObject(root, "seconds", (double)course->watched / 1e3);
	cJSON_AddBoolToObject(root, "has_ended", course->has_ended);
	cJSON_AddStringToObject(root, "verdict", verdict_kind_name(course->verdict));
	if (!course->has_ended) {
		look_add(root, &course->look);
		trend_add_to(root, "live", &course->live);
		trend_add_to(root, "process", &course->resident);
	}
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (text)
		puts(text);
	else
		command_say("out of memory");
	free(text);
	fflush(stdout);
}

static void json_close(const struct course *course)
{
	(void)course;
}

const struct view view_json = {
	.open = json_open, .show = json_show, .close = json_close,
};
