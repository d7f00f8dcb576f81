#include "support/scripted_os.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/cache.h"
#include "heap/registry.h"

#define BREAK_ROOM ((size_t)1 << 30)

struct call_script {
	unsigned made;
	unsigned fail_at, fail_from; /* 0: never */
};

void (*script_discarding)(const struct os_range *ranges, unsigned count);
size_t script_discarded;
unsigned script_shortages;

static struct call_script scripts[OS_CALLS];
static void *map_at;
static unsigned cpus; /* 0: the real ones */
static uint64_t clock_ms; /* 0: the real one; atomic */
static uint64_t thread_ns, thread_takes; /* 0: the real clock */
static char *break_start, *break_now, *break_elsewhere;

void *__real_os_sbrk(intptr_t increment);
void *__real_os_map(void *hint, size_t size, enum os_access access);
bool __real_os_map_at(void *start, size_t size);
bool __real_os_unmap(void *start, size_t size);
void *__real_os_remap(void *start, size_t old_size, size_t new_size);
bool __real_os_protect(void *start, size_t size, enum os_access access);
size_t __real_os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls);
bool __real_os_thread_start(void (*run)(void), const char *name);
unsigned __real_os_cpu_count(void);
uint64_t __real_os_now_ms(void);
uint64_t __real_os_thread_ns(void);

void *__wrap_os_sbrk(intptr_t increment);
void *__wrap_os_map(void *hint, size_t size, enum os_access access);
bool __wrap_os_map_at(void *start, size_t size);
bool __wrap_os_unmap(void *start, size_t size);
void *__wrap_os_remap(void *start, size_t old_size, size_t new_size);
bool __wrap_os_protect(void *start, size_t size, enum os_access access);
size_t __wrap_os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls);
bool __wrap_os_thread_start(void (*run)(void), const char *name);
unsigned __wrap_os_cpu_count(void);
uint64_t __wrap_os_now_ms(void);
uint64_t __wrap_os_thread_ns(void);
void __wrap_os_pressure_begin(void);
bool __wrap_os_pressure_wait(int64_t timeout_ms);

void script_reset(void)
{
	memset(scripts, 0, sizeof(scripts));
	script_discarding = NULL;
	script_discarded = 0;
	__atomic_store_n(&script_shortages, 0, __ATOMIC_RELAXED);
	map_at = NULL;
	break_elsewhere = NULL;
	script_clock(0);
	script_thread_takes(0);
	cpus = 0;
}

void script_fail(enum os_call call, unsigned nth)
{
	scripts[call].fail_at = scripts[call].made + nth;
}

void script_fail_from(enum os_call call, unsigned nth)
{
	scripts[call].fail_from = scripts[call].made + nth;
}

unsigned script_calls(enum os_call call)
{
	return scripts[call].made;
}

void script_clock(uint64_t ms)
{
	__atomic_store_n(&clock_ms, ms, __ATOMIC_RELAXED);
}

void script_thread_takes(uint64_t ns)
{
	thread_takes = ns;
}

void script_cpus(unsigned count)
{
	cpus = count;
}

void script_map_at(void *address)
{
	map_at = address;
}

void script_break_at(void *address)
{
	break_elsewhere = address;
}

char *script_break(void)
{
	return break_now;
}

static bool call_fails(enum os_call call)
{
	struct call_script *s = &scripts[call];

	s->made++;
	return s->made == s->fail_at || (s->fail_from != 0 && s->made >= s->fail_from);
}

