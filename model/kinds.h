/*
 * What blocks hold, as far as their first words tell: a kind for each, from a table of
 * kinds.  Layer: model.
 *
 * Plain kinds are their form alone; the others have a name too, and an entry in the
 * table.  Of what blocks hold nothing else is kept.
 *
 * Ownership: struct kinds owns its arrays until kinds_free.
 *
 * I1: the table ascends by form and name, and has no two alike: kinds_find;
 * I2: names are printable: kind_clean, before they are added;
 * I3: there are at most KINDS_MOST, so that an index fits into 16 bits.
 */
#ifndef CEDE_MODEL_KINDS_H
#define CEDE_MODEL_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIND_NAME 200
#define KINDS_MOST 16384u

enum kind_form {
	KIND_UNKNOWN,      /* not read: its page is not resident */
	KIND_ZEROS,
	KIND_TEXT,
	KIND_POINTERS,     /* into the heap */
	KIND_OTHER,
	KIND_PLAIN,        /* those before have no name */
	KIND_OBJECT = KIND_PLAIN,   /* of a C++ class with virtual functions */
	KIND_DATA,         /* begins with the address of this variable */
	KIND_CODE,         /* begins with the address of this function */
	KIND_FILE,         /* begins with an address in this file, without a name there */
	KIND_FORMS
};

/* "unknown", "zeros", "text", "pointers", "other", "object", "data", "code", "file" */
const char *kind_form_name(enum kind_form form);

struct kind {
	enum kind_form form;
	char name[KIND_NAME];
};

/* Leaves printable characters of the name. */
void kind_clean(struct kind *kind);

/* Orders by form, then by name, as strcmp does. */
int kind_compare(const struct kind *left, const struct kind *right);

struct kinds {
	uint16_t *of;      /* for each block: its form when that is plain, else KIND_PLAIN and
	                      its index in the table; NULL: nothing is known of any */
	struct kind *table;
	size_t count;
};

void kinds_free(struct kinds *kinds);

/* Begins, for so many blocks; all are unknown.  Returns false when memory ran out. */
bool kinds_open(struct kinds *kinds, size_t block_count);

/* Adds a kind that is not plain.  Returns false when it comes before the last one or is
 * it, when there are too many, or when memory ran out. */
bool kinds_add(struct kinds *kinds, const struct kind *kind);

/* The value for `of` of a kind, or KIND_UNKNOWN when there is no such. */
uint16_t kinds_find(const struct kinds *kinds, const struct kind *kind);

/* The kind of a value of `of`. */
static inline struct kind kinds_kind(const struct kinds *kinds, uint32_t value)
{
	return value < KIND_PLAIN ? (struct kind){ .form = (enum kind_form)value } :
	       kinds->table[value - KIND_PLAIN];
}

#endif
