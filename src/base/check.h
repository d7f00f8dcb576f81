/*
 * Three strengths of checking.  Layer: base.
 *
 *   ASSERT(x)  our own bug, debug builds
 *   CHECK(x)   our own bug, always on: O(1), off the fast path
 *   AUDIT      a whole structure is walked after each operation (heap/audit.h)
 *
 * What a *user* does wrong is reported by heap/misuse.h, in every build.
 */
#ifndef CEDE_BASE_CHECK_H
#define CEDE_BASE_CHECK_H

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define NOINLINE    __attribute__((noinline))
#define COLD        __attribute__((cold, noinline))
#define MUST_USE    __attribute__((warn_unused_result))
/* On an extern of another file: it is in this library, no detour by the GOT. */
#define HIDDEN      __attribute__((visibility("hidden")))

/* One line on stderr, then abort.  Defined in os/system.c. */
_Noreturn COLD void check_failed(const char *file, int line, const char *expression);

#define CHECK(x) \
	do { \
		if (unlikely(!(x))) \
			check_failed(__FILE__, __LINE__, #x); \
	} while (0)

#ifdef CEDE_DEBUG
#define ASSERT(x) CHECK(x)
#else
#define ASSERT(x) ((void)sizeof(x))
#endif

#endif
