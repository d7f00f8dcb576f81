#include "readers/cede_target.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "readers/access.h"
#include "readers/allocator.h"

#define SEARCH_BYTES ((size_t)1 << 20) /* at a time */
#define SEARCH_MOST  ((size_t)256 << 20) /* of all mappings */

bool cede_target_refuse(struct cede_refusal *refusal, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(refusal->text, sizeof(refusal->text), format, args);
	va_end(args);
	return false;
}

/* ---- is it one? ---- */

static bool has_field(uint32_t offset, size_t size, size_t of)
{
	return offset <= of && size <= of - offset;
}

static bool arena_is_sound(const struct cede_descriptor *d)
{
	const uint32_t words[] = {
		d->arena_top, d->arena_system_bytes, d->arena_dirty_bytes, d->arena_claimed_bytes,
		d->arena_top_claimed, d->arena_next, d->arena_lock_waits, d->arena_lock_sleeps,
		d->arena_slab_live, d->arena_slab_units, d->arena_slab_pages, d->arena_binned,
		d->arena_gone, d->arena_segments, d->arena_slab_peak, d->arena_peak, d->arena_refaulted,
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!has_field(words[i], 8, d->arena_size))
			return false;
	return d->arena_size <= CEDE_TARGET_ARENA && has_field(d->arena_top_dirty, 16, d->arena_size);
}

static bool slabs_are_sound(const struct cede_descriptor *d)
{
	size_t record = d->record_size;

	return d->unit_size >= MEMORY_PAGE && d->unit_size <= 16 * MEMORY_PAGE &&
	       d->unit_size % MEMORY_PAGE == 0 && record <= CEDE_TARGET_RECORD &&
	       has_field(d->record_bits, 8, record) && has_field(d->record_block_size, 4, record) &&
	       has_field(d->record_blocks, 2, record) && has_field(d->record_units, 1, record) &&
	       has_field(d->record_free, 2, record) && has_field(d->record_claimed, 2, record) &&
	       d->segment_units != 0 && d->segment_units <= CEDE_TARGET_UNITS &&
	       d->segment_size <= CEDE_TARGET_RECORD &&
	       has_field(d->segment_touched, 2ul * d->segment_units, d->segment_size);
}

/* What the heap's reader needs beside. */
static bool rest_is_sound(const struct cede_descriptor *d)
{
	size_t head = CEDE_TARGET_RECORD_HEAD;

	return has_field(d->arena_lock, 4, d->arena_size) &&
	       has_field(d->arena_fastbins, 80, d->arena_size) &&
	       has_field(d->arena_bins, 2032, d->arena_size) &&
	       has_field(d->arena_contiguous, 1, d->arena_size) &&
	       has_field(d->arena_lowest, 8, d->arena_size) &&
	       d->heap_header >= 24 && d->heap_header <= CEDE_TARGET_RECORD &&
	       d->heap_header % 16 == 0 &&
	       has_field(d->record_arena, 8, d->record_size) &&
	       has_field(d->segment_arena, 8, d->segment_size) && has_field(d->thread_id, 4, head) &&
	       has_field(d->thread_caching, 1, head) && has_field(d->thread_lock, 4, head) &&
	       has_field(d->thread_slots, 8, head) && has_field(d->thread_next, 8, head) && d->claim_size <= CEDE_TARGET_CLAIM &&
	       has_field(d->claim_arena, 8, d->claim_size) &&
	       has_field(d->claim_count, 4, d->claim_size) &&
	       has_field(d->claim_ranges, 0, d->claim_size);
}

static bool is_sound(const struct memory *memory, const struct cede_descriptor *d)
{
	uint64_t page_size;

	return arena_is_sound(d) && slabs_are_sound(d) && rest_is_sound(d) && d->classes != 0 &&
	       d->classes <= CEDE_TARGET_CLASSES &&
	       memory_read(memory, d->page_size, &page_size, sizeof(page_size)) &&
	       page_size == MEMORY_PAGE;
}

/* ---- where is it? ---- */

struct search {
	const struct memory *memory;
	struct cede_descriptor *descriptor;
	char *bytes;
	size_t left;             /* to be read at most */
	int error;               /* errno when nothing could be read at all */
	bool any_read, garbled;
	uint32_t other_version;  /* when there was one */
	bool older;              /* the same version, with less than is read here */
	bool found;
	uint64_t top, system;    /* its main arena's */
};

static void judge(struct search *search, const struct cede_descriptor *d, size_t has)
{
	uint64_t top, system;

	if (d->version != CEDE_DESCRIPTOR_VERSION) {
		search->other_version = d->version;
		return;
	}
	search->older |= d->size < sizeof(*d);
	if (d->size < sizeof(*d))
		return;
	if (has < sizeof(*d) || !is_sound(search->memory, d) ||
	    !memory_read(search->memory, d->main_arena + d->arena_top, &top, sizeof(top)) ||
	    !memory_read(search->memory, d->main_arena + d->arena_system_bytes, &system,
	                 sizeof(system))) {
		search->garbled = true;
		return;
	}
	if (search->found && (top == 0 || system <= search->system))
		return;
	search->found = true;
	search->top = top;
	search->system = system;
	*search->descriptor = *d;
}

