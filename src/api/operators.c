/*
 * The C++ operators new and delete, all twenty, under their mangled names.
 * Layer: api.  Compiled with -fexceptions, because a new_handler and bad_alloc
 * unwind through it.
 *
 * A C process must load this without libstdc++, so the C++ runtime is looked for
 * only when memory ran out: by weak reference when the program is linked with
 * it, else by name, because a plug-in may have brought it later.  Catching is
 * beyond C: nothrow new hands a failure to the runtime's own operator, which
 * calls ours that throws and catches what comes.
 *
 * Limits: a static program ends with a message where bad_alloc would be thrown
 * if nothing else in it links that part of the runtime (containers and strings
 * do; -Wl,-u,_ZSt17__throw_bad_allocv does), and its nothrow new runs no
 * new_handler.
 */
#include <dlfcn.h>
#include <stddef.h>

#include "api/fast.h"
#include "base/check.h"
#include "cede/cede.h"
#include "os/os.h"

#define MANGLED(symbol) __asm__(symbol) __attribute__((visibility("default")))

/* std::nothrow_t: only ever passed on. */
struct cxx_nothrow;

void *cxx_new(size_t size) MANGLED("_Znwm");
void *cxx_new_array(size_t size) MANGLED("_Znam");
void *cxx_new_nothrow(size_t size, const struct cxx_nothrow *tag)
	MANGLED("_ZnwmRKSt9nothrow_t");
void *cxx_new_array_nothrow(size_t size, const struct cxx_nothrow *tag)
	MANGLED("_ZnamRKSt9nothrow_t");
void *cxx_new_aligned(size_t size, size_t alignment) MANGLED("_ZnwmSt11align_val_t");
void *cxx_new_array_aligned(size_t size, size_t alignment) MANGLED("_ZnamSt11align_val_t");
void *cxx_new_aligned_nothrow(size_t size, size_t alignment, const struct cxx_nothrow *tag)
	MANGLED("_ZnwmSt11align_val_tRKSt9nothrow_t");
void *cxx_new_array_aligned_nothrow(size_t size, size_t alignment,
                                    const struct cxx_nothrow *tag)
	MANGLED("_ZnamSt11align_val_tRKSt9nothrow_t");

void cxx_delete(void *block) MANGLED("_ZdlPv");
void cxx_delete_array(void *block) MANGLED("_ZdaPv");
void cxx_delete_sized(void *block, size_t size) MANGLED("_ZdlPvm");
void cxx_delete_array_sized(void *block, size_t size) MANGLED("_ZdaPvm");
void cxx_delete_nothrow(void *block, const struct cxx_nothrow *tag)
	MANGLED("_ZdlPvRKSt9nothrow_t");
void cxx_delete_array_nothrow(void *block, const struct cxx_nothrow *tag)
	MANGLED("_ZdaPvRKSt9nothrow_t");
void cxx_delete_aligned(void *block, size_t alignment) MANGLED("_ZdlPvSt11align_val_t");
void cxx_delete_array_aligned(void *block, size_t alignment) MANGLED("_ZdaPvSt11align_val_t");
void cxx_delete_sized_aligned(void *block, size_t size, size_t alignment)
	MANGLED("_ZdlPvmSt11align_val_t");
void cxx_delete_array_sized_aligned(void *block, size_t size, size_t alignment)
	MANGLED("_ZdaPvmSt11align_val_t");
void cxx_delete_aligned_nothrow(void *block, size_t alignment, const struct cxx_nothrow *tag)
	MANGLED("_ZdlPvSt11align_val_tRKSt9nothrow_t");
void cxx_delete_array_aligned_nothrow(void *block, size_t alignment,
                                      const struct cxx_nothrow *tag)
	MANGLED("_ZdaPvSt11align_val_tRKSt9nothrow_t");

/* std::new_handler, and the runtime's two functions that a failure needs. */
typedef void new_handler_fn(void);
typedef new_handler_fn *get_new_handler_fn(void);
typedef void throw_bad_alloc_fn(void);

#define GET_NEW_HANDLER "_ZSt15get_new_handlerv"
#define THROW_BAD_ALLOC "_ZSt17__throw_bad_allocv"

extern get_new_handler_fn get_new_handler __asm__(GET_NEW_HANDLER) __attribute__((weak));
extern throw_bad_alloc_fn throw_bad_alloc __asm__(THROW_BAD_ALLOC) __attribute__((weak));

/*
 * A symbol of the C++ runtime in this process, or NULL.  Loads nothing.  A plug-in
 * opened with RTLD_LOCAL keeps its libstdc++ out of the global scope, so that
 * one is asked by name; it also never answers with another preloaded library's
 * operator, whose blocks would not be ours to free.  The loader may need a few
 * hundred bytes: when not even those are left, a plug-in's failure ends in fail's
 * message.
 */
static void *runtime_symbol(const char *name)
{
	void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);

	if (library == NULL)
		return dlsym(RTLD_NEXT, name);
	void *symbol = dlsym(library, name);
	/* Whoever calls new holds the library too. */
	dlclose(library);
	return symbol;
}

/* Returns no handler when there is none, or no runtime to keep one. */
static new_handler_fn *current_handler(void)
{
	get_new_handler_fn *get = get_new_handler;

	if (get == NULL)
		get = (get_new_handler_fn *)runtime_symbol(GET_NEW_HANDLER);
	return get != NULL ? get() : NULL;
}

