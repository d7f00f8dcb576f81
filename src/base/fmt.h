/*
 * Formatting into the caller's buffer: no stdio, no locale, no allocation, no
 * errno.  Layer: base (no system calls).
 *
 * Knows %s %c %d %u %x %p %% and the lengths z, l, ll; a width and left '-' or
 * zero fill ("%10zu", "%-8s", "%016lx").  Anything else is printed as it stands.
 */
#ifndef CEDE_BASE_FMT_H
#define CEDE_BASE_FMT_H

#include <stdarg.h>
#include <stddef.h>

/*
 * Writes at most size-1 bytes and a NUL; returns the bytes written, which is
 * less than the text's length when it was cut.  size may be 0: then 0.
 */
size_t fmt_into(char *buf, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
size_t fmt_into_v(char *buf, size_t size, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

#endif
