#include "heap/owner.h"

#include "heap/misuse.h"
#include "os/os.h"

static _Noreturn COLD void reject(const struct chunk *c, const char *function)
{
	const void *block = chunk_to_block(c);

	if (c->size == ABSORBED)
		misuse(function, block, "double free");
	if (chunk_size(c) < MIN_CHUNK || (c->size & ABSORBED) != 0)
		misuse(function, block, "invalid pointer, or corrupted size");
	misuse(function, block, "invalid pointer: not from this heap");
}

struct arena *owner_elsewhere(const struct chunk *c, const char *function)
{
	bool in_main = owner_in_main(c), in_heap = subheap_known(c);
	size_t size;

	/* A mapped block's header is gone once it is freed. */
	if (!in_main && !in_heap &&
	    !os_is_mapped((void *)align_down((uintptr_t)c, os_page_size)))
		misuse(function, chunk_to_block(c), "double free, or invalid pointer: no memory there");
	size = chunk_peek(c);
	if (size & IS_MMAPPED)
		return NULL;
	if ((size & ABSORBED) != 0 || size < MIN_CHUNK)
		reject(c, function);
	if (size & NON_MAIN_ARENA ? !in_heap : !in_main)
		reject(c, function);
	return size & NON_MAIN_ARENA ? subheap_of(c)->arena : &main_arena;
}
