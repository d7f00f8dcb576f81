/*
 * A folder for one test, in which files of the kernel are made up: it is /proc/self and
 * the mount points at once.  Layer: tests; for cmocka.
 */
#ifndef TESTS_SUPPORT_FOLDER_H
#define TESTS_SUPPORT_FOLDER_H

/* Its path; "" outside of a test. */
extern char folder[64];

/* The path of a name within it; four such texts are valid at once. */
const char *folder_at(const char *name);

/* Makes a file of a text, which ends its lines itself; a folder where it is NULL. */
void folder_put(const char *name, const char *text);

int folder_setup(void **state);
int folder_teardown(void **state);

/* The entry of cmocka's table for a test in a new folder. */
#define in_a_folder(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)

#endif
