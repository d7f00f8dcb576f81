#include "readers/stack.h"

#define DESCRIPTOR_WORDS 512       /* of a thread, from its pointer up */

/*
 * A thread's descriptor, which lies above the stack in the same memory, tells the whole's
 * begin and size; its fields move from version to version, but no other two words fit.
 */
uint64_t stack_begin(const struct memory *memory, const struct stop_thread *thread)
{
	uint64_t words[DESCRIPTOR_WORDS], tp = thread->thread_pointer;
	const struct memory_mapping *mapping = memory_mapping_at(memory, thread->stack_pointer);
	size_t count;

	if (mapping && mapping->kind == MEMORY_STACK)
		return mapping->begin;
	if (tp % 8 || tp <= thread->stack_pointer)
		return 0;
	count = memory_read_some(memory, tp, words, sizeof(words)) / sizeof(*words);
	for (size_t i = 0; i + 1 < count; i++) {
		uint64_t begin = words[i], size = words[i + 1];

		if (begin % MEMORY_PAGE == 0 && size % MEMORY_PAGE == 0 &&
		    begin <= thread->stack_pointer && size < MEMORY_END && begin + size > tp &&
		    begin + size - tp <= sizeof(words) + MEMORY_PAGE)
			return begin;
	}
	return 0;
}
