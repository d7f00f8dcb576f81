/*
 * A block that stands for others like it: where it is and what it holds.
 * Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_SAMPLE_H
#define CEDE_CLI_DOCTOR_SAMPLE_H

#include "doctor/patient.h"
#include "doctor/words.h"

/* The first bytes of a block's memory, in quotes or in hexadecimal, behind a blank, and of one
 * with pointers to what; nothing when they cannot be known. */
void sample_print(FILE *out, const struct patient *patient, uint64_t begin, uint64_t end);

/* Adds an object with its "address" and the first "bytes" to a list. */
void sample_add(cJSON *list, const struct patient *patient, uint64_t begin, uint64_t end);

/* Keeps with the patient what two blocks of each size and kind hold, and the samples of what
 * is lost.  Returns false when memory ran out. */
bool sample_keep(struct patient *patient);

#endif