/* Each place in a mapping where the text is, at a multiple of 8. */
static void mapping_search(struct search *search, const struct memory_mapping *mapping)
{
	static const char magic[16] = CEDE_DESCRIPTOR_MAGIC;
	const struct memory *memory = search->memory;
	uint64_t at = mapping->begin;

	while (at < mapping->end && search->left != 0) {
		size_t want = mapping->end - at < SEARCH_BYTES ? mapping->end - at : SEARCH_BYTES;
		size_t got = memory_read_some(memory, at, search->bytes, want);

		if (got == 0) {
			search->error = errno;
			return;
		}
		search->any_read = true;
		search->left -= got < search->left ? got : search->left;
		for (size_t i = 0; i + sizeof(magic) <= got; i += 8) {
			struct cede_descriptor d = { 0 };

			if (!memcmp(search->bytes + i, magic, sizeof(magic)))
				judge(search, &d, memory_read_some(memory, at + i, &d, sizeof(d)));
		}
		/* A text may begin in this part and end in the next. */
		at += got < want || want < SEARCH_BYTES ? got : got - sizeof(magic);
	}
}

/*
 * The descriptor has pointers: where they had to be relocated it lies before the data of
 * its file, and is not writable any more; else it may be among them.
 */
static bool may_have_it(const struct memory *memory, size_t i)
{
	const struct memory_mapping *m = &memory->mappings[i], *next = m + 1;

	if (m->kind != MEMORY_FILE || m->shared || !m->readable || m->executable)
		return false;
	return m->writable || (i + 1 < memory->mapping_count && next->begin == m->end &&
	                       next->writable && next->inode == m->inode);
}

static void search_all(struct search *search)
{
	const struct memory *memory = search->memory;

	for (size_t i = 0; i < memory->mapping_count; i++)
		if (may_have_it(memory, i))
			mapping_search(search, &memory->mappings[i]);
}

/* ---- what to say when it is not there ---- */

static bool refuse_another(const struct memory *memory, struct cede_refusal *refusal)
{
	struct allocator allocator;
	pid_t pid = memory->pid;

	allocator_find(memory, &allocator);
	if (allocator.name && strcmp(allocator.name, "cede"))
		return cede_target_refuse(refusal, "process %d does not run on cede, but on %s (%s)", pid,
		                          allocator.name, allocator.file);
	for (size_t i = 0; i < memory->mapping_count; i++)
		if (!strncmp(memory_mapping_name(&memory->mappings[i]), "libc.so.6", 9))
			return cede_target_refuse(refusal, "process %d does not run on cede, but on glibc's "
			                          "malloc: start it with `cede run`", pid);
	return cede_target_refuse(refusal, "process %d does not run on cede: nothing in it tells what "
	                          "it runs on", pid);
}

static bool search_judge(const struct search *search, struct cede_refusal *refusal)
{
	pid_t pid = search->memory->pid;

	if (search->found && search->top != 0)
		return true;
	if (search->found)
		return cede_target_refuse(refusal, "process %d has not used its heap yet: try again", pid);
	if (search->other_version != 0 || search->older)
		return cede_target_refuse(refusal, "process %d runs on another version of cede than this "
		                          "command reads (descriptor %u%s, not %d): use the cede that "
		                          "came with its library", pid,
		                          search->older ? CEDE_DESCRIPTOR_VERSION : search->other_version,
		                          search->older ? " of less size" : "",
		                          CEDE_DESCRIPTOR_VERSION);
	if (search->garbled)
		return cede_target_refuse(refusal, "process %d has a descriptor of cede that makes no "
		                          "sense: its memory was overwritten, or it is no cede", pid);
	if (!search->any_read && search->error != 0) {
		access_explain(pid, search->error, refusal->text, sizeof(refusal->text));
		return false;
	}
	return refuse_another(search->memory, refusal);
}

bool cede_target_find(const struct memory *memory, struct cede_descriptor *descriptor,
                      struct cede_refusal *refusal)
{
	struct search search = { .memory = memory, .descriptor = descriptor, .left = SEARCH_MOST };
	bool found;

	if (allocator_word_bits(memory) == 32)
		return cede_target_refuse(refusal, "process %d is a 32-bit program, which cede does not "
		                          "serve", memory->pid);
	search.bytes = malloc(SEARCH_BYTES);
	if (!search.bytes)
		return cede_target_refuse(refusal, "out of memory");
	search_all(&search);
	found = search_judge(&search, refusal);
	free(search.bytes);
	return found;
}

bool cede_target_open(struct cede_target *target, pid_t pid, struct cede_refusal *refusal)
{
	int error = memory_open(&target->memory, pid);

	if (!error && target->memory.mapping_count == 0)
		error = ESRCH;
	if (error) {
		access_explain(pid, error, refusal->text, sizeof(refusal->text));
		return false;
	}
	if (cede_target_find(&target->memory, &target->descriptor, refusal))
		return true;
	memory_close(&target->memory);
	return false;
}

void cede_target_close(struct cede_target *target)
{
	memory_close(&target->memory);
}
