#include "doctor/referrers.h"

struct search {
	const struct model *model;
	struct referrer *referrers;
	size_t count;
	uint64_t begin, end;         /* of all of them */
};

/* The one that this word leads to, unless a word to its begin is known. */
static struct referrer *referrer_at(const struct search *search, uint64_t word)
{
	size_t low = 0, high = search->count;

	if (word < search->begin || word >= search->end)
		return NULL;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (search->referrers[middle].end <= word)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == search->count || word < search->referrers[low].begin)
		return NULL;
	return search->referrers[low].is_exact ? NULL : &search->referrers[low];
}

static void roots_search(const struct search *search, const struct words *words)
{
	for (size_t i = 0; i < words->root_count; i++) {
		struct referrer *referrer = referrer_at(search, words->roots[i]);

		if (!referrer)
			continue;
		referrer->place = words->root_places[i];
		referrer->is_exact = words->roots[i] == referrer->begin;
	}
}

static void block_search(const struct search *search, const struct model_region *region,
                         size_t block, const uint64_t *values, size_t count)
{
	uint64_t begin = model_memory_begin(search->model, region, block);

	for (size_t i = 0; i < count; i++) {
		struct referrer *referrer = referrer_at(search, values[i]);

		/* That it leads to itself tells nothing. */
		if (!referrer || referrer->place || begin == referrer->begin)
			continue;
		referrer->block = block;
		referrer->is_exact = values[i] == referrer->begin;
	}
}

static void region_search(const struct search *search, const struct words *words,
                          const struct model_region *region)
{
	const struct model *model = search->model;
	size_t end = region->first_block + region->block_count;
	size_t next = words_first(words, model, region, region->first_block);

	for (size_t block = region->first_block; block < end; block++) {
		size_t first = next, page = region->first_page + model_region_pages(region);

		next = block + 1 < end ? words_first(words, model, region, block + 1) :
		       words->first[page];
		if (model_block_state(model, block) == MODEL_LIVE)
			block_search(search, region, block, words->values + first, next - first);
	}
}

void referrers_find(const struct model *model, const struct words *words,
                    struct referrer *referrers, size_t count)
{
	struct search search = { .model = model, .referrers = referrers, .count = count };

	if (!count)
		return;
	search.begin = referrers[0].begin;
	search.end = referrers[count - 1].end;
	for (size_t i = 0; i < count; i++) {
		referrers[i].place = 0;
		referrers[i].block = MODEL_NONE;
		referrers[i].is_exact = false;
	}
	roots_search(&search, words);
	for (size_t i = 0; i < model->region_count; i++)
		region_search(&search, words, &model->regions[i]);
}
