#include "base/settings.h"

#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "base/fmt.h"
#include "base/span.h"

/*
 * Everything here may run before libc is initialised: no errno, no stdio, no
 * allocation.  The stores are atomic because mallopt comes at any time, while
 * other threads read the fields relaxed.
 */

/* For a warning's line: NUL-terminated, cut when long. */
struct excerpt {
	char text[48];
};

static struct excerpt span_excerpt(struct span span)
{
	struct excerpt out = { "" };

	memcpy(out.text, span.start, size_min(span.length, sizeof(out.text) - 1));
	return out;
}

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return UINT_MAX;
}

/*
 * The form glibc's tunables have: blanks, a sign, then decimal, 0x hexadecimal
 * or 0 octal digits.  Too large is SIZE_MAX, and "-1" wraps to it.  Returns
 * false when anything else stands in the text (as glibc does since 2.39; older
 * ones stop reading there and take what they have).
 */
static bool parse_number(struct span text, size_t *value)
{
	const char *p = text.start, *end = text.start + text.length;
	unsigned base = 10;
	bool negative = false, too_large = false;
	size_t sum = 0;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (p < end && (*p == '-' || *p == '+'))
		negative = *p++ == '-';
	if (end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	} else if (p < end && *p == '0') {
		base = 8;
	}
	if (p == end)
		return false;
	for (; p < end; p++) {
		unsigned digit = digit_value(*p);

		if (digit >= base)
			return false;
		too_large |= __builtin_mul_overflow(sum, base, &sum);
		too_large |= __builtin_add_overflow(sum, digit, &sum);
	}
	*value = too_large ? SIZE_MAX : negative ? -sum : sum;
	return true;
}

