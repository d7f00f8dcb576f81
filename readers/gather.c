#include "readers/gather.h"

#include <stdlib.h>
#include <string.h>

#include "readers/ranges.h"
#include "readers/stack.h"

#define BUFFER_PAGES 64
#define RED_ZONE 128               /* below the stack pointer, but in use */
#define REGISTER_WORDS 4096

/* Addresses whose higher bits may be a heap's: 1 GiB for each bit. */
#define COARSE_SHIFT 30
#define COARSE_BITS (1ul << 17)

struct work {
	const struct gather *gather;
	struct words *words;
	struct ranges heap;            /* the regions, merged where they touch */
	struct ranges holes;           /* what is no root */
	const struct range *recent;    /* of `heap`, where the last address was */
	uint64_t coarse[COARSE_BITS / 64];
	uint64_t buffer[BUFFER_PAGES * WORDS_PAGE];
	uint64_t found[WORDS_PAGE], places[WORDS_PAGE];
};

/* --- words that may be addresses --- */

static bool work_leads_to_heap(struct work *work, uint64_t word)
{
	uint64_t bit = word >> COARSE_SHIFT & (COARSE_BITS - 1);
	size_t found;

	if (!(work->coarse[bit / 64] >> bit % 64 & 1))
		return false;
	if (word >= work->recent->begin && word < work->recent->end)
		return true;
	found = ranges_find(&work->heap, word);
	if (found == work->heap.count || word < work->heap.items[found].begin)
		return false;
	work->recent = &work->heap.items[found];
	return true;
}

/* Those of a page's words from `first` to before `last`; a bit is set for each. */
static size_t page_filter(struct work *work, const uint64_t *page, size_t first, size_t last,
                          uint64_t bits[WORDS_PAGE / 64])
{
	size_t count = 0;

	memset(bits, 0, WORDS_PAGE / 8);
	for (size_t i = first; i < last; i++) {
		if (!work_leads_to_heap(work, page[i]))
			continue;
		bits[i / 64] |= 1ul << i % 64;
		work->found[count++] = page[i];
	}
	return count;
}

/* --- the heap's blocks --- */

/* Pages of a region in a row, to be read at once. */
struct run {
	const struct model_region *region;
	uint64_t page;                 /* address of the first */
	size_t pages;
};

static size_t word_within(uint64_t page, uint64_t address)
{
	if (address <= page)
		return 0;
	return address >= page + MODEL_PAGE ? WORDS_PAGE : (address - page) / sizeof(uint64_t);
}

static void run_read(struct work *work, struct run *run)
{
	const struct model_region *region = run->region;
	uint64_t bits[WORDS_PAGE / 64];

	for (size_t i = 0; i < run->pages;) {
		size_t rest = (run->pages - i) * MODEL_PAGE;
		size_t length = memory_read_some(work->gather->memory, run->page + i * MODEL_PAGE,
		                                 work->buffer, rest);

		for (size_t j = 0; j < length / MODEL_PAGE; j++) {
			uint64_t page = run->page + (i + j) * MODEL_PAGE;
			size_t count = page_filter(work, work->buffer + j * WORDS_PAGE,
			                           word_within(page, region->begin +
			                                       words_lead(work->words, region)),
			                           word_within(page, region->end), bits);

			words_add_page(work->words, region->first_page + page / MODEL_PAGE -
			               region->begin / MODEL_PAGE, bits, work->found, count);
		}
		/* Over a page that cannot be read. */
		i += length / MODEL_PAGE + (length < rest);
	}
	run->pages = 0;
}

static void run_extend(struct work *work, struct run *run, uint64_t page)
{
	if (run->pages && (run->pages == BUFFER_PAGES ||
	    page != run->page + run->pages * MODEL_PAGE))
		run_read(work, run);
	if (!run->pages)
		run->page = page;
	run->pages++;
}

/* The pages on which a block in use has its memory; of what is free, none. */
static void region_gather(struct work *work, const struct model_region *region)
{
	const struct model *model = work->gather->model;
	struct run run = { .region = region };
	uint64_t lead = words_lead(work->words, region);
	uint64_t next = region->begin & ~(MODEL_PAGE - 1);

	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		uint64_t begin = model_block_address(model, block) + lead;
		uint64_t end = model_block_end(model, region, block) + lead;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		if (end > region->end)
			end = region->end;
		begin &= ~(MODEL_PAGE - 1);
		/* The page before may have been another block's too. */
		for (next = begin > next ? begin : next; next < end; next += MODEL_PAGE) {
			enum model_page state = model_page_at(model, region, next);

			if (state == MODEL_RESIDENT || state == MODEL_SWAPPED)
				run_extend(work, &run, next);
		}
	}
	if (run.pages)
		run_read(work, &run);
}