static _Noreturn void fail(void)
{
	static const char message[] = "cede: out of memory in operator new, and no C++ runtime to "
	                              "throw std::bad_alloc\n";
	throw_bad_alloc_fn *throw = throw_bad_alloc;

	if (throw == NULL)
		throw = (throw_bad_alloc_fn *)runtime_symbol(THROW_BAD_ALLOC);
	if (throw != NULL)
		throw();
	os_write_error(message, sizeof(message) - 1);
	os_abort();
}

/* alignment 0: malloc's own. */
static void *allocate(size_t size, size_t alignment)
{
	return alignment == 0 ? cede_malloc(size) : cede_memalign(alignment, size);
}

/*
 * The handler may free memory, install another handler, throw or exit; when there
 * is none left the failure is final.  Source: C++17 [new.delete.single].
 */
static COLD void *new_retry(size_t size, size_t alignment)
{
	void *block;

	do {
		new_handler_fn *handler = current_handler();

		if (handler == NULL)
			fail();
		handler();
		block = allocate(size, alignment);
	} while (block == NULL);
	return block;
}

static COLD void *retry_nothrow(size_t size, const struct cxx_nothrow *tag, const char *name)
{
	typedef void *operator_fn(size_t, const struct cxx_nothrow *);
	operator_fn *operator = (operator_fn *)runtime_symbol(name);

	return operator != NULL ? operator(size, tag) : NULL;
}

static COLD void *retry_aligned_nothrow(size_t size, size_t alignment,
                                        const struct cxx_nothrow *tag, const char *name)
{
	typedef void *operator_fn(size_t, size_t, const struct cxx_nothrow *);
	operator_fn *operator = (operator_fn *)runtime_symbol(name);

	return operator != NULL ? operator(size, alignment, tag) : NULL;
}

void *cxx_new(size_t size)
{
	void *block = fast_malloc(size);

	return likely(block != NULL) ? block : new_retry(size, 0);
}

void *cxx_new_array(size_t size)
{
	void *block = fast_malloc(size);

	return likely(block != NULL) ? block : new_retry(size, 0);
}

void *cxx_new_aligned(size_t size, size_t alignment)
{
	void *block = cede_memalign(alignment, size);

	return likely(block != NULL) ? block : new_retry(size, alignment);
}

void *cxx_new_array_aligned(size_t size, size_t alignment)
{
	void *block = cede_memalign(alignment, size);

	return likely(block != NULL) ? block : new_retry(size, alignment);
}

void *cxx_new_nothrow(size_t size, const struct cxx_nothrow *tag)
{
	void *block = fast_malloc(size);

	return likely(block != NULL) ? block : retry_nothrow(size, tag, "_ZnwmRKSt9nothrow_t");
}

void *cxx_new_array_nothrow(size_t size, const struct cxx_nothrow *tag)
{
	void *block = fast_malloc(size);

	return likely(block != NULL) ? block : retry_nothrow(size, tag, "_ZnamRKSt9nothrow_t");
}

void *cxx_new_aligned_nothrow(size_t size, size_t alignment, const struct cxx_nothrow *tag)
{
	void *block = cede_memalign(alignment, size);

	return likely(block != NULL)
	               ? block
	               : retry_aligned_nothrow(size, alignment, tag,
	                                       "_ZnwmSt11align_val_tRKSt9nothrow_t");
}

void *cxx_new_array_aligned_nothrow(size_t size, size_t alignment,
                                    const struct cxx_nothrow *tag)
{
	void *block = cede_memalign(alignment, size);

	return likely(block != NULL)
	               ? block
	               : retry_aligned_nothrow(size, alignment, tag,
	                                       "_ZnamSt11align_val_tRKSt9nothrow_t");
}

void cxx_delete(void *block)
{
	fast_free(block);
}

void cxx_delete_array(void *block)
{
	fast_free(block);
}

void cxx_delete_sized(void *block, size_t size)
{
	fast_free_sized(block, size);
}

void cxx_delete_array_sized(void *block, size_t size)
{
	fast_free_sized(block, size);
}

void cxx_delete_nothrow(void *block, const struct cxx_nothrow *tag)
{
	(void)tag;
	fast_free(block);
}

void cxx_delete_array_nothrow(void *block, const struct cxx_nothrow *tag)
{
	(void)tag;
	fast_free(block);
}

void cxx_delete_aligned(void *block, size_t alignment)
{
	(void)alignment;
	fast_free(block);
}

void cxx_delete_array_aligned(void *block, size_t alignment)
{
	(void)alignment;
	fast_free(block);
}

void cxx_delete_sized_aligned(void *block, size_t size, size_t alignment)
{
	cede_free_aligned_sized(block, alignment, size);
}

void cxx_delete_array_sized_aligned(void *block, size_t size, size_t alignment)
{
	cede_free_aligned_sized(block, alignment, size);
}

void cxx_delete_aligned_nothrow(void *block, size_t alignment, const struct cxx_nothrow *tag)
{
	(void)alignment;
	(void)tag;
	fast_free(block);
}

void cxx_delete_array_aligned_nothrow(void *block, size_t alignment,
                                      const struct cxx_nothrow *tag)
{
	(void)alignment;
	(void)tag;
	fast_free(block);
}
