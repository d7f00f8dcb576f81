#include "model/words.h"

#include <stdlib.h>
#include <string.h>

void words_open(struct words *words, const struct model *model, uint64_t lead)
{
	words_free(words);
	words->lead = lead;
	words->page_count = model->page_count;
	words->map_at = calloc(model->page_count + 1, sizeof(*words->map_at));
	words->first = calloc(model->page_count + 1, sizeof(*words->first));
	words->failed = !words->map_at || !words->first;
}

void words_free(struct words *words)
{
	free(words->roots);
	free(words->root_places);
	free(words->threads);
	free(words->map_at);
	free(words->first);
	free(words->maps);
	free(words->values);
	*words = (struct words){ 0 };
}

/* Makes room for `more` items behind those that are there. */
static bool room_make(struct words *words, void *array, size_t count, size_t *room, size_t more,
                      size_t item_bytes)
{
	size_t wanted = *room ? *room : 1024;
	void *larger;

	if (words->failed)
		return false;
	if (more <= *room - count)
		return true;
	while (wanted - count < more)
		wanted *= 2;
	larger = realloc(*(void **)array, wanted * item_bytes);
	words->failed = !larger;
	if (!larger)
		return false;
	*(void **)array = larger;
	*room = wanted;
	return true;
}

void words_add_roots(struct words *words, const uint64_t *values, const uint64_t *places,
                     size_t count)
{
	size_t room = words->root_room;

	if (!count ||
	    !room_make(words, &words->roots, words->root_count, &room, count, sizeof(*values)) ||
	    !room_make(words, &words->root_places, words->root_count, &words->root_room, count,
	               sizeof(*places)))
		return;
	memcpy(words->roots + words->root_count, values, count * sizeof(*values));
	if (places)
		memcpy(words->root_places + words->root_count, places, count * sizeof(*places));
	else
		memset(words->root_places + words->root_count, 0, count * sizeof(*places));
	words->root_count += count;
}

void words_add_thread(struct words *words, const struct words_thread *thread)
{
	if (room_make(words, &words->threads, words->thread_count, &words->thread_room, 1,
	              sizeof(*thread)))
		words->threads[words->thread_count++] = *thread;
}

void words_add_page(struct words *words, size_t page, const uint64_t bits[WORDS_PAGE / 64],
                    const uint64_t *values, size_t count)
{
	struct words_map map;
	uint16_t before = 0;

	if (!count ||
	    !room_make(words, &words->maps, words->map_count, &words->map_room, 1, sizeof(map)) ||
	    !room_make(words, &words->values, words->value_count, &words->value_room, count,
	               sizeof(*values)))
		return;
	while (words->filled <= page)
		words->first[words->filled++] = words->value_count;
	for (size_t i = 0; i < WORDS_PAGE / 64; i++) {
		map.bits[i] = bits[i];
		map.before[i] = before;
		before = (uint16_t)(before + __builtin_popcountl(bits[i]));
	}
	words->maps[words->map_count++] = map;
	words->map_at[page] = (uint32_t)words->map_count;
	memcpy(words->values + words->value_count, values, count * sizeof(*values));
	words->value_count += count;
}

bool words_finish(struct words *words)
{
	while (!words->failed && words->filled <= words->page_count)
		words->first[words->filled++] = words->value_count;
	words->failed = words->failed || words->map_count >= UINT32_MAX;
	return !words->failed;
}

size_t words_first(const struct words *words, const struct model *model,
                   const struct model_region *region, size_t block)
{
	uint64_t begin = model_block_address(model, block) + words_lead(words, region);
	uint64_t place = begin < region->end ? begin : region->end;
	size_t page = region->first_page + (place / MODEL_PAGE - region->begin / MODEL_PAGE);
	size_t word = place % MODEL_PAGE / sizeof(uint64_t);
	const struct words_map *map;

	/* At a page's begin none of it comes before; that page may be another region's. */
	if (!word || !words->map_at[page])
		return words->first[page];
	map = &words->maps[words->map_at[page] - 1];
	return words->first[page] + map->before[word / 64] +
	       (size_t)__builtin_popcountl(map->bits[word / 64] & ((1ul << word % 64) - 1));
}