/* --- roots --- */

/* The places of a page's words that are kept: the first word's is `place`, and each next
 * one's so many bytes on. */
static void places_fill(struct work *work, const uint64_t bits[WORDS_PAGE / 64], uint64_t place,
                        size_t step)
{
	size_t count = 0;

	for (size_t i = 0; i < WORDS_PAGE / 64; i++)
		for (uint64_t left = bits[i]; left; left &= left - 1)
			work->places[count++] = place + step * (64 * i + (size_t)__builtin_ctzl(left));
}

static void roots_add(struct work *work, const uint64_t *words, size_t count, uint64_t place,
                      size_t step)
{
	uint64_t bits[WORDS_PAGE / 64];

	while (count) {
		size_t part = count < WORDS_PAGE ? count : WORDS_PAGE;
		size_t found = page_filter(work, words, 0, part, bits);

		places_fill(work, bits, place, step);
		words_add_roots(work->words, work->found, work->places, found);
		words += part;
		count -= part;
		place += step * part;
	}
}

/* A range that is looked through for roots, though holes are in the mapping around it. */
struct span {
	struct work *work;
	uint64_t begin, end;
};

static void span_read(void *context, uint64_t begin, uint64_t end, enum memory_page state)
{
	const struct span *span = context;
	struct work *work = span->work;

	if (state != MEMORY_RESIDENT && state != MEMORY_SWAPPED)
		return;
	begin = begin > span->begin ? begin : span->begin;
	end = end < span->end ? end : span->end;
	while (begin < end) {
		size_t wanted = end - begin, length;

		if (wanted > sizeof(work->buffer))
			wanted = sizeof(work->buffer);
		length = memory_read_some(work->gather->memory, begin, work->buffer, wanted);
		roots_add(work, work->buffer, length / sizeof(uint64_t), begin, sizeof(uint64_t));
		begin = length == wanted ? begin + wanted :
		        ((begin + length) & ~(MEMORY_PAGE - 1)) + MEMORY_PAGE;
	}
}

static void span_gather(struct work *work, uint64_t begin, uint64_t end)
{
	struct span span = { work, (begin + 7) & ~7ul, end & ~7ul };

	memory_scan(work->gather->memory, begin & ~(MEMORY_PAGE - 1),
	            (end + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1), span_read, &span);
}

/* Variables that can only be read once the program has started: they come right before
 * the others of their file. */
static bool mapping_is_sealed(const struct memory *memory, const struct memory_mapping *mapping)
{
	const struct memory_mapping *next = mapping + 1;

	return next < memory->mappings + memory->mapping_count && next->begin == mapping->end &&
	       next->writable && next->inode == mapping->inode && !strcmp(next->path, mapping->path);
}

/* Data that outlives the process has no addresses of it, and may be large. */
static bool mapping_may_lead(const struct memory *memory, const struct memory_mapping *mapping)
{
	if (!mapping->readable || mapping->kind == MEMORY_SPECIAL)
		return false;
	if (mapping->kind != MEMORY_FILE)
		return true;
	return (mapping->writable || mapping_is_sealed(memory, mapping)) &&
	       (!mapping->shared || mapping->deleted);
}

static void mapping_gather(struct work *work, const struct memory_mapping *mapping)
{
	uint64_t at = mapping->begin;

	for (size_t i = ranges_find(&work->holes, at); at < mapping->end; i++) {
		bool last = i == work->holes.count || work->holes.items[i].begin >= mapping->end;
		uint64_t stop = last ? mapping->end : work->holes.items[i].begin;

		if (stop > at)
			span_gather(work, at, stop);
		at = last ? mapping->end : work->holes.items[i].end;
	}
}

static void registers_gather(struct work *work)
{
	const struct stop *stop = work->gather->stop;

	for (size_t i = 0; i < stop->count; i++) {
		const struct stop_thread *thread = &stop->threads[i];

		words_add_thread(work->words, &(struct words_thread){
		                 thread->id, thread->stack_pointer, thread->thread_pointer });
		if (thread->id == work->gather->own_thread)
			continue;
		roots_add(work, work->buffer, stop_registers(thread, work->buffer, REGISTER_WORDS),
		          WORDS_REGISTER | (uint64_t)thread->id, 0);
	}
}

