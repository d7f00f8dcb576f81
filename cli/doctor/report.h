/*
 * The doctor's findings as one screen for people and as JSON for programs.
 * Layer: cli/doctor.  The schema is described in docs/doctor.md.
 */
#ifndef CEDE_CLI_DOCTOR_REPORT_H
#define CEDE_CLI_DOCTOR_REPORT_H

#include <cJSON.h>
#include <stdio.h>

#include "doctor/patient.h"

/* Each returns 0, or -1 when memory or `out` failed. */
int doctor_report_text(FILE *out, const struct patient *patient);
int doctor_report_json(FILE *out, const struct patient *patient);

/* A gate in a few words, which follow the bytes it holds. */
void doctor_gate_text(FILE *out, const struct patient *patient, const struct gate *gate);

/* Their parts on lost blocks; the sentence is that of a verdict. */
void doctor_leaks_sentence(FILE *out, const struct patient *patient);
void doctor_leaks_text(FILE *out, const struct patient *patient);
void doctor_leaks_json(cJSON *root, const struct patient *patient);

/* Their parts on what pins, by size and kind. */
void doctor_pins_text(FILE *out, const struct patient *patient);
void doctor_pins_json(cJSON *root, const struct patient *patient);

/* The end of what a core tells, and how far it is to be trusted. */
void doctor_core_text(FILE *out, const struct patient *patient);
void doctor_core_json(cJSON *root, const struct patient *patient);

#endif