static void store(size_t *field, size_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

/* For the four settings after which glibc's dynamic rule rests. */
static void store_static(struct settings *s, size_t *field, size_t value)
{
	store(field, value);
	__atomic_store_n(&s->dynamic_threshold, false, __ATOMIC_RELAXED);
}

/* The chunk that a request of this size gets, as glibc's set_max_fast reckons. */
static size_t fast_chunk_bound(size_t request)
{
	return align_down(request + sizeof(size_t), 2 * sizeof(size_t));
}

/* One of mallopt's parameters, its value wrapped to size_t.  Returns mallopt's result. */
static int settings_apply(struct settings *s, int param, size_t value)
{
	switch (param) {
	case M_MXFAST:
		if (value > MAX_MXFAST)
			return 0;
		store(&s->mxfast, fast_chunk_bound(value));
		break;
	case M_TRIM_THRESHOLD:
		store_static(s, &s->trim_threshold, value);
		__atomic_store_n(&s->trim_threshold_set, true, __ATOMIC_RELAXED);
		break;
	case M_TOP_PAD:
		store_static(s, &s->top_pad, value);
		break;
	case M_MMAP_THRESHOLD:
		store_static(s, &s->mmap_threshold, value);
		break;
	case M_MMAP_MAX:
		/* glibc keeps an int, and no count is below a negative one. */
		store_static(s, &s->mmap_max, value > INT_MAX ? 0 : value);
		break;
	case M_PERTURB:
		__atomic_store_n(&s->perturb, (unsigned)value, __ATOMIC_RELAXED);
		break;
	case M_ARENA_TEST:
		store(&s->arena_test, value);
		break;
	case M_ARENA_MAX:
		store(&s->arena_max, value);
		break;
	default:
		break;
	}
	return 1;
}

/*
 * glibc's tunables that change something here, with the ranges that ld.so
 * --list-tunables shows for 2.36.  check, hugetlb and tcache_* have no effect
 * here, and a tunable we do not know may belong to another part of libc: both
 * pass in silence.
 */
static const struct tunable {
	const char *name;        /* after "glibc.malloc." */
	const char *variable;
	int param;               /* mallopt's */
	size_t min, max;
} tunables[] = {
	{ "top_pad", "MALLOC_TOP_PAD_", M_TOP_PAD, 0, SIZE_MAX },
	{ "perturb", "MALLOC_PERTURB_", M_PERTURB, 0, 255 },
	{ "mmap_threshold", "MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD, 0, SIZE_MAX },
	{ "trim_threshold", "MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, 0, SIZE_MAX },
	{ "mmap_max", "MALLOC_MMAP_MAX_", M_MMAP_MAX, 0, INT_MAX },
	{ "arena_max", "MALLOC_ARENA_MAX", M_ARENA_MAX, 1, SIZE_MAX },
	{ "arena_test", "MALLOC_ARENA_TEST", M_ARENA_TEST, 1, SIZE_MAX },
	{ "mxfast", NULL, M_MXFAST, 0, SIZE_MAX },
};

#define TUNABLES (sizeof(tunables) / sizeof(tunables[0]))

/* Returns whether the value was in the tunable's range. */
static bool tunable_set(struct settings *s, const struct tunable *tunable, struct span text)
{
	size_t value;

	if (!parse_number(text, &value) || value < tunable->min || value > tunable->max)
		return false;
	settings_apply(s, tunable->param, value);
	return true;
}

/* GLIBC_TUNABLES.  Returns a bit for each tunable that was set, by its index. */
static unsigned tunables_read(struct settings *s, const char *text)
{
	static const char prefix[] = "glibc.malloc.";
	struct span rest = span_of(text);
	unsigned done = 0;

	while (rest.start != NULL) {
		struct span value = span_cut(&rest, ':');
		struct span name = span_cut(&value, '=');

		if (value.start == NULL || name.length < sizeof(prefix) - 1
		    || memcmp(name.start, prefix, sizeof(prefix) - 1) != 0)
			continue;
		name.start += sizeof(prefix) - 1;
		name.length -= sizeof(prefix) - 1;
		for (size_t i = 0; i < TUNABLES; i++) {
			if (span_is(name, tunables[i].name)
			    && tunable_set(s, &tunables[i], value))
				done |= 1U << i;
		}
	}
	return done;
}

const char *settings_variable(char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment != NULL; environment++) {
		if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
			return *environment + length + 1;
	}
	return NULL;
}

void settings_init(struct settings *s)
{
	*s = (struct settings){
		.policy = POLICY_DEFAULT,
		.background = true,
		.huge = true,
		.dynamic_threshold = true,
		.retain_max = SIZE_MAX,
		.trim_threshold = DEFAULT_TRIM_THRESHOLD,
		.top_pad = DEFAULT_TOP_PAD,
		.mmap_threshold = DEFAULT_MMAP_THRESHOLD,
		.mmap_max = DEFAULT_MMAP_MAX,
		.mxfast = DEFAULT_MXFAST,
	};
}

/* Returns false when the option has no such value. */
static bool option_set_policy(struct settings *s, struct span value)
{
	if (span_is(value, "default"))
		s->policy = POLICY_DEFAULT;
	else if (span_is(value, "classic"))
		s->policy = POLICY_CLASSIC;
	else
		return false;
	return true;
}

static bool option_set_background(struct settings *s, struct span value)
{
	if (span_is(value, "on"))
		s->background = true;
	else if (span_is(value, "off"))
		s->background = false;
	else
		return false;
	return true;
}

static bool option_set_huge(struct settings *s, struct span value)
{
	s->huge = span_is(value, "on");
	return s->huge || span_is(value, "off");
}

/* "64M": 1024-fold with K, twice so with M, thrice with G. */
static bool option_set_retain_max(struct settings *s, struct span value)
{
	static const char units[] = "KMG";
	const char *unit = value.length == 0 ? NULL : strchr(units, value.start[value.length - 1]);
	unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
	size_t bytes;

	value.length -= unit != NULL;
	if (!span_number(value, &bytes) || bytes > SIZE_MAX >> shift)
		return false;
	s->retain_max = bytes << shift;
	return true;
}

static const struct option {
	const char *name, *values;
	bool (*set)(struct settings *s, struct span value);
} options[] = {
	{ "policy", "default or classic", option_set_policy },
	{ "background", "on or off", option_set_background },
	{ "huge", "on or off", option_set_huge },
	{ "retain_max", "a number of bytes, or of K, M or G", option_set_retain_max },
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

static void option_read(struct settings *s, struct span text, settings_warn_fn *warn)
{
	char line[160];
	struct span value = text;
	struct span name = span_cut(&value, '=');

	for (size_t i = 0; i < OPTIONS; i++) {
		if (!span_is(name, options[i].name))
			continue;
		if (value.start != NULL && options[i].set(s, value))
			return;
		fmt_into(line, sizeof(line), "option '%s' ignored: %s is %s",
		         span_excerpt(text).text, options[i].name, options[i].values);
		warn(line);
		return;
	}
	fmt_into(line, sizeof(line), "unknown option '%s' ignored", span_excerpt(text).text);
	warn(line);
}

void settings_read_options(struct settings *s, const char *text, settings_warn_fn *warn)
{
	struct span rest = span_of(text);

	while (rest.start != NULL) {
		struct span option = span_cut(&rest, ',');

		if (option.length != 0)
			option_read(s, option, warn);
	}
}

void settings_read_environment(struct settings *s, char *const *environment,
                               settings_warn_fn *warn)
{
	const char *text = settings_variable(environment, "CEDE_OPTIONS");
	unsigned done = 0;

	if (text != NULL)
		settings_read_options(s, text, warn);
	text = settings_variable(environment, "GLIBC_TUNABLES");
	if (text != NULL)
		done = tunables_read(s, text);
	for (size_t i = 0; i < TUNABLES; i++) {
		if (tunables[i].variable == NULL || (done & (1U << i)) != 0)
			continue;
		text = settings_variable(environment, tunables[i].variable);
		if (text != NULL)
			tunable_set(s, &tunables[i], span_of(text));
	}
}

int settings_mallopt(struct settings *s, int param, int value)
{
	if ((param == M_ARENA_TEST || param == M_ARENA_MAX) && value <= 0)
		return 1;
	return settings_apply(s, param, (size_t)value);
}
