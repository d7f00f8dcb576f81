/*
 * A patient in a file, to be examined elsewhere or later, or to be compared with
 * another.  Layer: cli/doctor.  The format is described in docs/snapshot.md.
 *
 * It holds where blocks are, what became of them and of what kind they are; what is in
 * them of those alone whose samples the patient keeps.  A file is
 * hostile until it is loaded: no size in it is believed before the file is seen to be
 * large enough for it, and a loaded model keeps its invariants (model_check).
 */
#ifndef CEDE_CLI_DOCTOR_SNAPSHOT_H
#define CEDE_CLI_DOCTOR_SNAPSHOT_H

#include "doctor/patient.h"

#define SNAPSHOT_WHY 200

/*
 * Writes all but the verdict to the open descriptor, and closes it.  Returns whether all
 * is written; else `why` tells what failed.
 */
bool snapshot_save(int descriptor, struct patient *patient, char why[SNAPSHOT_WHY]);

/* The same to a file of this name, for a command: COMMAND_OK, or COMMAND_FAILED after it said
 * why. */
int snapshot_store(struct patient *patient, const char *path);

/* Reads a process, with what it has lost if told to, and writes it.  Returns COMMAND_OK, or
 * COMMAND_FAILED after it said why. */
int snapshot_take(pid_t pid, const char *path, bool leaks);

/*
 * Fills a patient, all but the verdict.  Returns false after `why` tells what is wrong with
 * the file.  In either case the patient must be discharged.
 */
bool snapshot_load(const char *path, struct patient *patient, char why[SNAPSHOT_WHY]);

/* The same for a command: COMMAND_OK, or COMMAND_FAILED after it said why. */
int snapshot_read(const char *path, struct patient *patient);

#endif
