#include "readers/contents.h"

#include <stdlib.h>
#include <string.h>

#include "readers/ranges.h"

#define WORDS (CONTENTS_BYTES / sizeof(uint64_t))
#define TEXT_LEAST 4
#define SLOTS (4u * KINDS_MOST)
#define PLACES 4u                  /* words in which an address names the block */
#define PLACES_INSIDE 2u           /* of these, where it may lie within what it names */

/* --- a block's first words --- */

struct first {
	const uint64_t *words;         /* good until the next block is read */
	size_t bytes;
	uint64_t joined[WORDS];        /* of two pages */
};

/* As far as they can be read. */
static void first_read(struct contents *contents, uint64_t begin, uint64_t end,
                       struct first *first)
{
	size_t size = end - begin < CONTENTS_BYTES ? end - begin : CONTENTS_BYTES;
	size_t rest = MEMORY_PAGE - begin % MEMORY_PAGE;
	const void *more;

	first->bytes = size < rest ? size : rest;
	first->words = window_look(contents->window, begin, first->bytes);
	if (!first->words)
		first->bytes = 0;
	if (!first->words || size <= rest)
		return;
	memcpy(first->joined, first->words, rest);
	first->words = first->joined;
	more = window_look(contents->window, begin + rest, size - rest);
	if (more) {
		memcpy((char *)first->joined + rest, more, size - rest);
		first->bytes = size;
	}
}

static bool first_is_zeros(const struct first *first)
{
	uint64_t any = 0;

	for (size_t i = 0; i < first->bytes / sizeof(uint64_t); i++)
		any |= first->words[i];
	return !any;
}

/* Each byte from a blank to a tilde. */
static bool word_is_printable(uint64_t word)
{
	const uint64_t each = 0x0101010101010101;

	return !((word | (word + each) | (word - ' ' * each)) & 0x80 * each);
}

/* To a zero or the end. */
static bool first_is_text(const struct first *first)
{
	const unsigned char *bytes = (const unsigned char *)first->words;
	size_t length = 0;

	while (length + 8 <= first->bytes && word_is_printable(first->words[length / 8]))
		length += 8;
	while (length < first->bytes && ((bytes[length] >= ' ' && bytes[length] <= '~') ||
	       bytes[length] == '\n' || bytes[length] == '\t' || bytes[length] == '\r'))
		length++;
	return length >= TEXT_LEAST && (length == first->bytes || !bytes[length]);
}

/* --- addresses --- */

struct heap {
	struct ranges ranges;
	const struct range *recent;
	uint64_t begin, end;           /* of all of it */
};

static bool heap_has(struct heap *heap, uint64_t word)
{
	size_t found;

	if (word < heap->begin || word >= heap->end)
		return false;
	if (word >= heap->recent->begin && word < heap->recent->end)
		return true;
	found = ranges_find(&heap->ranges, word);
	if (found == heap->ranges.count || word < heap->ranges.items[found].begin)
		return false;
	heap->recent = &heap->ranges.items[found];
	return true;
}

static bool heap_fill(struct heap *heap, const struct model *model)
{
	heap->ranges.items = calloc(model->region_count + 1, sizeof(struct range));
	if (!heap->ranges.items)
		return false;
	for (size_t i = 0; i < model->region_count; i++)
		heap->ranges.items[i] = (struct range){ model->regions[i].begin,
		                                        model->regions[i].end };
	heap->ranges.count = model->region_count;
	ranges_merge(&heap->ranges);
	heap->recent = heap->ranges.items;
	heap->begin = heap->recent->begin;
	if (heap->ranges.count)
		heap->end = heap->ranges.items[heap->ranges.count - 1].end;
	return true;
}

/* --- keys: an address, the word it was met in, and the block's kind without it --- */

static uint64_t key_make(uint64_t address, size_t place, bool has_pointers)
{
	return address << 3 | place << 1 | has_pointers;
}

/* The key's value among a block's kinds, or KIND_OTHER when there are too many. */
static uint16_t key_index(struct contents *contents, uint64_t key)
{
	size_t slot = (key * 0x9e3779b97f4a7c15ul) >> 48 & (SLOTS - 1);

	for (; contents->slots[slot]; slot = (slot + 1) & (SLOTS - 1))
		if (contents->keys[contents->slots[slot] - 1] == key)
			return (uint16_t)(KIND_PLAIN + contents->slots[slot] - 1);
	if (contents->key_count == KINDS_MOST)
		return KIND_OTHER;
	contents->keys[contents->key_count] = key;
	contents->slots[slot] = (uint16_t)++contents->key_count;
	return (uint16_t)(KIND_PLAIN + contents->key_count - 1);
}

static bool leads_to_file(const struct contents *contents, uint64_t word)
{
	return word >= MEMORY_PAGE && word < MEMORY_END &&
	       (word < contents->own_begin || word >= contents->own_end) &&
	       names_cover(contents->names, word);
}

