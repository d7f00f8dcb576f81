#include "doctor/account.h"

#include "doctor/page.h"

#define EXACT_CLASSES 64           /* 16, 32, ..., 1024 */
#define EXACT_BYTES 1024

size_t account_class_of(uint64_t block_bytes)
{
	size_t class;

	if (block_bytes <= EXACT_BYTES)
		return block_bytes ? (block_bytes - 1) / MODEL_GRAIN : 0;
	/* 1025 to 2048 is the first of the doubling ones. */
	class = EXACT_CLASSES + (size_t)(63 - __builtin_clzl(block_bytes - 1)) - 10;
	return class < ACCOUNT_CLASSES ? class : ACCOUNT_CLASSES - 1;
}

static uint64_t class_bytes(size_t class)
{
	return class < EXACT_CLASSES ? (class + 1) * MODEL_GRAIN :
	       2ul * EXACT_BYTES << (class - EXACT_CLASSES);
}

/* Divides the free bytes of a page among the live blocks on it. */
static void page_blame(const struct model *model, const struct model_region *region,
                       const struct page *page, struct account *account)
{
	size_t before = 0;

	for (size_t block = page->first; block <= page->last; block++) {
		uint64_t begin = model_block_address(model, block);
		struct account_class *class;

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		class = &account->classes[account_class_of(
			model_block_end(model, region, block) - begin)];
		class->pinned_bytes += page_share(page, before++);
	}
}

static void page_add(const struct model *model, const struct model_region *region,
                     const struct page *page, struct account *account)
{
	bool whole = page_is_free(page);

	for (int i = 0; i < MODEL_STATES; i++) {
		if (page->state != MODEL_RESIDENT) {
			account->absent[i] += page->bytes[i];
			continue;
		}
		account->resident[i] += page->bytes[i];
		if (model_state_is_free((enum model_state)i)) {
			account->whole[i] += whole ? page->bytes[i] : 0;
			account->shared[i] += whole ? 0 : page->bytes[i];
		}
	}
	if (page->state != MODEL_RESIDENT)
		return;
	account->heap_bytes += page->end - page->begin;
	if (region->kind == MODEL_MAPPED)
		account->mapped_bytes += page->bytes[MODEL_LIVE];
	if (page_pins(page))
		page_blame(model, region, page, account);
}

static void region_add(const struct model *model, const struct model_region *region,
                       struct account *account)
{
	struct page page = { 0 };

	while (page_next(model, region, &page))
		page_add(model, region, &page, account);
}

static void blocks_count(const struct model *model, const struct model_region *region,
                         struct account *account)
{
	for (size_t i = 0; i < region->block_count; i++) {
		size_t block = region->first_block + i;
		uint64_t bytes = model_block_end(model, region, block) -
		                 model_block_address(model, block);
		struct account_class *class = &account->classes[account_class_of(bytes)];

		if (model_block_state(model, block) != MODEL_LIVE)
			continue;
		account->live_blocks++;
		account->live_bytes += bytes;
		class->live_blocks++;
		class->live_bytes += bytes;
	}
}

void account_fill(const struct model *model, struct account *account)
{
	uint64_t anonymous = 0;

	*account = (struct account){ 0 };
	for (size_t i = 0; i < ACCOUNT_CLASSES; i++)
		account->classes[i].block_bytes = class_bytes(i);
	for (size_t i = 0; i < model->region_count; i++) {
		region_add(model, &model->regions[i], account);
		blocks_count(model, &model->regions[i], account);
	}
	for (size_t i = 0; i < model->mapping_count; i++) {
		const struct model_mapping *mapping = &model->mappings[i];

		account->resident_bytes += mapping->resident_bytes;
		account->swapped_bytes += mapping->swapped_bytes;
		if (mapping->kind == MODEL_FILE)
			account->file_bytes += mapping->resident_bytes;
		else if (mapping->kind == MODEL_STACK)
			account->stack_bytes += mapping->resident_bytes;
		else
			anonymous += mapping->resident_bytes;
	}
	for (int state = 0; state < MODEL_STATES; state++) {
		account->whole_bytes += account->whole[state];
		account->shared_bytes += account->shared[state];
	}
	account->other_bytes = anonymous > account->heap_bytes ? anonymous - account->heap_bytes : 0;
}
