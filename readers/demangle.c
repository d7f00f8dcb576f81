#include "readers/demangle.h"

#include <setjmp.h>
#include <string.h>

#include <libiberty/demangle.h>

struct output {
	char *to;
	size_t room, used;
	jmp_buf full;
};

static void output_take(const char *piece, size_t length, void *opaque)
{
	struct output *output = opaque;
	size_t rest = output->room - 1 - output->used;
	size_t taken = length < rest ? length : rest;

	memcpy(output->to + output->used, piece, taken);
	output->used += taken;
	output->to[output->used] = '\0';
	/* Each of a name's parts may stand for two of an earlier one, so that a short one may
	 * go on for years.  The demangler has all that it works on in its frames. */
	if (taken < length)
		longjmp(output->full, 1);
}

bool demangle(const char *mangled, char *to, size_t room)
{
	struct output output = { .to = to, .room = room };
	bool is_symbol = !strncmp(mangled, "_Z", 2);

	if (strnlen(mangled, DEMANGLE_MOST + 1) > DEMANGLE_MOST)
		return false;
	*to = '\0';
	if (setjmp(output.full)) {
		memcpy(to + room - 4, "...", 4);
		return true;
	}
	return cplus_demangle_v3_callback(mangled, is_symbol ? DMGL_ANSI :
	                                  DMGL_ANSI | DMGL_PARAMS | DMGL_TYPES,
	                                  output_take, &output) && *to;
}
