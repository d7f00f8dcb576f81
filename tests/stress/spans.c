#include "stress/spans.h"

#include <pthread.h>
#include <string.h>

#include "support/check.h"

struct span {
	uintptr_t start, end;
};

/* In order of address, so that only neighbours can overlap. */
static struct span spans[SPANS_MAX];
static size_t spans_count;
static pthread_mutex_t spans_lock = PTHREAD_MUTEX_INITIALIZER;

/* Index of the first span that starts at or after `start`. */
static size_t spans_find(uintptr_t start)
{
	size_t low = 0, high = spans_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (spans[middle].start < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void spans_add(uintptr_t start, size_t size)
{
	/* A block of no bytes has an address of its own all the same. */
	struct span span = { start, start + (size > 0 ? size : 1) };

	pthread_mutex_lock(&spans_lock);
	size_t at = spans_find(start);

	CHECK(spans_count < SPANS_MAX);
	CHECK_THAT(at == 0 || spans[at - 1].end <= span.start, "%#lx..%#lx overlaps %#lx..%#lx",
	           span.start, span.end, spans[at - 1].start, spans[at - 1].end);
	CHECK_THAT(at == spans_count || spans[at].start >= span.end,
	           "%#lx..%#lx overlaps %#lx..%#lx", span.start, span.end, spans[at].start,
	           spans[at].end);
	memmove(spans + at + 1, spans + at, (spans_count - at) * sizeof(struct span));
	spans[at] = span;
	spans_count++;
	pthread_mutex_unlock(&spans_lock);
}

void spans_remove(uintptr_t start, size_t size)
{
	pthread_mutex_lock(&spans_lock);
	size_t at = spans_find(start);

	CHECK(at < spans_count && spans[at].start == start);
	CHECK(spans[at].end == start + (size > 0 ? size : 1));
	spans_count--;
	memmove(spans + at, spans + at + 1, (spans_count - at) * sizeof(struct span));
	pthread_mutex_unlock(&spans_lock);
}
