#include "readers/glibc_find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_MOST (64ul << 20)
#define SEGMENTS_MOST (512ul << 20)  /* that are read in all */
#define FILE_MOST (256ul << 20)      /* looked through for its version */
#define HOPS_MOST (1u << 20)         /* from arena to arena, in all that looks like a ring */
#define BINS_WORDS (2 * GLIBC_BINS)
#define CACHE_REACH 65536ul         /* thread-local data below the thread pointer to look at */
#define CACHE_THREADS 8            /* and in so many threads */
#define LINKS_TRIED 32u            /* of a list, to see how it goes on */

/* What a module has of writable data, with zeros where pages are not resident. */
struct segment {
	uint64_t begin;
	size_t words;
	uint64_t *data;
};

uint64_t glibc_find_word(const struct glibc *glibc, uint64_t address)
{
	uint64_t word = 0;

	return memory_read(glibc->memory, address, &word, sizeof(word)) ? word : 0;
}

static bool segment_read(const struct memory *memory, uint64_t begin, uint64_t end,
                         struct segment *segment)
{
	size_t pages = (end - begin) / MEMORY_PAGE;
	uint8_t *states = calloc(pages, 1);

	*segment = (struct segment){ begin, (end - begin) / 8, calloc(pages, MEMORY_PAGE) };
	if (!states || !segment->data || !memory_pages(memory, begin, end, states)) {
		free(states);
		free(segment->data);
		return false;
	}
	for (size_t first = 0, last; first < pages; first = last + 1) {
		for (last = first; last < pages && states[last] == MEMORY_RESIDENT; last++)
			;
		memory_read_some(memory, begin + first * MEMORY_PAGE,
		                 (char *)segment->data + first * MEMORY_PAGE,
		                 (last - first) * MEMORY_PAGE);
	}
	free(states);
	return true;
}

/* --- the main arena --- */

static bool is_address(uint64_t value)
{
	return value >= MEMORY_PAGE && value < MEMORY_END && value % 16 == 0;
}

/* A pair of links is an empty bin's, or might be that of a bin with chunks. */
static bool pair_is_empty(const struct segment *segment, size_t word)
{
	uint64_t header = segment->begin + 8 * word - GLIBC_LINKS;

	return segment->data[word] == header && segment->data[word + 1] == header;
}

static bool pair_is_bin(const struct segment *segment, size_t word)
{
	return pair_is_empty(segment, word) ||
	       (is_address(segment->data[word]) && is_address(segment->data[word + 1]));
}

static bool ring_closes(struct glibc *glibc, uint64_t arena,
                        const struct glibc_layout *layout)
{
	uint64_t at = arena;

	for (; glibc->hops < HOPS_MOST; glibc->hops++) {
		at = glibc_find_word(glibc, at + layout->bins + GLIBC_FROM_BINS_NEXT);
		if (at == arena)
			return true;
		if (!is_address(at))
			return false;
	}
	return false;
}

/* Before 2.23 system_mem, a page at least, comes a word earlier, where a count of threads
 * is since. */
static bool system_agrees(const struct glibc *glibc, const struct segment *segment, size_t word,
                          const struct glibc_layout *layout)
{
	uint64_t earlier = segment->data[word + (GLIBC_FROM_BINS_NEXT + 16) / 8];
	bool counts_threads = earlier < MEMORY_PAGE || earlier <= glibc->stop->count;

	return counts_threads == (layout->from_bins_system == GLIBC_FROM_BINS_NEXT + 24);
}

/* Whether bins begin at this word; tells which layouts they allow. */
static const struct glibc_layout *bins_match(struct glibc *glibc,
                                             const struct segment *segment, size_t word)
{
	size_t count;
	const struct glibc_layout *layouts = glibc_layout_list(&count);

	if (word + BINS_WORDS + 8 > segment->words)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (word * 8 >= layouts[i].bins && system_agrees(glibc, segment, word, &layouts[i]) &&
		    ring_closes(glibc, segment->begin + 8 * word - layouts[i].bins, &layouts[i]))
			return &layouts[i];
	return NULL;
}

