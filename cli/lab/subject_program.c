/*
 * cede-lab-subject: the process that the lab measures.  Layer: a program of its
 * own that links libc alone, so that the allocator under test is the only thing
 * that differs between two runs.
 *
 * It performs one experiment step by step and allocates nothing beside the
 * experiment: no stdio, no buffers, plain read and write.
 *
 *   cede-lab-subject EXPERIMENT [name=number ...]
 *
 *     blocks  total/size blocks of `size` bytes, their pointers in an array that
 *             doubles as std::vector does; all filled, then all freed, then the
 *             array.  size=100 total=2147483648 shuffle=0 (1: freed in a random
 *             order) rounds=1 (2: the whole of it twice)
 *     list    `count` times a block of 64 KiB and a list node of 24 bytes; the
 *             blocks are freed, later the nodes.  count=10000
 *     pin     `count` blocks of 4 KiB, then one of a byte; the blocks are freed,
 *             the byte stays.  count=65536
 *     sparse  total/size blocks of `size` bytes, all freed but one in a hundred
 *             chosen by a fixed seed.  size=100 total=1073741824
 *
 *   for every experiment: mallopt=N  first sets M_MMAP_THRESHOLD and
 *                                    M_TRIM_THRESHOLD to N bytes
 *                         live_fd=N  keeps the live bytes, as a uint64_t, in the
 *                                    first page of this file (a memfd)
 *
 * Protocol, for the lab, a test or a person at a terminal.  At each step the
 * subject writes one line to stdout and waits for commands on stdin:
 *
 *   STEP live=BYTES [pages=COUNT]
 *       STEP is start (before the first allocation), allocated, freed; list has
 *       also cleared; the second round of blocks ends in allocated-again and
 *       freed-again.  BYTES is what was asked of malloc and not yet freed.
 *       COUNT, in sparse's freed, is the number of 4 KiB pages that hold a live
 *       byte: the least that an allocator which moves nothing can keep.
 *
 *   g   go on to the next step; after the last one, exit with status 0
 *   s   malloc_stats(), which writes to stderr; answered by "done 0"
 *   t   malloc_trim(0); answered by "done 0" or "done 1", its result
 *   end of file: exit with status 0.  Any other byte is ignored.
 *
 * When malloc returns NULL the line is "failed out-of-memory" and the status 1;
 * wrong usage is status 2 and one line on stderr.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIST_BLOCK_BYTES 65536
#define PIN_BLOCK_BYTES 4096
#define PIN_MAX_BLOCKS 65536
#define SPARSE_KEEP_ONE_IN 100
#define PAGE_BYTES 4096

enum { EXIT_OUT_OF_MEMORY = 1, EXIT_USAGE = 2 };

struct parameter {
	const char *name;
	uint64_t value;
};

enum { SIZE, TOTAL, COUNT, SHUFFLE, ROUNDS, MALLOPT, LIVE_FD, PARAMETERS };

static struct parameter parameters[PARAMETERS] = {
	[SIZE] = { "size", 100 },   [TOTAL] = { "total", 0 },     [COUNT] = { "count", 0 },
	[SHUFFLE] = { "shuffle", 0 }, [ROUNDS] = { "rounds", 1 }, [MALLOPT] = { "mallopt", 0 },
	[LIVE_FD] = { "live_fd", 0 },
};

static uint64_t live_own;
static volatile uint64_t *live = &live_own;

/* --- talking --- */

static char *text_append(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	return at;
}

static char *text_append_number(char *at, uint64_t number)
{
	char digits[20];
	int count = 0;

	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count)
		*at++ = digits[--count];
	return at;
}

static void line_send(int fd, const char *begin, char *end)
{
	*end++ = '\n';
	while (begin < end) {
		ssize_t sent = write(fd, begin, (size_t)(end - begin));

		if (sent <= 0)
			_exit(EXIT_OUT_OF_MEMORY);
		begin += sent;
	}
}

static void done_send(int result)
{
	char line[32];

	line_send(1, line, text_append_number(text_append(line, "done "), (uint64_t)result));
}

/* Obeys the one who drives until he says to go on. */
static void commands_obey(void)
{
	char command;

	for (;;) {
		if (read(0, &command, 1) != 1)
			_exit(0);
		switch (command) {
		case 'g':
			return;
		case 's':
			malloc_stats();
			done_send(0);
			break;
		case 't':
			done_send(malloc_trim(0));
			break;
		}
	}
}

static char *step_text(char *line, const char *step)
{
	return text_append_number(text_append(text_append(line, step), " live="), *live);
}

