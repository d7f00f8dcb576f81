/*
 * Asks the purger of a live process on cede to give everything back.  Layer: inject.
 *
 * Nothing is called there: a word is written that the purger's thread looks at when it
 * wakes, and it says in the same word that it is done.
 */
#ifndef CEDE_INJECT_PURGER_H
#define CEDE_INJECT_PURGER_H

#include "inject/trim.h"
#include "readers/cede_target.h"

enum trim_outcome purger_ask(const struct cede_target *target, struct trim_report *report);

#endif