/* Looks for 127 bins in a row; the first empty one tells where about. */
static const struct glibc_layout *bins_find(struct glibc *glibc,
                                            const struct segment *segment, uint64_t *arena)
{
	size_t run = 0;

	/* `run`: pairs in a row that end at this word; pairs of both parities are seen. */
	for (size_t parity = 0; parity < 2; parity++, run = 0)
		for (size_t word = parity; word + 1 < segment->words; word += 2) {
			const struct glibc_layout *layout;
			size_t first;

			run = pair_is_bin(segment, word) ? run + 1 : 0;
			if (run < GLIBC_BINS)
				continue;
			first = word - 2 * (GLIBC_BINS - 1);
			layout = bins_match(glibc, segment, first);
			if (layout) {
				*arena = segment->begin + 8 * first - layout->bins;
				return layout;
			}
		}
	return NULL;
}

/* --- struct malloc_par --- */

static uint32_t half_word(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t whole_word(const char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

bool glibc_find_miscounts(const struct glibc *glibc, const struct glibc_layout *layout)
{
	return layout->mapped_race_last && glibc->version <= layout->mapped_race_last;
}

/* Whether so many chunks can have so many bytes, and neither is more than ever was. */
static bool counts_agree(const struct glibc_layout *layout, const char *at)
{
	uint32_t count = half_word(at + layout->mapped_count);
	uint32_t count_seen = half_word(at + layout->mapped_count + 8);
	uint64_t bytes = whole_word(at + layout->mapped_bytes);
	uint64_t bytes_seen = whole_word(at + layout->mapped_bytes + 8);

	return count <= count_seen && count_seen <= INT32_MAX && bytes <= bytes_seen &&
	       (!count || bytes);
}

/* How well these bytes would do as the parameters: 0 not at all. */
static int params_score(const struct glibc *glibc, const struct glibc_layout *layout,
                        const char *at)
{
	uint32_t count_max = half_word(at + layout->mapped_count + 4);
	uint32_t fixed = half_word(at + layout->mapped_count + 12);
	uint64_t bytes = whole_word(at + layout->mapped_bytes);
	uint64_t begin = whole_word(at + layout->break_begin);
	uint64_t arena_test = whole_word(at + 24), arena_max = whole_word(at + 32);
	const struct memory_mapping *mapping;

	if (count_max > INT32_MAX || fixed > 1 ||
	    bytes % (layout->mapped_bytes_drift ? 16 : MEMORY_PAGE) ||
	    (!counts_agree(layout, at) && !glibc_find_miscounts(glibc, layout)) ||
	    arena_test > UINT32_MAX || arena_max > UINT32_MAX)
		return 0;
	/* Hardly anybody changes these two, and only they tell where the break is not in use. */
	if (!begin)
		return count_max == 65536 && arena_test == 8 ? 5 : 0;
	mapping = memory_mapping_at(glibc->memory, begin);
	if (!mapping || (mapping->kind != MEMORY_BREAK && mapping->kind != MEMORY_ANONYMOUS))
		return 0;
	return 2 + (mapping->kind == MEMORY_BREAK) + (begin % MEMORY_PAGE == 0) +
	       2 * (count_max == 65536) + 2 * (arena_test == 8);
}

static uint64_t params_find(const struct glibc *glibc, const struct glibc_layout *layout,
                            const struct segment *segment, int *score)
{
	uint64_t found = 0;

	*score = 0;
	for (size_t word = 0; word + layout->params_bytes / 8 <= segment->words; word++) {
		int points = params_score(glibc, layout, (const char *)(segment->data + word));

		if (points > *score) {
			*score = points;
			found = segment->begin + 8 * word;
		}
	}
	return found;
}

/* --- the threads' caches --- */

bool glibc_find_cache(const struct glibc *glibc, const struct glibc_layout *layout,
                      uint64_t table)
{
	unsigned bins = glibc_layout_cache_bins(layout);
	size_t entries = glibc_layout_cache_entries(layout);
	char content[16 + 1024];
	size_t size = glibc_layout_cache_chunk(layout);
	uint64_t chunk = glibc_find_word(glibc, table - 8) & ~GLIBC_FLAGS;
	const struct memory_mapping *mapping = memory_mapping_at(glibc->memory, table);

	/* A freed chunk that was taken for it may have had 16 bytes more, too few to cut off. */
	if (!mapping || !mapping->writable || table % 16 || table < MEMORY_PAGE ||
	    (chunk != size && chunk != size + GLIBC_CHUNK_LEAST / 2) ||
	    !memory_read(glibc->memory, table, content, size - 8))
		return false;
	for (unsigned i = 0; i < bins; i++) {
		uint64_t entry = whole_word(content + entries + 8 * i);
		unsigned count = layout->cache == GLIBC_CACHE_BYTES ?
		                 (uint8_t)content[i] : half_word(content + 2 * i) & 0xffff;

		if (entry && !is_address(entry))
			return false;
		if (layout->cache != GLIBC_CACHE_SLOTS && !entry != !count)
			return false;
	}
	return true;
}

/* Looks through the thread-local data of one thread, from its pointer downwards. */
static uint64_t cache_offset_of(const struct glibc *glibc, const struct glibc_layout *layout,
                                uint64_t pointer)
{
	const struct memory_mapping *mapping = memory_mapping_at(glibc->memory, pointer - 1);
	uint64_t begin = (pointer - CACHE_REACH) & ~(MEMORY_PAGE - 1);
	uint64_t end = (pointer + MEMORY_PAGE - 1) & ~(MEMORY_PAGE - 1), offset = 0;
	struct segment segment;

	if (!mapping || pointer % 8)
		return 0;
	if (begin < mapping->begin)
		begin = mapping->begin;
	if (!segment_read(glibc->memory, begin, end, &segment))
		return 0;
	for (size_t word = (pointer - begin) / 8; word-- && !offset;)
		if (is_address(segment.data[word]) &&
		    glibc_find_cache(glibc, layout, segment.data[word]))
			offset = pointer - begin - 8 * word;
	free(segment.data);
	return offset;
}

/* The offset is the same in every thread; one that has never allocated has no cache. */
static bool cache_offset_find(struct glibc *glibc, const struct glibc_layout *layout)
{
	glibc->cache_below = 0;
	for (size_t i = 0; i < glibc->stop->count && i < CACHE_THREADS; i++) {
		glibc->cache_below = cache_offset_of(glibc, layout,
		                                     glibc->stop->threads[i].thread_pointer);
		if (glibc->cache_below)
			return true;
	}
	return false;
}

/* --- the version --- */

#define BANNER "GNU C Library ("
#define BANNER_VERSION "version "

static unsigned banner_version(const char *text, size_t length)
{
	const char *banner = memmem(text, length, BANNER, strlen(BANNER)), *at;
	unsigned major, minor;
	char line[160] = "";

	if (!banner)
		return 0;
	memcpy(line, banner, (size_t)(text + length - banner) < sizeof(line) - 1 ?
	       (size_t)(text + length - banner) : sizeof(line) - 1);
	at = strstr(line, BANNER_VERSION);
	if (!at || sscanf(at + strlen(BANNER_VERSION), "%u.%u", &major, &minor) != 2 ||
	    major > 9 || minor > 99)
		return 0;
	return 100 * major + minor;
}

static unsigned version_read(const struct glibc *glibc, const struct memory_mapping *mapping)
{
	int file = memory_mapping_open(glibc->memory, mapping);
	size_t room = 1 << 16, kept = 0;
	char *text = malloc(room);
	unsigned version = 0;
	size_t seen = 0;
	ssize_t length;

	while (file >= 0 && text && !version && seen < FILE_MOST &&
	       (length = read(file, text + kept, room - kept)) > 0) {
		size_t have = kept + (size_t)length;

		seen += (size_t)length;
		version = banner_version(text, have);
		/* A banner may lie across two pieces. */
		kept = have < 256 ? have : 256;
		memmove(text, text + have - kept, kept);
	}
	free(text);
	if (file >= 0)
		close(file);
	return version;
}

/* --- all together --- */

static bool layouts_alike(const struct glibc_layout *one, const struct glibc_layout *other)
{
	return one->bins == other->bins && one->from_bins_system == other->from_bins_system;
}

/* How well a layout does: 0 not at all. */
static int layout_score(struct glibc *glibc, const struct segment *segment,
                        const struct glibc_layout *layout)
{
	int score;

	glibc->params = params_find(glibc, layout, segment, &score);
	glibc->cache_below = 0;
	if (!glibc->params)
		return 0;
	return 2 * score + (layout->cache != GLIBC_CACHE_NONE && cache_offset_find(glibc, layout));
}

/* Whether a list of free blocks can be followed; `header` is what lies before its links. */
static bool list_fits(const struct glibc *glibc, const struct glibc_layout *layout,
                      uint64_t entry, uint64_t header)
{
	for (unsigned i = 0; entry && i < LINKS_TRIED; i++) {
		uint64_t place = entry + header, link;

		if (!is_address(entry) || !memory_read(glibc->memory, place, &link, sizeof(link)))
			return false;
		entry = layout->links_are_masked ? link ^ place >> 12 : link;
	}
	return true;
}

static bool cache_lists_fit(const struct glibc *glibc, const struct glibc_layout *layout,
                            uint64_t pointer)
{
	uint64_t table = glibc_find_word(glibc, pointer - glibc->cache_below);
	bool fit = true;

	if (!glibc->cache_below || !table || !glibc_find_cache(glibc, layout, table))
		return true;
	for (unsigned i = 0; fit && i < glibc_layout_cache_bins(layout); i++)
		fit = list_fits(glibc, layout,
		                glibc_find_word(glibc, table + glibc_layout_cache_entries(layout) +
		                                8 * i), 0);
	return fit;
}

/* Nothing but their lists tells versions that mask links from those before. */
static bool lists_fit(const struct glibc *glibc, const struct glibc_layout *layout)
{
	uint64_t fast = glibc->main_arena + layout->bins + (uint64_t)GLIBC_FROM_BINS_FAST;
	bool fit = true;

	for (unsigned i = 0; fit && layout->fast_bins && i < GLIBC_FAST_BINS; i++)
		fit = list_fits(glibc, layout, glibc_find_word(glibc, fast + 8 * i), GLIBC_LINKS);
	for (size_t i = 0; fit && i < glibc->stop->count && i < CACHE_THREADS; i++)
		fit = cache_lists_fit(glibc, layout, glibc->stop->threads[i].thread_pointer);
	return fit;
}

/*
 * Of the layouts whose arena is such: the version's own; else, for a version that
 * is not told or that its maker changed, the one whose parameters, caches and lists show.
 */
static void layout_choose(struct glibc *glibc, const struct segment *segment)
{
	const struct glibc_layout *seen = glibc->layout, *best = glibc_layout_of(glibc->version);
	const struct glibc_layout *layouts;
	int best_score = 0;
	size_t count;

	glibc->layout = best;
	if (best && layouts_alike(best, seen) && layout_score(glibc, segment, best) &&
	    (best->cache == GLIBC_CACHE_NONE || glibc->cache_below))
		return;
	best = NULL;
	layouts = glibc_layout_list(&count);
	for (size_t i = 0; i < count; i++) {
		int score = layouts_alike(&layouts[i], seen) ?
		            2 * layout_score(glibc, segment, &layouts[i]) : 0;

		score += score && lists_fit(glibc, &layouts[i]);
		/* In doubt the version's own: a thread need not have a cache. */
		if (score > best_score || (score && score == best_score &&
		    &layouts[i] == glibc_layout_of(glibc->version))) {
			best_score = score;
			best = &layouts[i];
		}
	}
	glibc->layout = best;
	if (best)
		layout_score(glibc, segment, best);
}

static void module_span(struct glibc *glibc, const struct memory_mapping *data)
{
	glibc->module_begin = data->begin;
	glibc->module_end = data->end;
	for (size_t i = 0; i < glibc->memory->mapping_count; i++) {
		const struct memory_mapping *mapping = &glibc->memory->mappings[i];

		if (mapping->inode != data->inode || strcmp(mapping->path, data->path))
			continue;
		if (mapping->begin < glibc->module_begin)
			glibc->module_begin = mapping->begin;
		if (mapping->end > glibc->module_end)
			glibc->module_end = mapping->end;
	}
}

static bool mapping_may_hold(const struct memory_mapping *mapping)
{
	return mapping->kind == MEMORY_FILE && mapping->writable && !mapping->shared &&
	       mapping->end - mapping->begin <= SEGMENT_MOST &&
	       strncmp(memory_mapping_name(mapping), "libcede", 7) != 0;
}

bool glibc_find_is_library(const struct memory_mapping *mapping)
{
	const char *name = memory_mapping_name(mapping);

	return !strncmp(name, "libc.so.6", 9) || !strncmp(name, "libc-2.", 7);
}

static enum glibc_found segment_try(struct glibc *glibc, const struct memory_mapping *mapping)
{
	enum glibc_found found = GLIBC_NO_HEAP;
	struct segment segment;

	if (!segment_read(glibc->memory, mapping->begin, mapping->end, &segment))
		return GLIBC_NO_HEAP;
	glibc->layout = bins_find(glibc, &segment, &glibc->main_arena);
	if (glibc->layout) {
		module_span(glibc, mapping);
		glibc->version = version_read(glibc, mapping);
		layout_choose(glibc, &segment);
		found = glibc->layout && (!glibc->version || glibc_layout_of(glibc->version)) ?
		        GLIBC_FOUND : GLIBC_UNKNOWN_LAYOUT;
		if (found == GLIBC_UNKNOWN_LAYOUT)
			snprintf(glibc->why, sizeof(glibc->why),
			         "%.100s is glibc %u.%u, whose heap this version of cede does not "
			         "know", memory_mapping_name(mapping), glibc->version / 100,
			         glibc->version % 100);
	}
	free(segment.data);
	return found;
}

/* Whether memory was ever taken from it: a heap that checks itself (MALLOC_CHECK_) is a
 * second one, and libc's own stays as it began. */
static bool is_in_use(const struct glibc *glibc)
{
	uint64_t bins = glibc_find_bins(glibc, glibc->main_arena);

	return glibc_find_word(glibc, bins + glibc->layout->from_bins_system) ||
	       glibc_find_word(glibc, bins + GLIBC_FROM_BINS_NEXT) != glibc->main_arena;
}

/* Looks through libc, or through all else that may hold it; keeps what is best. */
static enum glibc_found mappings_try(struct glibc *glibc, bool libc, enum glibc_found best)
{
	const struct memory *memory = glibc->memory;
	uint64_t bytes = 0;

	for (size_t i = 0; i < memory->mapping_count; i++) {
		const struct memory_mapping *mapping = &memory->mappings[i];
		struct glibc other = *glibc;
		enum glibc_found found;

		if (!mapping_may_hold(mapping) || glibc_find_is_library(mapping) != libc)
			continue;
		bytes += mapping->end - mapping->begin;
		if (bytes > SEGMENTS_MOST)
			break;
		found = segment_try(&other, mapping);
		glibc->hops = other.hops;
		if (found == GLIBC_NO_HEAP)
			continue;
		if (best == GLIBC_NO_HEAP || (found == GLIBC_FOUND && is_in_use(&other))) {
			*glibc = other;
			best = found;
		}
		if (best != GLIBC_FOUND || is_in_use(glibc))
			break;
	}
	return best;
}

enum glibc_found glibc_find(struct glibc *glibc)
{
	enum glibc_found found = mappings_try(glibc, true, GLIBC_NO_HEAP);

	if (found == GLIBC_NO_HEAP || (found == GLIBC_FOUND && !is_in_use(glibc)))
		found = mappings_try(glibc, false, found);
	return found;
}
