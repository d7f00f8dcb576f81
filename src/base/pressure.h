/*
 * Shortage of memory: the texts in which the kernel and a service manager speak of it.
 * Layer: base.  Pure: a text in, values out, and nothing in a text is trusted;
 * os/pressure.c reads the files.
 *
 * Source: the kernel's documents on PSI and cgroup-v2, and systemd's on pressure.
 */
#ifndef CEDE_BASE_PRESSURE_H
#define CEDE_BASE_PRESSURE_H

#include "base/span.h"

/* Base64, padded, to at most `size` bytes; returns how many, SIZE_MAX: it is not. */
size_t pressure_decode(struct span text, unsigned char *out, size_t size);

/* memory.pressure: microseconds in which some task waited for memory; 0: not said. */
size_t pressure_stall_us(struct span text);

/* memory.events: how often the group was above memory.high; 0: not said. */
size_t pressure_times_high(struct span text);

/*
 * Memory is short when tasks waited for it for a tenth of the last second: what a
 * service manager asks the kernel to tell of, unless it was set.
 */
#define PRESSURE_STALL_US     100000
#define PRESSURE_WINDOW_LOOKS 20 /* one a tick */

struct pressure_window {
	size_t start_us; /* stall at the window's start */
	unsigned looks;
};

/* A look at the stall so far: whether memory is short.  Then a new window begins. */
bool pressure_window_look(struct pressure_window *w, size_t stall_us);

#endif
