/*
 * What leads to the blocks that a report shows, in words.  Layer: cli/doctor.
 */
#ifndef CEDE_CLI_DOCTOR_LEADS_H
#define CEDE_CLI_DOCTOR_LEADS_H

#include "doctor/patient.h"

/* For the samples of the groups that pin most, and the block nearest to the top that keeps it
 * there.  Fills patient->leads, from what was read of an open patient.  Returns false when
 * memory ran out. */
bool leads_find(struct patient *patient, const struct words *words);

/* What leads to the block whose memory begins here, or NULL when it is not known. */
const char *leads_text(const struct patient *patient, uint64_t address);

#endif