char *script_foreign_sbrk(intptr_t increment)
{
	char *old = break_now, *now = old + increment;
	uintptr_t was = align_up((uintptr_t)old, os_page_size);
	uintptr_t is = align_up((uintptr_t)now, os_page_size);

	if (now < break_start || now > break_start + BREAK_ROOM)
		return NULL;
	if (is > was && mprotect((void *)was, is - was, PROT_READ | PROT_WRITE) != 0)
		abort();
	/* What lies beyond the break is gone, and must not be touched. */
	if (is < was && mmap((void *)is, was - is, PROT_NONE,
	                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
	                        (void *)is)
		abort();
	break_now = now;
	return old;
}

void *__wrap_os_sbrk(intptr_t increment)
{
	char *there = break_elsewhere;

	if (call_fails(OS_SBRK))
		return NULL;
	if (break_start == NULL)
		return __real_os_sbrk(increment);
	if (increment > 0 && there != NULL) {
		break_elsewhere = NULL;
		return there;
	}
	return script_foreign_sbrk(increment);
}

void *__wrap_os_map(void *hint, size_t size, enum os_access access)
{
	if (call_fails(OS_MAP))
		return NULL;
	if (map_at != NULL) {
		hint = map_at;
		map_at = NULL;
	}
	return __real_os_map(hint, size, access);
}

bool __wrap_os_map_at(void *start, size_t size)
{
	return !call_fails(OS_MAP_AT) && __real_os_map_at(start, size);
}

bool __wrap_os_unmap(void *start, size_t size)
{
	return !call_fails(OS_UNMAP) && __real_os_unmap(start, size);
}

void *__wrap_os_remap(void *start, size_t old_size, size_t new_size)
{
	return call_fails(OS_REMAP) ? NULL : __real_os_remap(start, old_size, new_size);
}

bool __wrap_os_protect(void *start, size_t size, enum os_access access)
{
	return !call_fails(OS_PROTECT) && __real_os_protect(start, size, access);
}

size_t __wrap_os_discard(const struct os_range *ranges, unsigned count, uint64_t *calls)
{
	for (unsigned i = 0; i < count; i++)
		script_discarded += ranges[i].size;
	if (script_discarding != NULL)
		script_discarding(ranges, count);
	if (call_fails(OS_DISCARD)) {
		*calls += count;
		return 0;
	}
	return __real_os_discard(ranges, count, calls);
}

bool __wrap_os_thread_start(void (*run)(void), const char *name)
{
	return !call_fails(OS_THREAD) && __real_os_thread_start(run, name);
}

unsigned __wrap_os_cpu_count(void)
{
	(void)call_fails(OS_CPUS);
	return cpus != 0 ? cpus : __real_os_cpu_count();
}

uint64_t __wrap_os_now_ms(void)
{
	uint64_t ms = __atomic_load_n(&clock_ms, __ATOMIC_RELAXED);

	return ms != 0 ? ms : __real_os_now_ms();
}

uint64_t __wrap_os_thread_ns(void)
{
	return thread_takes != 0 ? thread_ns += thread_takes : __real_os_thread_ns();
}

/* The thread keeps the test's descriptors. */
void __wrap_os_pressure_begin(void)
{
}

bool __wrap_os_pressure_wait(int64_t timeout_ms)
{
	uint32_t never = 0;

	if (__atomic_load_n(&script_shortages, __ATOMIC_RELAXED) != 0) {
		__atomic_sub_fetch(&script_shortages, 1, __ATOMIC_RELAXED);
		return true;
	}
	os_futex_wait(&never, 0, timeout_ms);
	return false;
}

struct arena *script_heap(enum policy policy)
{
	struct arena *a = &main_arena;
	struct arena *next;
	size_t threads;

	(void)registry_self();
	script_reset();
	if (break_start != NULL)
		munmap(break_start, BREAK_ROOM);
	break_start = mmap(NULL, BREAK_ROOM, PROT_NONE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (break_start == MAP_FAILED)
		abort();
	break_now = break_start;
	settings_init(&settings);
	settings.policy = policy;
	settings.huge = false;
	if (policy == POLICY_DEFAULT)
		settings.mxfast = 0;
	settings.mmap_threshold = SIZE_MAX;
	/* What a test frees is free: no cache keeps it. */
	cache_on = slabs_on = false;
	next = a->next;
	threads = a->threads;
	memset(a, 0, sizeof(*a));
	arena_init(a, 0);
	a->contiguous = true;
	a->next = next;
	a->threads = threads;
	return a;
}

struct arena *script_heap_of_slabs(bool caching)
{
	struct arena *a = script_heap(POLICY_DEFAULT);

	slabs_on = true;
	if (caching)
		cache_configure();
	if (cache_on != caching)
		abort();
	return a;
}
