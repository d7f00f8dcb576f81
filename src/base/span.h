/*
 * A part of a text that is not ours to cut with a NUL.  Layer: base.  Whoever has
 * the text owns it.
 */
#ifndef CEDE_BASE_SPAN_H
#define CEDE_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const char *start; /* NULL: there is none */
	size_t length;
};

static inline struct span span_of(const char *text)
{
	return (struct span){ text, strlen(text) };
}

static inline bool span_is(struct span span, const char *text)
{
	return span.length == strlen(text) && memcmp(span.start, text, span.length) == 0;
}

/*
 * Cuts *rest at the first `separator`: returns what stands before it, and leaves
 * in *rest what follows (start NULL when there was no separator).
 */
static inline struct span span_cut(struct span *rest, char separator)
{
	struct span head = *rest;
	const char *at = memchr(rest->start, separator, rest->length);

	if (at == NULL) {
		*rest = (struct span){ NULL, 0 };
		return head;
	}
	head.length = (size_t)(at - rest->start);
	*rest = (struct span){ at + 1, rest->length - head.length - 1 };
	return head;
}

/* Decimal digits alone; what is too large is the largest. */
static inline bool span_number(struct span text, size_t *value)
{
	size_t sum = 0;
	bool too_large = false;

	for (size_t i = 0; i < text.length; i++) {
		unsigned digit = (unsigned)(text.start[i] - '0');

		if (digit > 9)
			return false;
		too_large |= __builtin_mul_overflow(sum, 10, &sum);
		too_large |= __builtin_add_overflow(sum, digit, &sum);
	}
	*value = too_large ? SIZE_MAX : sum;
	return text.length > 0;
}

#endif
