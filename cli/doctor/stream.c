#include "doctor/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor/snapshot.h"

#define INFLATION_MOST 1032          /* no byte of zlib's format says more */
#define BUFFER_BYTES (128u << 10)

void stream_fail(struct stream *stream, const char *format, ...)
{
	va_list args;

	if (stream->failed)
		return;
	stream->failed = true;
	va_start(args, format);
	vsnprintf(stream->why, SNAPSHOT_WHY, format, args);
	va_end(args);
}

static void stream_fail_to_move(struct stream *stream)
{
	int error;
	const char *text = gzerror(stream->file, &error), *colon = strstr(text, ": ");

	if (error == Z_ERRNO)
		stream_fail(stream, "%s", strerror(errno));
	else if (error == Z_MEM_ERROR)
		stream_fail(stream, "there is not enough memory for it");
	else if (error == Z_OK || error == Z_BUF_ERROR)
		stream_fail(stream, "it ends too early: it was cut off, or not written to the end");
	else
		/* zlib begins with the descriptor's number. */
		stream_fail(stream, "it is damaged (%s)", colon ? colon + 2 : text);
}

/* --- values --- */

void stream_bytes(struct stream *stream, void *bytes, size_t count)
{
	for (size_t piece; count && !stream->failed; count -= piece) {
		int moved;

		piece = count < 1u << 30 ? count : 1u << 30;
		moved = stream->saves ? gzwrite(stream->file, bytes, (unsigned)piece) :
		        gzread(stream->file, bytes, (unsigned)piece);
		if (moved < 0 || (size_t)moved != piece)
			stream_fail_to_move(stream);
		bytes = (char *)bytes + piece;
	}
}

/* Seven bits to a byte, the lowest first; the eighth says that more follow. */
void stream_save_number(struct stream *stream, uint64_t number)
{
	int written;

	do {
		written = gzputc(stream->file, (int)((number & 127) | (number > 127 ? 128 : 0)));
		number >>= 7;
	} while (number && written >= 0);
	if (written < 0)
		stream_fail_to_move(stream);
}

uint64_t stream_load_number(struct stream *stream, uint64_t most)
{
	uint64_t number = 0;
	int byte = 128;

	for (unsigned shift = 0; byte & 128; shift += 7) {
		byte = gzgetc(stream->file);
		if (byte < 0) {
			stream_fail_to_move(stream);
			return 0;
		}
		if (shift > 63 || (shift == 63 && byte > 1)) {
			stream_fail(stream, "it is damaged (a number without an end)");
			return 0;
		}
		number |= (uint64_t)(byte & 127) << shift;
	}
	if (number > most)
		stream_fail(stream, "it is damaged (%lu, where at most %lu can be)", number, most);
	return stream->failed ? 0 : number;
}

void stream_value(struct stream *stream, void *value, size_t size, uint64_t most)
{
	uint64_t number = 0;

	if (stream->failed)
		return;
	memcpy(&number, value, size);
	if (stream->saves)
		stream_save_number(stream, number);
	else
		number = stream_load_number(stream, most);
	memcpy(value, &number, size);
}

void stream_room(struct stream *stream, uint64_t count, uint64_t item_bytes)
{
	if (stream->saves || stream->failed)
		return;
	if (count > stream->items_most)
		stream_fail(stream, "it is damaged (it says more than fits into its size)");
	else if (count > stream->memory_left / item_bytes)
		stream_fail(stream, "it takes more memory than this machine has");
	else
		stream->memory_left -= count * item_bytes;
}

void stream_text(struct stream *stream, char *text, size_t size)
{
	size_t length = strnlen(text, size - 1);

	PASS_TO(stream, length, size - 1);
	if (stream->failed)
		return;
	stream_bytes(stream, text, length);
	text[length] = '\0';
	patient_text_clean(text);
}

/* --- the file --- */

static bool stream_open(struct stream *stream, int descriptor, const char *mode)
{
	stream->file = gzdopen(descriptor, mode);
	if (stream->file) {
		gzbuffer(stream->file, BUFFER_BYTES);
		return true;
	}
	close(descriptor);
	stream_fail(stream, "there is not enough memory for it");
	return false;
}

bool stream_save(struct stream *stream, int descriptor)
{
	stream->saves = true;
	return stream_open(stream, descriptor, "wb1");
}

bool stream_load(struct stream *stream, const char *path)
{
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat about;

	if (descriptor < 0 || fstat(descriptor, &about) != 0) {
		stream_fail(stream, "%s", strerror(errno));
		if (descriptor >= 0)
			close(descriptor);
		return false;
	}
	if (!S_ISREG(about.st_mode)) {
		close(descriptor);
		stream_fail(stream, "it is no regular file");
		return false;
	}
	stream->items_most = (uint64_t)about.st_size * INFLATION_MOST;
	stream->memory_left = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	return stream_open(stream, descriptor, "rb");
}

void stream_end(struct stream *stream)
{
	int error;

	/* What zlib has summed up is compared at the end, so it must be met. */
	if (gzgetc(stream->file) >= 0)
		stream_fail(stream, "it is damaged (it goes on beyond its end)");
	gzerror(stream->file, &error);
	if (error != Z_OK)
		stream_fail_to_move(stream);
}

bool stream_close(struct stream *stream)
{
	if (gzclose(stream->file) != Z_OK && stream->saves)
		stream_fail(stream, "%s", strerror(errno));
	return !stream->failed;
}
