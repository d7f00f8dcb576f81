#include "base/fmt.h"

#include <stdbool.h>
#include <stdint.h>

/* 64 bits need 20 decimal digits. */
#define DIGITS_MAX 20

struct output {
	char *buf;
	size_t room;     /* bytes that fit before the NUL */
	size_t length;
};

/* One conversion: the text between '%' and its letter. */
struct spec {
	bool left, zero;
	size_t width;
	enum { LENGTH_INT, LENGTH_LONG, LENGTH_LONG_LONG, LENGTH_SIZE } length;
};

static void output_char(struct output *out, char c)
{
	if (out->length < out->room)
		out->buf[out->length++] = c;
}

static void output_text(struct output *out, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		output_char(out, text[i]);
}

static void output_fill(struct output *out, char c, size_t count)
{
	/* A width may be absurd; what does not fit need not be counted. */
	for (size_t i = 0; i < count && out->length < out->room; i++)
		output_char(out, c);
}

/* The sign or "0x" goes before the zeros and after the blanks. */
static void output_field(struct output *out, const struct spec *spec, const char *prefix,
                         const char *body, size_t body_length)
{
	size_t prefix_length = 0;
	while (prefix[prefix_length] != '\0')
		prefix_length++;
	size_t length = prefix_length + body_length;
	size_t fill = spec->width > length ? spec->width - length : 0;

	if (!spec->left && !spec->zero)
		output_fill(out, ' ', fill);
	output_text(out, prefix, prefix_length);
	if (!spec->left && spec->zero)
		output_fill(out, '0', fill);
	output_text(out, body, body_length);
	if (spec->left)
		output_fill(out, ' ', fill);
}

static void output_number(struct output *out, const struct spec *spec, const char *prefix,
                          uint64_t value, unsigned base)
{
	char digits[DIGITS_MAX];
	size_t first = sizeof(digits);

	do {
		digits[--first] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value != 0);
	output_field(out, spec, prefix, digits + first, sizeof(digits) - first);
}

static void output_string(struct output *out, struct spec *spec, const char *text)
{
	size_t length = 0;

	if (text == NULL)
		text = "(null)";
	while (text[length] != '\0')
		length++;
	spec->zero = false;
	output_field(out, spec, "", text, length);
}

static uint64_t next_unsigned(const struct spec *spec, va_list *args)
{
	switch (spec->length) {
	case LENGTH_LONG:
		return va_arg(*args, unsigned long);
	case LENGTH_LONG_LONG:
		return va_arg(*args, unsigned long long);
	case LENGTH_SIZE:
		return va_arg(*args, size_t);
	default:
		return va_arg(*args, unsigned);
	}
}

static int64_t next_signed(const struct spec *spec, va_list *args)
{
	switch (spec->length) {
	case LENGTH_LONG:
		return va_arg(*args, long);
	case LENGTH_LONG_LONG:
		return va_arg(*args, long long);
	case LENGTH_SIZE:
		return va_arg(*args, ptrdiff_t);
	default:
		return va_arg(*args, int);
	}
}

/* Reads flags, width and length; returns where the conversion's letter stands. */
static const char *spec_parse(struct spec *spec, const char *p)
{
	*spec = (struct spec){ .length = LENGTH_INT };
	for (; *p == '-' || *p == '0'; p++) {
		if (*p == '-')
			spec->left = true;
		else
			spec->zero = true;
	}
	for (; *p >= '0' && *p <= '9'; p++)
		spec->width = spec->width * 10 + (size_t)(*p - '0');
	if (*p == 'z') {
		spec->length = LENGTH_SIZE;
		p++;
	} else if (*p == 'l' && p[1] == 'l') {
		spec->length = LENGTH_LONG_LONG;
		p += 2;
	} else if (*p == 'l') {
		spec->length = LENGTH_LONG;
		p++;
	}
	return p;
}

/* Returns false when the letter is not one of ours. */
static bool convert(struct output *out, struct spec *spec, char letter, va_list *args)
{
	switch (letter) {
	case 's':
		output_string(out, spec, va_arg(*args, const char *));
		return true;
	case 'c': {
		char c = (char)va_arg(*args, int);
		spec->zero = false;
		output_field(out, spec, "", &c, 1);
		return true;
	}
	case 'd': {
		int64_t value = next_signed(spec, args);
		/* Negated as unsigned: INT64_MIN has no positive twin. */
		uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
		output_number(out, spec, value < 0 ? "-" : "", size, 10);
		return true;
	}
	case 'u':
		output_number(out, spec, "", next_unsigned(spec, args), 10);
		return true;
	case 'x':
		output_number(out, spec, "", next_unsigned(spec, args), 16);
		return true;
	case 'p':
		output_number(out, spec, "0x", (uintptr_t)va_arg(*args, void *), 16);
		return true;
	case '%':
		output_char(out, '%');
		return true;
	default:
		return false;
	}
}

size_t fmt_into_v(char *buf, size_t size, const char *format, va_list args)
{
	if (size == 0)
		return 0;

	struct output out = { .buf = buf, .room = size - 1 };
	va_list rest;
	va_copy(rest, args);
	for (const char *p = format; *p != '\0'; p++) {
		struct spec spec;

		if (*p != '%') {
			output_char(&out, *p);
			continue;
		}
		const char *letter = spec_parse(&spec, p + 1);
		if (convert(&out, &spec, *letter, &rest))
			p = letter;
		else
			output_char(&out, '%');
	}
	va_end(rest);
	buf[out.length] = '\0';
	return out.length;
}

size_t fmt_into(char *buf, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	size_t length = fmt_into_v(buf, size, format, args);
	va_end(args);
	return length;
}