/* Memory between the heap's blocks that another part of the program took. */
static void foreign_gather(struct work *work, const struct model_region *region)
{
	const struct model *model = work->gather->model;

	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;

		if (model_block_state(model, block) == MODEL_FOREIGN)
			span_gather(work, model_block_address(model, block),
			            model_block_end(model, region, block));
	}
}

/* --- what is no root --- */

/* What a stack held below its pointer is over, unless another thread is there. */
static struct range stack_hole(const struct work *work, const struct stop_thread *thread)
{
	const struct stop *stop = work->gather->stop;
	struct range hole = { stack_begin(work->gather->memory, thread), thread->stack_pointer - RED_ZONE };

	if (!hole.begin || hole.begin >= hole.end)
		return (struct range){ 0, 0 };
	for (size_t i = 0; i < stop->count; i++)
		if (stop->threads[i].stack_pointer >= hole.begin &&
		    stop->threads[i].stack_pointer < hole.end)
			return (struct range){ 0, 0 };
	return hole;
}

/* All that the allocator's thread has: its stack begins with a mapping, behind a page that
 * nobody may touch, and its own data ends within a page above its pointer. */
static struct range own_thread_hole(const struct work *work, const struct stop_thread *thread)
{
	const struct memory_mapping *mapping =
		memory_mapping_at(work->gather->memory, thread->stack_pointer);

	if (!mapping || thread->thread_pointer < thread->stack_pointer ||
	    thread->thread_pointer >= mapping->end)
		return (struct range){ 0, 0 };
	return (struct range){ mapping->begin, thread->thread_pointer + MEMORY_PAGE };
}

static bool ranges_fill(struct work *work)
{
	const struct gather *gather = work->gather;
	size_t regions = gather->model->region_count, holes = 0;

	work->heap.items = calloc(regions + 1, sizeof(struct range));
	work->holes.items = calloc(regions + gather->stop->count + gather->own_count + 1,
	                           sizeof(struct range));
	if (!work->heap.items || !work->holes.items)
		return false;
	for (size_t i = 0; i < regions; i++) {
		const struct model_region *region = &gather->model->regions[i];

		work->heap.items[i] = (struct range){ region->begin, region->end };
		for (uint64_t gib = region->begin >> COARSE_SHIFT;
		     gib <= (region->end - 1) >> COARSE_SHIFT; gib++)
			work->coarse[gib % COARSE_BITS / 64] |= 1ul << gib % 64;
	}
	work->heap.count = regions;
	memcpy(work->holes.items, work->heap.items, regions * sizeof(struct range));
	holes = regions;
	for (size_t i = 0; i < gather->own_count; i++)
		work->holes.items[holes++] = gather->own[i];
	for (size_t i = 0; i < gather->stop->count; i++)
		work->holes.items[holes++] = gather->stop->threads[i].id == gather->own_thread ?
			own_thread_hole(work, &gather->stop->threads[i]) :
			stack_hole(work, &gather->stop->threads[i]);
	work->holes.count = holes;
	ranges_merge(&work->heap);
	ranges_merge(&work->holes);
	work->recent = work->heap.items;
	return true;
}

static void all_gather(struct work *work)
{
	const struct gather *gather = work->gather;

	registers_gather(work);
	for (size_t i = 0; i < gather->memory->mapping_count; i++)
		if (mapping_may_lead(gather->memory, &gather->memory->mappings[i]))
			mapping_gather(work, &gather->memory->mappings[i]);
	for (size_t i = 0; i < gather->model->region_count; i++) {
		foreign_gather(work, &gather->model->regions[i]);
		region_gather(work, &gather->model->regions[i]);
	}
}

bool gather_words(const struct gather *gather, struct words *words)
{
	struct work *work = calloc(1, sizeof(*work));
	bool done = false;

	words_open(words, gather->model, gather->lead);
	if (work) {
		work->gather = gather;
		work->words = words;
		if (ranges_fill(work)) {
			all_gather(work);
			done = words_finish(words);
		}
		free(work->heap.items);
		free(work->holes.items);
		free(work);
	}
	return done;
}
