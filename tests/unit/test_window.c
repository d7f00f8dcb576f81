/*
 * heap/window: where it lies, how it grows, and what happens when it cannot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "cede/cede.h"
#include "heap/audit.h"
#include "heap/segment.h"
#include "heap/slab.h"
#include "support/child.h"
#include "support/scripted_os.h"

#define MIB ((size_t)1 << 20)
#define TIB ((size_t)1 << 40)

#define PARTS 5 /* the window and the four arrays before it: a mapping each */
#define MANY  300
#define RANGES_A_TURN 64

static struct segment *taken[MANY];

static void start(void)
{
	(void)script_heap(POLICY_DEFAULT);
}

/* What describes a segment, and its memory, are there and read zero. */
static void is_usable(const struct segment *s)
{
	static const char zeros[SEGMENT];
	size_t unit = (size_t)(s - window.segments) * SEGMENT_UNITS;

	EXPECT(memcmp(s, zeros, sizeof(*s)) == 0);
	EXPECT(memcmp(&window.slabs[unit], zeros, SEGMENT_UNITS * sizeof(*window.slabs)) == 0);
	EXPECT(memcmp(&window.bits[unit], zeros, SEGMENT_UNITS * sizeof(*window.bits)) == 0);
	EXPECT(memcmp(&window.bins[unit], zeros, SEGMENT_UNITS * sizeof(*window.bins)) == 0);
	EXPECT(memcmp(window_address(unit), zeros, SEGMENT) == 0);
	window_address(unit)[0] = window_address(unit)[SEGMENT - 1] = 0;
	EXPECT(window_has(window_address(unit)) && window_has(window_address(unit) + SEGMENT - 1));
}

/* ---- where it is ---- */

static void is_nowhere_at_first(void)
{
	static char here[16] __attribute__((aligned(16)));

	EXPECT(window.steps == 0);
	EXPECT(!window_has(here) && window_step(here) >= window.steps);
	EXPECT(!window_has(NULL) && window_step(NULL) >= window.steps);
	start();
	/* A first request that needs none of it. */
	cede_free(cede_malloc(100));
	EXPECT(window.steps == 0 && script_calls(OS_MAP_AT) == 0);
}

static void lies_behind_what_describes_it(void)
{
	size_t segments = TIB / SEGMENT, units = TIB / UNIT;

	start();
	is_usable(window_take_segment());
	EXPECT(script_calls(OS_MAP_AT) == PARTS && window.steps == SEGMENT / 16);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	EXPECT((uintptr_t)window.segments >= 2 * TIB && window.base + TIB < 15 * TIB);
#endif
	EXPECT(window.base % SEGMENT == 0 && (uintptr_t)window.slabs % os_page_size == 0);
	EXPECT((char *)&window.segments[segments] <= (char *)window.slabs);
	EXPECT((char *)&window.slabs[units] <= (char *)window.bits);
	EXPECT((char *)&window.bits[units] <= (char *)window.bins);
	EXPECT((char *)&window.bins[units] <= (char *)window.base);
	EXPECT(!os_is_mapped((char *)window.base + SEGMENT));
}

static void knows_its_addresses(void)
{
	char *first, *end;

	start();
	(void)window_take_segment();
	first = window_address(0);
	end = first + SEGMENT;
	for (size_t i = 0; i < SEGMENT / 16; i++)
		EXPECT(window_step(first + i * 16) == i);
	for (size_t odd = 1; odd < 16; odd++) {
		EXPECT(window_step(first + odd) >= window.steps);
		EXPECT(window_step(end - odd) >= window.steps);
		EXPECT(window_step(first - odd) >= window.steps);
		EXPECT(window_has(first + odd) && !window_has(first - odd));
	}
	EXPECT(window_step(first - 16) >= window.steps && !window_has(first - 16));
	EXPECT(window_step(end) >= window.steps && !window_has(end));
	EXPECT(window_step(NULL) >= window.steps && window_step((void *)-16) >= window.steps);
	for (size_t unit = 0; unit < SEGMENT_UNITS; unit++)
		EXPECT(window_unit(window_address(unit) + UNIT - 1) == unit);
}