static uint16_t first_judge(struct contents *contents, struct heap *heap,
                            const struct first *first)
{
	size_t count = first->bytes / sizeof(uint64_t), place = PLACES;
	bool points = false;

	if (!count)
		return KIND_UNKNOWN;
	if (first_is_zeros(first))
		return KIND_ZEROS;
	/* An address may look like a text, but hardly the other way round. */
	if (first_is_text(first) && !heap_has(heap, first->words[0]) &&
	    !leads_to_file(contents, first->words[0]))
		return KIND_TEXT;
	for (size_t i = count; i--;) {
		bool here = heap_has(heap, first->words[i]);

		points = points || here;
		if (!here && i < PLACES && leads_to_file(contents, first->words[i]))
			place = i;
	}
	if (place < PLACES)
		return key_index(contents, key_make(first->words[place], place, points));
	return points ? KIND_POINTERS : KIND_OTHER;
}

/* --- all of them --- */

static void region_gather(struct contents *contents, struct heap *heap, struct model *model,
                          const struct model_region *region)
{
	uint64_t page = region->begin & ~(MEMORY_PAGE - 1);

	window_open(contents->window, contents->memory, page,
	            page + model_region_pages(region) * MEMORY_PAGE,
	            model->pages + region->first_page);
	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		uint64_t begin = model_memory_begin(model, region, block);
		uint64_t end = model_memory_end(model, region, block);
		struct first first;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		first.bytes = 0;
		if (begin < end)
			first_read(contents, begin, end, &first);
		model->kinds.of[block] = first_judge(contents, heap, &first);
	}
}

bool contents_gather(struct contents *contents, struct model *model)
{
	struct heap heap = { .ranges = { 0 } };
	bool done;

	contents_free(contents);
	contents->names = names_open(contents->memory);
	contents->keys = calloc(KINDS_MOST, sizeof(*contents->keys));
	contents->slots = calloc(SLOTS, sizeof(*contents->slots));
	done = contents->names && contents->keys && contents->slots && heap_fill(&heap, model) &&
	       kinds_open(&model->kinds, model->block_count);
	for (size_t i = 0; done && i < model->region_count; i++)
		region_gather(contents, &heap, model, &model->regions[i]);
	free(heap.ranges.items);
	return done;
}

void contents_free(struct contents *contents)
{
	if (contents->names)
		names_close(contents->names);
	free(contents->keys);
	free(contents->slots);
	contents->names = NULL;
	contents->keys = NULL;
	contents->slots = NULL;
	contents->key_count = 0;
}

/* --- names --- */

static void key_name(struct contents *contents, uint64_t key, struct kind *kind)
{
	size_t place = key >> 1 & (PLACES - 1), length;
	uint64_t offset;

	names_tell(contents->names, key >> 3, kind, &offset);
	if (place >= PLACES_INSIDE && (kind->form != KIND_DATA || offset))
		*kind = (struct kind){ .form = key & 1 ? KIND_POINTERS : KIND_OTHER };
	/* Behind their number. */
	length = strlen(kind->name);
	if (kind->form == KIND_OBJECT && place && length + 3 <= KIND_NAME)
		memcpy(kind->name + length, "[]", 3);
}

static int name_compare(const void *left, const void *right)
{
	return kind_compare(left, right);
}

/* Each kind once, in the order of the table. */
static bool table_fill(struct kinds *kinds, const struct kind *named, size_t count)
{
	struct kind *sorted = calloc(count + 1, sizeof(*sorted));
	bool done = sorted;

	if (sorted) {
		memcpy(sorted, named, count * sizeof(*sorted));
		qsort(sorted, count, sizeof(*sorted), name_compare);
	}
	for (size_t i = 0; done && i < count; i++)
		if (sorted[i].form >= KIND_PLAIN && (!i || kind_compare(&sorted[i - 1], &sorted[i])))
			done = kinds_add(kinds, &sorted[i]);
	free(sorted);
	return done;
}

bool contents_name(struct contents *contents, struct model *model)
{
	struct kind *named = calloc(contents->key_count + 1, sizeof(*named));
	uint16_t *values = calloc(contents->key_count + 1, sizeof(*values));
	struct kinds *kinds = &model->kinds;
	bool done = named && values;

	for (size_t i = 0; done && i < contents->key_count; i++)
		key_name(contents, contents->keys[i], &named[i]);
	done = done && table_fill(kinds, named, contents->key_count);
	for (size_t i = 0; done && i < contents->key_count; i++)
		values[i] = kinds_find(kinds, &named[i]);
	for (size_t i = 0; done && i < model->block_count; i++)
		if (kinds->of[i] >= KIND_PLAIN)
			kinds->of[i] = values[kinds->of[i] - KIND_PLAIN];
	free(named);
	free(values);
	return done;
}
