#include "map/page.h"

#include <cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* page.html as text, and where in it the data go. */
__asm__(".section .rodata\n"
        "page_template: .incbin \"" PAGE_TEMPLATE "\"\n"
        ".byte 0\n"
        ".text\n");
extern const char page_template[];

#define DATA_MARK "<!--data-->"

#define GROUPS_MOST 64             /* of blocks alike that are told apart in a cell, */
#define GROUPS_TOLD 5              /* and of these those with the most bytes are told */

/* Blocks of a cell that have a state and a size. */
struct group {
	enum model_state state;
	uint64_t block_bytes;
	size_t blocks;
};

static void number_add(cJSON *array, uint64_t value)
{
	cJSON_AddItemToArray(array, cJSON_CreateNumber((double)value));
}

/* Inside a script element "<" could end it: the process chose its name. */
static bool json_write(FILE *out, const char *attribute, cJSON *json)
{
	char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	if (!text)
		return false;
	fprintf(out, "<script type=\"application/json\" %s>", attribute);
	for (const char *c = text; *c; c++)
		if (*c == '<')
			fputs("\\u003c", out);
		else
			fputc(*c, out);
	fputs("</script>\n", out);
	free(text);
	return true;
}

/* --- what a cell says --- */

static int group_compare(const void *a, const void *b)
{
	const struct group *left = a, *right = b;
	uint64_t more = right->block_bytes * right->blocks, less = left->block_bytes * left->blocks;

	return more < less ? -1 : more > less;
}

/* Returns the groups; the blocks beyond them are `others`. */
static size_t groups_find(const struct model *model, const struct map_cell *cell,
                          struct group groups[GROUPS_MOST], size_t *others)
{
	const struct model_region *region = &model->regions[cell->region];
	size_t count = 0;

	*others = 0;
	for (size_t i = 0; i < cell->block_count; i++) {
		size_t block = cell->first_block + i, at = 0;
		enum model_state state = model_block_state(model, block);
		uint64_t bytes = model_block_end(model, region, block) -
		                 model_block_address(model, block);

		while (at < count && (groups[at].state != state || groups[at].block_bytes != bytes))
			at++;
		if (at == GROUPS_MOST) {
			++*others;
			continue;
		}
		if (at == count)
			groups[count++] = (struct group){ state, bytes, 0 };
		groups[at].blocks++;
	}
	qsort(groups, count, sizeof(*groups), group_compare);
	for (; count > GROUPS_TOLD; count--)
		*others += groups[count - 1].blocks;
	return count;
}

/* [bytes of it, first block's address, other blocks, [state, bytes, height, ...],
 *  [state, block's bytes, blocks, ...]]; addresses in grains */
static cJSON *cell_json(const struct picture *picture, const struct map_cell *cell)
{
	const struct model *model = &picture->patient->model;
	cJSON *json = cJSON_CreateArray(), *states = cJSON_CreateArray();
	cJSON *blocks = cJSON_CreateArray();
	struct group groups[GROUPS_MOST];
	size_t others, count = groups_find(model, cell, groups, &others);
	unsigned heights[MAP_STATES];

	number_add(json, cell->end - cell->begin);
	number_add(json, model_block_address(model, cell->first_block) / MODEL_GRAIN);
	number_add(json, others);
	picture_bands(cell, heights);
	for (int state = 0; state < MAP_STATES; state++) {
		if (!cell->bytes[state])
			continue;
		number_add(states, (uint64_t)state);
		number_add(states, cell->bytes[state]);
		number_add(states, heights[state]);
	}
	for (size_t i = 0; i < count; i++) {
		number_add(blocks, groups[i].state);
		number_add(blocks, groups[i].block_bytes);
		number_add(blocks, groups[i].blocks);
	}
	cJSON_AddItemToArray(json, states);
	cJSON_AddItemToArray(json, blocks);
	return json;
}

/* Neighbours that say the same are one entry: [cells, address, mark, what they say].
 * mark: 1 another region begins, 2 a top begins. */
