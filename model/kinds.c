#include "model/kinds.h"

#include <stdlib.h>
#include <string.h>

const char *kind_form_name(enum kind_form form)
{
	static const char *const names[KIND_FORMS] = {
		[KIND_UNKNOWN] = "unknown", [KIND_ZEROS] = "zeros", [KIND_TEXT] = "text",
		[KIND_POINTERS] = "pointers", [KIND_OTHER] = "other", [KIND_OBJECT] = "object",
		[KIND_DATA] = "data", [KIND_CODE] = "code", [KIND_FILE] = "file",
	};

	return names[form];
}

int kind_compare(const struct kind *left, const struct kind *right)
{
	return left->form != right->form ? (left->form < right->form ? -1 : 1) :
	       strcmp(left->name, right->name);
}

void kinds_free(struct kinds *kinds)
{
	free(kinds->of);
	free(kinds->table);
	*kinds = (struct kinds){ 0 };
}

bool kinds_open(struct kinds *kinds, size_t block_count)
{
	kinds_free(kinds);
	kinds->of = calloc(block_count + 1, sizeof(*kinds->of));
	return kinds->of;
}

void kind_clean(struct kind *kind)
{
	kind->name[KIND_NAME - 1] = '\0';
	for (char *at = kind->name; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
}

bool kinds_add(struct kinds *kinds, const struct kind *kind)
{
	if (kind->form < KIND_PLAIN || kind->form >= KIND_FORMS || kinds->count == KINDS_MOST ||
	    (kinds->count && kind_compare(&kinds->table[kinds->count - 1], kind) >= 0))
		return false;
	/* Room for a power of two of them: so their number tells when it ends. */
	if (!(kinds->count & (kinds->count - 1))) {
		size_t room = kinds->count ? 2 * kinds->count : 1;
		struct kind *larger = realloc(kinds->table, room * sizeof(*larger));

		if (!larger)
			return false;
		kinds->table = larger;
	}
	kinds->table[kinds->count++] = *kind;
	return true;
}

static int entry_compare(const void *left, const void *right)
{
	return kind_compare(left, right);
}

uint16_t kinds_find(const struct kinds *kinds, const struct kind *kind)
{
	const struct kind *found;

	if (kind->form < KIND_PLAIN)
		return (uint16_t)kind->form;
	found = !kinds->count ? NULL :
	        bsearch(kind, kinds->table, kinds->count, sizeof(*kind), entry_compare);
	return found ? (uint16_t)(KIND_PLAIN + (found - kinds->table)) : KIND_UNKNOWN;
}
