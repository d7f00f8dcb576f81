#include "doctor/filed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "doctor/snapshot.h"

struct filed filed_make(const void *bytes, size_t size)
{
	struct filed file = { .descriptor = memfd_create("snapshot", MFD_CLOEXEC) };

	assert_true(file.descriptor >= 0);
	assert_int_equal(write(file.descriptor, bytes, size), size);
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.descriptor);
	return file;
}

void filed_refused(const char *path, const char *reason)
{
	char why[SNAPSHOT_WHY] = "";
	struct patient patient;

	assert_false(snapshot_load(path, &patient, why));
	if (!strstr(why, reason))
		fail_msg("'%s' does not tell '%s'", why, reason);
	patient_discharge(&patient);
}
