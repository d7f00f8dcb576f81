/*
 * A compressed file of numbers and texts, in both directions: what is written is what is
 * read, so that one description of a format does for either.  Layer: cli/doctor.
 *
 * A file that is read is hostile.  The first failure stays, and nothing is passed after it.
 */
#ifndef CEDE_CLI_DOCTOR_STREAM_H
#define CEDE_CLI_DOCTOR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zlib.h>

struct stream {
	gzFile file;
	bool saves, failed;
	uint64_t items_most;         /* that the file can hold, a byte for each */
	uint64_t memory_left;        /* of this machine's, for what else is loaded */
	char *why;                   /* of the first failure; SNAPSHOT_WHY bytes, the caller's */
};

/* Both fill an empty stream but for `why`, and return whether it is to be closed. */
bool stream_save(struct stream *stream, int descriptor);
bool stream_load(struct stream *stream, const char *path);

/* At the end of what is loaded: fails unless it is the file's, undamaged. */
void stream_end(struct stream *stream);

/* Returns whether all went well. */
bool stream_close(struct stream *stream);

__attribute__((format(printf, 2, 3)))
void stream_fail(struct stream *stream, const char *format, ...);

void stream_bytes(struct stream *stream, void *bytes, size_t count);
void stream_save_number(struct stream *stream, uint64_t number);
uint64_t stream_load_number(struct stream *stream, uint64_t most);

/* `size` bytes that are a number, which is at most `most`. */
void stream_value(struct stream *stream, void *value, size_t size, uint64_t most);

/* A text in `size` bytes; what could steer a terminal is left out of what is loaded. */
void stream_text(struct stream *stream, char *text, size_t size);

/* Before so many items get memory: fails unless the file and the machine have room. */
void stream_room(struct stream *stream, uint64_t count, uint64_t item_bytes);

#define MOST(field) (UINT64_MAX >> (64 - 8 * sizeof(field)))
#define PASS(stream, field) stream_value(stream, &(field), sizeof(field), MOST(field))
#define PASS_TO(stream, field, most) stream_value(stream, &(field), sizeof(field), most)

#endif