/* ---- how it grows ---- */

/* By an eighth, and by 32 MiB at most. */
static void grows_in_steps(void)
{
	size_t open = 0, most = 0;

	start();
	for (size_t i = 0; i < MANY; i++) {
		unsigned calls = script_calls(OS_MAP_AT);
		size_t step = size_max(size_min(open / 8, 16), 1);

		taken[i] = window_take_segment();
		EXPECT(taken[i] == &window.segments[i]);
		is_usable(taken[i]);
		if (i == open) {
			open += step;
			most = size_max(most, step);
			EXPECT(script_calls(OS_MAP_AT) > calls);
		} else {
			EXPECT(script_calls(OS_MAP_AT) == calls);
		}
		EXPECT(window.steps == open * SEGMENT / 16);
	}
	EXPECT(most == 16);
}

/* Takes what is open; the next one needs more. */
static void take_all_open(void)
{
	while (window_take_segment() != &window.segments[window.steps * 16 / SEGMENT - 1])
		;
}

/* Refused at whichever of its parts: nothing has happened, and it works later. */
static void a_refusal_changes_nothing(void)
{
	unsigned refused = 0;

	start();
	for (unsigned nth = 1, round = 0; round < 20 * PARTS; round++, nth = round % PARTS + 1) {
		uintptr_t steps = window.steps;
		struct segment *s;

		script_reset();
		script_fail_from(OS_MAP_AT, nth);
		s = window_take_segment();
		/* Arrays of which a page is left are not mapped anew. */
		EXPECT((s == NULL) == (script_calls(OS_MAP_AT) >= nth));
		if (s == NULL)
			EXPECT(window.steps == steps && window_take_segment() == NULL);
		script_reset();
		if (s == NULL) {
			s = window_take_segment();
			refused |= 1u << nth;
		}
		is_usable(s);
		EXPECT(window.steps > steps);
		take_all_open();
	}
	EXPECT(refused == 0x3e);
}

/* When there is no room for a whole step there may be for one. */
static void a_step_is_cut_short(void)
{
	uintptr_t steps;

	start();
	for (size_t i = 0; i < 64; i++)
		EXPECT(window_take_segment() != NULL);
	take_all_open();
	steps = window.steps;
	/* Its memory comes last. */
	while (window.steps == steps) {
		struct segment *s;

		script_reset();
		script_fail(OS_MAP_AT, 1);
		s = window_take_segment();
		EXPECT(s != NULL);
		is_usable(s);
	}
	EXPECT(window.steps == steps + SEGMENT / 16);
}

/* ---- something is in its way ---- */

