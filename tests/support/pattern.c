#include "support/pattern.h"

#include <string.h>

static uint64_t word_at(uint64_t seed, size_t index)
{
	return (seed + index) * 0x9e3779b97f4a7c15;
}

void pattern_fill(void *block, size_t size, uint64_t seed)
{
	uint64_t *words = block;
	size_t count = size / sizeof(uint64_t);
	uint64_t last = word_at(seed, count);

	for (size_t i = 0; i < count; i++)
		words[i] = word_at(seed, i);
	memcpy(words + count, &last, size % sizeof(uint64_t));
}

size_t pattern_match(const void *block, size_t size, uint64_t seed)
{
	const uint64_t *words = block;
	size_t count = size / sizeof(uint64_t), tail = size % sizeof(uint64_t);
	uint64_t last = word_at(seed, count), wrong = 0;

	/* One test after the loop, so that the compiler can vectorize it. */
	for (size_t i = 0; i < count; i++)
		wrong |= words[i] ^ word_at(seed, i);
	if (wrong == 0 && memcmp(words + count, &last, tail) == 0)
		return size;
	for (size_t i = 0; i < count; i++) {
		if (words[i] != word_at(seed, i))
			return i * sizeof(uint64_t);
	}
	return count * sizeof(uint64_t);
}
