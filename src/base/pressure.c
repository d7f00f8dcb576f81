#include "base/pressure.h"

#include <limits.h>

static unsigned digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (unsigned)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : UINT_MAX;
}

size_t pressure_decode(struct span text, unsigned char *out, size_t size)
{
	size_t digits = text.length, bytes;
	unsigned bits = 0;

	while (digits > 0 && text.length - digits < 2 && text.start[digits - 1] == '=')
		digits--;
	bytes = digits / 4 * 3 + digits % 4 * 3 / 4;
	if (text.length % 4 != 0 || bytes > size)
		return SIZE_MAX;
	for (size_t i = 0; i < digits; i++) {
		unsigned digit = digit_of(text.start[i]);

		if (digit > 63)
			return SIZE_MAX;
		bits = bits << 6 | digit;
		/* Each digit but the first of four completes a byte. */
		if (i % 4 != 0)
			out[i / 4 * 3 + i % 4 - 1] = (unsigned char)(bits >> (6 - i % 4 * 2));
	}
	return bytes;
}

/* What follows `word` and the separator in one of the parts; start NULL: it is nowhere. */
static struct span value_of(struct span text, char between, const char *word, char separator)
{
	while (text.start != NULL) {
		struct span value = span_cut(&text, between);

		if (span_is(span_cut(&value, separator), word) && value.start != NULL)
			return value;
	}
	return text;
}

static size_t number_of(struct span text)
{
	size_t number;

	return text.start != NULL && span_number(text, &number) ? number : 0;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and a line for "full". */
size_t pressure_stall_us(struct span text)
{
	struct span some = value_of(text, '\n', "some", ' ');

	return number_of(value_of(some, ' ', "total", '='));
}

/* "low 0", "high 0", "max 0" and more, a line each. */
size_t pressure_times_high(struct span text)
{
	return number_of(value_of(text, '\n', "high", ' '));
}

bool pressure_window_look(struct pressure_window *w, size_t stall_us)
{
	bool is_short = stall_us >= w->start_us + PRESSURE_STALL_US;

	if (is_short || ++w->looks == PRESSURE_WINDOW_LOOKS)
		*w = (struct pressure_window){ stall_us, 0 };
	return is_short;
}