static void foreign_memory_ends_it(void)
{
	char *in_the_way;
	void *block;

	start();
	slabs_on = true;
	block = cede_malloc(100);
	EXPECT(window_has(block));
	in_the_way = mmap(window_address(SEGMENT_UNITS), os_page_size, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	EXPECT(in_the_way == window_address(SEGMENT_UNITS));
	memset(in_the_way, 0x77, os_page_size);
	while (window_has(block = cede_malloc(SLAB_LARGEST)))
		memset(block, 1, SLAB_LARGEST);
	/* Now it is the chunk heap's turn. */
	EXPECT(block != NULL && cede_malloc_usable_size(block) >= SLAB_LARGEST);
	memset(block, 1, SLAB_LARGEST);
	EXPECT(window.steps == SEGMENT / 16);
	for (size_t i = 0; i < os_page_size; i++)
		EXPECT(in_the_way[i] == 0x77);
	audit_arena(&main_arena);
	cede_free(block);
	EXPECT(munmap(in_the_way, os_page_size) == 0);
	EXPECT(window_has(cede_malloc(SLAB_LARGEST)) && window.steps == 2 * (SEGMENT / 16));
	audit_arena(&main_arena);
}

/* Blocks whose first words lead from one to the next. */
static void free_all(void **list)
{
	while (list != NULL) {
		void **next = *list;

		cede_free(list);
		list = next;
	}
}

static void limit_address_space(size_t more)
{
	char text[32] = { 0 };
	int file = open("/proc/self/statm", O_RDONLY);
	size_t now;

	EXPECT(read(file, text, sizeof(text) - 1) > 0 && close(file) == 0);
	now = strtoul(text, NULL, 10) * os_page_size;
	EXPECT(setrlimit(RLIMIT_AS, &(struct rlimit){ now + more, now + more }) == 0);
}

/* Chunks take what is left; then there is no memory, and it can be had again. */
static void a_limit_of_address_space_ends_it(void)
{
	size_t in_window = 0, elsewhere = 0;
	void **list = NULL, **block;

	start();
	slabs_on = true;
	limit_address_space(64 * MIB);
	script_fail_from(OS_SBRK, 20);
	errno = 0;
	while ((block = cede_malloc(SLAB_LARGEST)) != NULL) {
		in_window += window_has(block);
		elsewhere += !window_has(block);
		*block = list;
		list = (void **)block;
	}
	EXPECT(errno == ENOMEM && in_window > 1000 && elsewhere > 100);
	audit_arena(&main_arena);
	free_all(list);
	EXPECT(cede_malloc(SLAB_LARGEST) != NULL);
	audit_arena(&main_arena);
}

/* ---- segments that come back ---- */

static size_t described(void)
{
	return SEGMENT_UNITS * (sizeof(*window.slabs) + sizeof(*window.bits));
}

static void the_latest_is_taken_again_first(void)
{
	start();
	for (size_t i = 0; i < 4; i++)
		taken[i] = window_take_segment();
	window_return_segment(taken[1]);
	window_return_segment(taken[3]);
	EXPECT(window_take_segment() == taken[3]);
	EXPECT(window_take_segment() == taken[1]);
	EXPECT(window_take_segment() == &window.segments[4]);
}

static void scrubbing_gives_the_description_back(void)
{
	uint64_t calls = 0;
	size_t unit;

	start();
	for (size_t i = 0; i < 4; i++) {
		taken[i] = window_take_segment();
		memset(&window.slabs[i * SEGMENT_UNITS], 1, SEGMENT_UNITS * sizeof(*window.slabs));
		memset(&window.bits[i * SEGMENT_UNITS], 1, SEGMENT_UNITS * sizeof(*window.bits));
	}
	EXPECT(!window_scrub(&calls) && calls == 0 && script_discarded == 0);
	window_return_segment(taken[2]);
	EXPECT(window_scrub(&calls) && calls != 0 && script_discarded == described());
	unit = 2 * SEGMENT_UNITS;
	EXPECT(os_resident(&window.slabs[unit], 2 * os_page_size) == 0);
	EXPECT(window.slabs[unit].size == 0 && window.bits[unit][0] == 0);
	EXPECT(window.slabs[unit - 1].size != 0 && window.bits[unit + SEGMENT_UNITS][0] != 0);
	EXPECT(!window_scrub(&calls));
	/* Those that are not scrubbed yet go first: their memory is there. */
	window_return_segment(taken[0]);
	EXPECT(window_take_segment() == taken[0] && window_take_segment() == taken[2]);
}

static void many_are_scrubbed_in_turns(void)
{
	uint64_t calls = 0;
	unsigned turns = 0;

	start();
	for (size_t i = 0; i < MANY; i++)
		taken[i] = window_take_segment();
	for (size_t i = 0; i < MANY; i++)
		window_return_segment(taken[i]);
	while (window_scrub(&calls))
		turns++;
	EXPECT(turns == (MANY * 2 + RANGES_A_TURN - 1) / RANGES_A_TURN);
	EXPECT(script_discarded == MANY * described());
	/* Each of them once, and then a new one. */
	for (size_t i = 0; i < MANY; i++) {
		struct segment *s = window_take_segment();

		EXPECT(s >= window.segments && s < &window.segments[MANY] && !s->queued);
		s->queued = true;
	}
	EXPECT(window_take_segment() == &window.segments[MANY]);
}

static struct segment *taken_meanwhile;

static void take_while_scrubbing(const struct os_range *ranges, unsigned count)
{
	(void)ranges;
	(void)count;
	taken_meanwhile = window_take_segment();
}

/* The lock is free then, and what is being scrubbed is nobody's. */
static void one_may_be_taken_meanwhile(void)
{
	uint64_t calls = 0;

	start();
	taken[0] = window_take_segment();
	window_return_segment(taken[0]);
	script_discarding = take_while_scrubbing;
	EXPECT(window_scrub(&calls));
	EXPECT(taken_meanwhile == &window.segments[1]);
	EXPECT(window_take_segment() == taken[0]);
}

/* ---- fork ---- */

static bool enough; /* atomic */

static void *take_and_return(void *unused)
{
	lock_thread_begin();
	while (!__atomic_load_n(&enough, __ATOMIC_RELAXED))
		window_return_segment(window_take_segment());
	return unused;
}

static void a_child_of_a_busy_process_may_take(void)
{
	pthread_t thread;

	start();
	EXPECT(pthread_create(&thread, NULL, take_and_return, NULL) == 0);
	for (int i = 0; i < 200; i++) {
		int status = -1;
		pid_t child = fork();

		EXPECT(child >= 0);
		if (child == 0) {
			alarm(10);
			_exit(window_take_segment() == NULL);
		}
		EXPECT(waitpid(child, &status, 0) == child && status == 0);
	}
	__atomic_store_n(&enough, true, __ATOMIC_RELAXED);
	EXPECT(pthread_join(thread, NULL) == 0);
}

static void fork_while_scrubbing(const struct os_range *ranges, unsigned count)
{
	int status = -1;
	pid_t child = fork();

	(void)ranges;
	(void)count;
	EXPECT(child >= 0);
	if (child != 0) {
		EXPECT(waitpid(child, &status, 0) == child && status == 0);
		return;
	}
	/* In the child each is there once; its description may be as it was. */
	alarm(10);
	for (size_t i = 0; i < 4; i++)
		taken[i] = window_take_segment();
	for (size_t i = 0; i < 4; i++) {
		EXPECT(taken[i] < &window.segments[4] && !taken[i]->queued);
		taken[i]->queued = true;
	}
	EXPECT(window_take_segment() == &window.segments[4]);
	_exit(0);
}

/* The purger stays in the parent, with what it has in hand. */
static void a_child_has_what_is_being_scrubbed(void)
{
	uint64_t calls = 0;

	start();
	for (size_t i = 0; i < 4; i++)
		taken[i] = window_take_segment();
	for (size_t i = 0; i < 4; i++)
		window_return_segment(taken[i]);
	script_discarding = fork_while_scrubbing;
	EXPECT(window_scrub(&calls));
	script_discarding = NULL;
	for (size_t i = 0; i < 4; i++)
		EXPECT(window_take_segment() < &window.segments[4]);
	EXPECT(window_take_segment() == &window.segments[4]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(is_nowhere_at_first),
		child_test(lies_behind_what_describes_it),
		child_test(knows_its_addresses),
		child_test(grows_in_steps),
		child_test(a_refusal_changes_nothing),
		child_test(a_step_is_cut_short),
		child_test(foreign_memory_ends_it),
		child_test(a_limit_of_address_space_ends_it),
		child_test(the_latest_is_taken_again_first),
		child_test(scrubbing_gives_the_description_back),
		child_test(many_are_scrubbed_in_turns),
		child_test(one_may_be_taken_meanwhile),
		child_test(a_child_of_a_busy_process_may_take),
		child_test(a_child_has_what_is_being_scrubbed),
	};

	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