static bool row_write(FILE *out, const struct picture *picture, size_t row)
{
	const struct map_row *it = &picture->map.rows[row];
	cJSON *json = cJSON_CreateObject(), *runs, *before = NULL;
	char text[128];

	cJSON_AddNumberToObject(json, "y", picture->row_y[row]);
	if (it->is_gap) {
		picture_gap_text(&picture->map.cells[it->first_cell], text, sizeof(text));
		cJSON_AddStringToObject(json, "gap", text);
	}
	runs = cJSON_AddArrayToObject(json, "runs");
	for (size_t i = 0; i < it->cell_count; i++) {
		size_t index = it->first_cell + i;
		const struct map_cell *cell = &picture->map.cells[index];
		cJSON *says = cell_json(picture, cell), *count;
		int mark = picture_top_begins(picture, index) ? 2 : picture_region_begins(picture, index);

		if (before && !mark && cJSON_Compare(cJSON_GetArrayItem(before, 3), says, true)) {
			count = cJSON_GetArrayItem(before, 0);
			cJSON_SetNumberValue(count, count->valuedouble + 1);
			cJSON_Delete(says);
			continue;
		}
		before = cJSON_CreateArray();
		number_add(before, 1);
		number_add(before, cell->begin / MODEL_GRAIN);
		number_add(before, (uint64_t)mark);
		cJSON_AddItemToArray(before, says);
		cJSON_AddItemToArray(runs, before);
	}
	return json_write(out, "class=\"row\"", json);
}

/* --- what the page says --- */

static void states_add(cJSON *root, const struct picture *picture)
{
	cJSON *states = cJSON_AddArrayToObject(root, "states"), *names;

	for (int state = 0; state < MAP_STATES; state++) {
		const struct picture_style *style = picture_style((enum map_state)state);
		cJSON *object = cJSON_CreateObject();
		char color[8];

		snprintf(color, sizeof(color), "#%06x", style->color & 0xffffff);
		cJSON_AddStringToObject(object, "name", map_state_name((enum map_state)state));
		cJSON_AddStringToObject(object, "text", style->text);
		cJSON_AddStringToObject(object, "color", color);
		cJSON_AddNumberToObject(object, "bytes", (double)picture->map.bytes[state]);
		cJSON_AddBoolToObject(object, "resident", state < MAP_RESIDENT);
		cJSON_AddItemToArray(states, object);
	}
	names = cJSON_AddArrayToObject(root, "blocks");
	for (int state = 0; state < MODEL_STATES; state++)
		cJSON_AddItemToArray(names, cJSON_CreateString(model_state_name((enum model_state)state)));
}

static bool head_write(FILE *out, const struct picture *picture)
{
	cJSON *root = cJSON_CreateObject(), *sections;
	char text[200];

	cJSON_AddStringToObject(root, "title", picture->title);
	cJSON_AddStringToObject(root, "subtitle", picture->subtitle);
	cJSON_AddNumberToObject(root, "resident_bytes", (double)picture->map.resident_bytes);
	cJSON_AddNumberToObject(root, "columns", MAP_COLUMNS);
	cJSON_AddNumberToObject(root, "cell_width", PICTURE_CELL_WIDTH);
	cJSON_AddNumberToObject(root, "cell_height", PICTURE_CELL_HEIGHT);
	cJSON_AddNumberToObject(root, "gap_height", PICTURE_GAP_PITCH);
	cJSON_AddNumberToObject(root, "height", picture->height);
	states_add(root, picture);
	sections = cJSON_AddArrayToObject(root, "sections");
	for (size_t i = 0; i < picture->map.section_count; i++) {
		const struct map_section *section = &picture->map.sections[i];
		cJSON *object = cJSON_CreateObject();

		picture_section_text(picture, section, text, sizeof(text));
		cJSON_AddNumberToObject(object, "y", picture->row_y[section->first_row]);
		cJSON_AddStringToObject(object, "text", text);
		cJSON_AddItemToArray(sections, object);
	}
	return json_write(out, "id=\"map\"", root);
}

const char *page_write(const char *path, const struct picture *picture)
{
	const char *mark = strstr(page_template, DATA_MARK);
	FILE *out = fopen(path, "we");
	bool whole;

	if (!out)
		return strerror(errno);
	fwrite(page_template, 1, (size_t)(mark - page_template), out);
	whole = head_write(out, picture);
	for (size_t row = 0; whole && row < picture->map.row_count; row++)
		whole = row_write(out, picture, row);
	fputs(mark + strlen(DATA_MARK), out);
	if (fflush(out) || ferror(out)) {
		fclose(out);
		return "it could not be written whole: is the disk full?";
	}
	fclose(out);
	return whole ? NULL : strerror(ENOMEM);
}