static void step_reached(const char *step)
{
	char line[64];

	line_send(1, line, step_text(line, step));
	commands_obey();
}

static void step_reached_with_pages(const char *step, uint64_t pages)
{
	char line[96];

	line_send(1, line, text_append_number(text_append(step_text(line, step), " pages="), pages));
	commands_obey();
}

/* --- allocating, counted --- */

static void *block_take(size_t size)
{
	void *block = malloc(size);

	if (!block) {
		char line[32];

		line_send(1, line, text_append(line, "failed out-of-memory"));
		_exit(EXIT_OUT_OF_MEMORY);
	}
	*live += size;
	return block;
}

static void block_drop(void *block, size_t size)
{
	free(block);
	*live -= size;
}

/* xorshift64: the same sequence in every run and under every allocator. */
static uint64_t random_next(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* --- blocks --- */

struct vector {
	void **items;
	size_t count, capacity;
};

static void vector_push(struct vector *v, void *item)
{
	if (v->count == v->capacity) {
		size_t capacity = v->capacity ? 2 * v->capacity : 1;
		void **items = block_take(capacity * sizeof(*items));

		if (v->items) {
			memcpy(items, v->items, v->count * sizeof(*items));
			block_drop(v->items, v->capacity * sizeof(*items));
		}
		v->items = items;
		v->capacity = capacity;
	}
	v->items[v->count++] = item;
}

static void vector_shuffle(struct vector *v)
{
	for (size_t left = v->count; left > 1; left--) {
		size_t pick = random_next() % left;
		void *item = v->items[pick];

		v->items[pick] = v->items[left - 1];
		v->items[left - 1] = item;
	}
}

static void blocks_round(const char *allocated, const char *freed)
{
	size_t size = parameters[SIZE].value;
	struct vector v = { 0 };

	for (uint64_t left = parameters[TOTAL].value / size; left; left--)
		vector_push(&v, block_take(size));
	for (size_t i = 0; i < v.count; i++)
		strncpy(v.items[i], "abcdefghij", size);
	step_reached(allocated);

	if (parameters[SHUFFLE].value)
		vector_shuffle(&v);
	for (size_t i = 0; i < v.count; i++)
		block_drop(v.items[i], size);
	if (v.items)
		block_drop(v.items, v.capacity * sizeof(*v.items));
	step_reached(freed);
}

static void blocks_perform(void)
{
	step_reached("start");
	blocks_round("allocated", "freed");
	if (parameters[ROUNDS].value > 1)
		blocks_round("allocated-again", "freed-again");
}

/* --- list --- */

/* As std::list<char *> has it on 64-bit. */
struct node {
	struct node *next, *previous;
	char *block;
};

static void list_perform(void)
{
	struct node list = { &list, &list, NULL };

	step_reached("start");
	for (uint64_t left = parameters[COUNT].value; left; left--) {
		char *block = block_take(LIST_BLOCK_BYTES);
		struct node *node;

		memset(block, 'a', LIST_BLOCK_BYTES);
		node = block_take(sizeof(*node));
		*node = (struct node){ &list, list.previous, block };
		list.previous->next = node;
		list.previous = node;
	}
	step_reached("allocated");

	for (struct node *node = list.next; node != &list; node = node->next)
		block_drop(node->block, LIST_BLOCK_BYTES);
	step_reached("freed");

	for (struct node *node = list.next, *next; node != &list; node = next) {
		next = node->next;
		block_drop(node, sizeof(*node));
	}
	step_reached("cleared");
}

/* --- pin --- */

static void pin_perform(void)
{
	static void *blocks[PIN_MAX_BLOCKS];
	size_t count = parameters[COUNT].value;
	volatile char *pin;

	step_reached("start");
	for (size_t i = 0; i < count; i++) {
		blocks[i] = block_take(PIN_BLOCK_BYTES);
		memset(blocks[i], 'a', PIN_BLOCK_BYTES);
	}
	pin = block_take(1);
	*pin = 'a';
	step_reached("allocated");

	for (size_t i = 0; i < count; i++)
		block_drop(blocks[i], PIN_BLOCK_BYTES);
	step_reached("freed");
}

/* --- sparse --- */

/* The blocks are linked through themselves: an array of pointers would be
 * memory that the experiment does not speak of. */
struct link {
	struct link *next;
};

/* Merges two lists sorted by address. */
static struct link *links_merge(struct link *a, struct link *b)
{
	struct link *head, **tail = &head;

	while (a && b) {
		struct link **lower = (uintptr_t)a < (uintptr_t)b ? &a : &b;

		*tail = *lower;
		tail = &(*tail)->next;
		*lower = *tail;
	}
	*tail = a ? a : b;
	return head;
}

static struct link *links_sort(struct link *list)
{
	/* runs[i] is empty or a sorted list of 2^i links. */
	struct link *runs[48] = { NULL };

	while (list) {
		struct link *run = list;
		int i = 0;

		list = list->next;
		run->next = NULL;
		for (; runs[i]; runs[i++] = NULL)
			run = links_merge(runs[i], run);
		runs[i] = run;
	}
	for (int i = 0; i < 48; i++)
		list = links_merge(runs[i], list);
	return list;
}

static uint64_t links_count_pages(const struct link *sorted, size_t size)
{
	uintptr_t next_page = 0;
	uint64_t pages = 0;

	for (; sorted; sorted = sorted->next) {
		uintptr_t first = (uintptr_t)sorted / PAGE_BYTES;
		uintptr_t end = ((uintptr_t)sorted + size - 1) / PAGE_BYTES + 1;

		if (first < next_page)
			first = next_page;
		if (first < end) {
			pages += end - first;
			next_page = end;
		}
	}
	return pages;
}

static void sparse_perform(void)
{
	size_t size = parameters[SIZE].value;
	struct link *all = NULL, **tail = &all, *kept = NULL, *next;

	step_reached("start");
	for (uint64_t left = parameters[TOTAL].value / size; left; left--) {
		struct link *block = block_take(size);

		strncpy((char *)block, "abcdefghij", size);
		block->next = NULL;
		*tail = block;
		tail = &block->next;
	}
	step_reached("allocated");

	for (struct link *block = all; block; block = next) {
		next = block->next;
		if (random_next() % SPARSE_KEEP_ONE_IN == 0) {
			block->next = kept;
			kept = block;
		} else {
			block_drop(block, size);
		}
	}
	step_reached_with_pages("freed", links_count_pages(links_sort(kept), size));
}

/* --- start --- */

static const struct {
	const char *name;
	void (*perform)(void);
	uint64_t total, count; /* where none is given */
} experiments[] = {
	{ "blocks", blocks_perform, 2147483648, 0 },
	{ "list", list_perform, 0, 10000 },
	{ "pin", pin_perform, 0, PIN_MAX_BLOCKS },
	{ "sparse", sparse_perform, 1073741824, 0 },
};

static _Noreturn void usage_fail(const char *what)
{
	char line[256];

	if (strlen(what) > 100)
		what = "argument";
	line_send(2, line, text_append(text_append(text_append(line,
	          "cede-lab-subject: not understood: "), what),
	          " (EXPERIMENT [name=number ...])"));
	_exit(EXIT_USAGE);
}

static void parameter_read(const char *argument)
{
	for (int i = 0; i < PARAMETERS; i++) {
		size_t length = strlen(parameters[i].name);

		if (!strncmp(argument, parameters[i].name, length) && argument[length] == '=') {
			char *end;

			parameters[i].value = strtoull(argument + length + 1, &end, 10);
			if (*end == '\0' && end > argument + length + 1)
				return;
		}
	}
	usage_fail(argument);
}

static void live_share(int fd)
{
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (page == MAP_FAILED)
		usage_fail("live_fd");
	live = page;
}

int main(int argc, char **argv)
{
	size_t which = 0, known = sizeof(experiments) / sizeof(experiments[0]);

	if (argc < 2)
		usage_fail("no experiment");
	while (which < known && strcmp(argv[1], experiments[which].name))
		which++;
	if (which == known)
		usage_fail(argv[1]);
	parameters[TOTAL].value = experiments[which].total;
	parameters[COUNT].value = experiments[which].count;
	for (int i = 2; i < argc; i++)
		parameter_read(argv[i]);
	if (parameters[SIZE].value < sizeof(struct link))
		usage_fail("size (at least 8)");
	if (experiments[which].perform == pin_perform && parameters[COUNT].value > PIN_MAX_BLOCKS)
		usage_fail("count (at most 65536)");

	if (parameters[LIVE_FD].value)
		live_share((int)parameters[LIVE_FD].value);
	if (parameters[MALLOPT].value) {
		mallopt(M_MMAP_THRESHOLD, (int)parameters[MALLOPT].value);
		mallopt(M_TRIM_THRESHOLD, (int)parameters[MALLOPT].value);
	}
	experiments[which].perform();
	return 0;
}
