/*
 * The rules of the malloc family as glibc keeps them: a program that relies on one
 * must not notice which heap it runs on.  Runs against libc too, which is the
 * reference: a rule that fails there is not a rule.  Layer: tests.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <sys/wait.h>

#include "support/cases.h"
#include "support/check.h"
#include "support/heap.h"
#include "support/pattern.h"

#define PAGE         4096u
#define MARK         4242 /* an errno that nobody sets */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The compiler must not reason about sizes that no object can have. */
static size_t hidden(size_t n)
{
	__asm__ volatile("" : "+r"(n));
	return n;
}

/* A call that must fail with ENOMEM. */
#define CHECK_ENOMEM(call) \
	do { \
		errno = 0; \
		CHECK((call) == NULL); \
		CHECK(errno == ENOMEM); \
	} while (0)

static void zero_size(void)
{
	void *blocks[64];

	for (size_t i = 0; i < COUNT(blocks); i++) {
		blocks[i] = i % 2 == 0 ? heap_malloc(0) : heap_calloc(0, 8);
		CHECK(blocks[i] != NULL);
		for (size_t j = 0; j < i; j++)
			CHECK(blocks[i] != blocks[j]);
	}
	for (size_t i = 0; i < COUNT(blocks); i++)
		heap_free(blocks[i]);
}

static void realloc_edges(void)
{
	unsigned char *block = heap_realloc(NULL, 100);

	CHECK(block != NULL && heap_usable_size(block) >= 100);
	errno = MARK;
	CHECK(heap_realloc(block, 0) == NULL);
	CHECK(errno == MARK);
	block = heap_realloc(NULL, 0);
	CHECK(block != NULL);
	heap_free(block);
	CHECK(heap_reallocarray(NULL, 10, 10) != NULL);
}

/* Grows and shrinks one block through every tier; the common part stays. */
static void realloc_contents(void)
{
	static const size_t sizes[] = { 1,    24,    25,     120,     121,      1000,   1040,
		                        5000, 70000, 140000, 3 << 20, 9 << 20,  300000, 131072,
		                        4096, 512,   64,     8,       40 << 20, 16 };
	uint64_t *block = heap_malloc(sizes[0]);
	size_t before = sizes[0];

	pattern_fill(block, before, 7);
	for (size_t i = 1; i < COUNT(sizes); i++) {
		size_t common = sizes[i] < before ? sizes[i] : before;

		block = heap_realloc(block, sizes[i]);
		CHECK(block != NULL);
		CHECK(pattern_match(block, common / 8 * 8, 7) == common / 8 * 8);
		pattern_fill(block, sizes[i], 7);
		before = sizes[i];
	}
	heap_free(block);
}

static void too_large(void)
{
	static const size_t sizes[] = { PTRDIFF_MAX + 1ul, PTRDIFF_MAX + 4096ul, SIZE_MAX - 4096,
		                        SIZE_MAX - 15, SIZE_MAX };
	char *block = heap_malloc(100);
	void *out = block;

	pattern_fill(block, 96, 1);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		size_t size = hidden(sizes[i]);

		CHECK_ENOMEM(heap_malloc(size));
		CHECK_ENOMEM(heap_calloc(1, size));
		CHECK_ENOMEM(heap_realloc(block, size));
		CHECK_ENOMEM(heap_realloc(NULL, size));
		CHECK_ENOMEM(heap_reallocarray(block, 1, size));
		CHECK_ENOMEM(heap_memalign(64, size));
		CHECK_ENOMEM(heap_aligned_alloc(64, size));
		CHECK_ENOMEM(heap_valloc(size));
		CHECK_ENOMEM(heap_pvalloc(size));
		CHECK(heap_posix_memalign(&out, 64, size) == ENOMEM && out == block);
	}
	/* Below the limit, but more than any machine has. */
	CHECK_ENOMEM(heap_malloc(hidden(PTRDIFF_MAX)));
	CHECK(pattern_match(block, 96, 1) == 96);
	heap_free(block);
}

static void overflowing_product(void)
{
	char *block = heap_malloc(100);

	pattern_fill(block, 96, 2);
	CHECK_ENOMEM(heap_calloc(hidden(SIZE_MAX / 2), 3));
	CHECK_ENOMEM(heap_calloc(3, hidden(SIZE_MAX / 2)));
	CHECK_ENOMEM(heap_calloc(hidden((size_t)1 << 32), hidden((size_t)1 << 32)));
	CHECK_ENOMEM(heap_reallocarray(block, hidden(SIZE_MAX / 2), 3));
	CHECK_ENOMEM(heap_reallocarray(NULL, hidden((size_t)1 << 32), hidden((size_t)1 << 32)));
	CHECK(pattern_match(block, 96, 2) == 96);
	heap_free(block);
}

static void alignment_of_every_size(void)
{
	for (size_t size = 0; size <= PAGE; size++) {
		char *one = heap_malloc(size), *two = heap_calloc(1, size), *three = heap_malloc(1);

		CHECK((uintptr_t)one % 16 == 0 && (uintptr_t)two % 16 == 0 &&
		      (uintptr_t)three % 16 == 0);
		three = heap_realloc(three, size + 1);
		CHECK((uintptr_t)three % 16 == 0);
		heap_free(one);
		heap_free(two);
		heap_free(three);
	}
}

static void aligned_blocks(void)
{
	for (size_t alignment = 1; alignment <= (4u << 20); alignment *= 2) {
		for (size_t size = 0; size < 300000; size = size * 3 + 1) {
			char *block = heap_memalign(alignment, size);

			CHECK(block != NULL && (uintptr_t)block % alignment == 0);
			CHECK((uintptr_t)block % 16 == 0);
			memset(block, 1, heap_usable_size(block));
			heap_free(block);
			block = heap_aligned_alloc(alignment, size);
			CHECK(block != NULL && (uintptr_t)block % alignment == 0);
			heap_free(block);
		}
	}
}

static void alignment_errors(void)
{
	static const size_t refused[] = { 0, 3, 24, 48, 100, 4097, SIZE_MAX };
	char *block;

	/* C17's rule, which libc keeps since 2.38: before, it was memalign. */
	for (size_t i = 0; i < COUNT(refused) && heap_is_cede(); i++) {
		errno = 0;
		CHECK(heap_aligned_alloc(hidden(refused[i]), 64) == NULL);
		CHECK(errno == EINVAL);
	}
	/* memalign rounds up instead, up to what a size can hold. */
	for (size_t i = 0; i + 1 < COUNT(refused); i++) {
		block = heap_memalign(hidden(refused[i]), 64);
		CHECK(block != NULL && (uintptr_t)block % (refused[i] < 16 ? 16 : 32) == 0);
		heap_free(block);
	}
	errno = 0;
	CHECK(heap_memalign(hidden(SIZE_MAX / 2 + 2), 64) == NULL);
	CHECK(errno == EINVAL);
	CHECK_ENOMEM(heap_memalign(hidden(SIZE_MAX / 2 + 1), 64));
}

static void posix_memalign_errors(void)
{
	static const size_t refused[] = { 0, 1, 2, 4, 3, 12, 24, 100, SIZE_MAX };
	void *out = &out;

	for (size_t i = 0; i < COUNT(refused); i++) {
		errno = MARK;
		CHECK(heap_posix_memalign(&out, hidden(refused[i]), 64) == EINVAL);
		CHECK(out == &out);
		CHECK(errno == MARK);
	}
	CHECK(heap_posix_memalign(&out, 64, hidden(PTRDIFF_MAX)) == ENOMEM);
	CHECK(out == &out);
	for (size_t alignment = sizeof(void *); alignment <= (1u << 20); alignment *= 2) {
		CHECK(heap_posix_memalign(&out, alignment, 0) == 0);
		CHECK(out != NULL && (uintptr_t)out % alignment == 0);
		heap_free(out);
	}
}

static void whole_pages(void)
{
	char *block = heap_valloc(100);

	CHECK((uintptr_t)block % PAGE == 0 && heap_usable_size(block) >= 100);
	heap_free(block);
	block = heap_pvalloc(PAGE + 1);
	CHECK((uintptr_t)block % PAGE == 0 && heap_usable_size(block) >= 2 * PAGE);
	heap_free(block);
	CHECK((block = heap_pvalloc(0)) != NULL);
	heap_free(block);
	CHECK_ENOMEM(heap_pvalloc(hidden(SIZE_MAX - 100)));
}

static void usable_size(void)
{
	CHECK(heap_usable_size(NULL) == 0);
	for (size_t size = 0; size < 600000; size += 1 + size / 50) {
		char *block = heap_malloc(size), *other = heap_malloc(size);
		size_t usable = heap_usable_size(block);

		CHECK(usable >= size);
		memset(block, 0xff, usable);
		memset(other, 0xff, heap_usable_size(other));
		CHECK(heap_usable_size(block) == usable);
		heap_free(other);
		CHECK(heap_usable_size(block) == usable);
		heap_free(block);
	}
}

static void calloc_zeros(void)
{
	for (int round = 0; round < 200; round++) {
		size_t size = (size_t)round * 997 + 1;
		unsigned char *block = heap_malloc(size);

		memset(block, 0xff, heap_usable_size(block));
		heap_free(block);
		block = heap_calloc(size, 1);
		for (size_t i = 0; i < size; i++)
			CHECK(block[i] == 0);
		heap_free(block);
	}
}

static void free_keeps_errno(void)
{
	static const size_t sizes[] = { 1, 100, 5000, 200000, 64 << 20 };
	/* C23's, which this libc does not declare. */
	void (*sized)(void *, size_t) = NULL;
	void (*aligned_sized)(void *, size_t, size_t) = NULL;

#ifdef TESTS_PREFIXED
	sized = cede_free_sized;
	aligned_sized = cede_free_aligned_sized;
#else
	*(void **)&sized = dlsym(RTLD_DEFAULT, "free_sized");
	*(void **)&aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
	CHECK(!heap_is_cede() || (sized != NULL && aligned_sized != NULL));
#endif
	for (size_t i = 0; i < COUNT(sizes); i++) {
		void *one = heap_malloc(sizes[i]), *two = heap_malloc(sizes[i]);
		void *three = heap_aligned_alloc(64, sizes[i]);

		memset(one, 1, sizes[i]);
		errno = MARK;
		heap_free(one);
		if (sized != NULL) {
			sized(two, sizes[i]);
			sized(NULL, 0);
		}
		if (aligned_sized != NULL) {
			aligned_sized(three, 64, sizes[i]);
			aligned_sized(NULL, 64, 0);
		}
		heap_free(NULL);
		CHECK(errno == MARK);
	}
}

static void mallopt_values(void)
{
	static const struct {
		int param, value, answer;
	} rows[] = {
		{ M_MXFAST, 0, 1 },
		{ M_MXFAST, 64, 1 },
		{ M_MXFAST, 160, 1 },
		{ M_MXFAST, 161, 0 },
		{ M_MXFAST, -1, 0 },
		{ M_TRIM_THRESHOLD, 0, 1 },
		{ M_TRIM_THRESHOLD, -1, 1 },
		{ M_TOP_PAD, 0, 1 },
		{ M_TOP_PAD, 1 << 20, 1 },
		{ M_MMAP_THRESHOLD, 0, 1 },
		{ M_MMAP_THRESHOLD, 64, 1 },
		{ M_MMAP_THRESHOLD, 32 << 20, 1 },
		{ M_MMAP_THRESHOLD, INT_MAX, 1 },
		{ M_MMAP_THRESHOLD, -1, 1 },
		{ M_MMAP_MAX, 0, 1 },
		{ M_MMAP_MAX, 65536, 1 },
		{ M_CHECK_ACTION, 3, 1 },
		{ M_PERTURB, 0xaa, 1 },
		{ M_PERTURB, 0, 1 },
		{ M_ARENA_TEST, 1, 1 },
		{ M_ARENA_TEST, 0, 1 },
		{ M_ARENA_MAX, 2, 1 },
		{ M_ARENA_MAX, 0, 1 },
		{ 77, 1, 1 },
		{ -77, 1, 1 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		CHECK_THAT(heap_mallopt(rows[i].param, rows[i].value) == rows[i].answer,
		           "mallopt(%d, %d) is not %d", rows[i].param, rows[i].value,
		           rows[i].answer);
	}
}

/* M_PERTURB's byte fills freed memory, and its complement new memory. */
static void perturbed(void)
{
	CHECK(heap_mallopt(M_PERTURB, 0x3c) == 1);
	for (size_t size = 64; size < 300000; size *= 3) {
		unsigned char *block = heap_malloc(size);

		for (size_t i = 0; i < size; i++)
			CHECK(block[i] == (unsigned char)~0x3c);
		heap_free(block);
		block = heap_calloc(size, 1);
		for (size_t i = 0; i < size; i++)
			CHECK(block[i] == 0);
		heap_free(block);
	}
}

static void trim_answers(void)
{
	char *hole, *pin;

	/* Whatever the start left goes first: after it, nothing more can go. */
	heap_free(heap_malloc(1));
	heap_trim(0);
	hole = heap_malloc(100 << 10);
	memset(hole, 1, 100 << 10);
	pin = heap_malloc(100);
	heap_free(hole);
	CHECK(heap_trim(0) == 1);
	/* ptmalloc gives the same pages back again, and says so again. */
	if (heap_is_default())
		CHECK(heap_trim(0) == 0);
	hole = heap_malloc(100 << 10);
	memset(hole, 1, 100 << 10);
	heap_free(pin);
	heap_free(hole);
}

static void info_errors(void)
{
	CHECK(heap_info(1, stdout) == EINVAL);
	CHECK(heap_info(-1, stdout) == EINVAL);
}

/* The XML of a heap with something in every kind of bin, read by a parser. */
static void info_is_xml(void)
{
	void *blocks[400];
	const char *more = !heap_is_cede() ? "true()"
	                 : !heap_is_default() ? "count(//slab)+count(//slabs)+count(//lock)=0"
	                 : "count(/malloc/heap/sizes/slab)>=1 and /malloc/slabs/@live>=200*100 and "
	                   "sum(/malloc/heap/slabs/@live)=/malloc/slabs/@live and "
	                   "sum(/malloc/heap/slabs/@size)=/malloc/slabs/@size and "
	                   "/malloc/slabs/@size<=/malloc/system[@type=\"current\"]/@size";
	char command[700];
	FILE *parser;
	int status;

	if (system("command -v xmllint >/dev/null") != 0)
		SKIP("no xmllint");
	for (size_t i = 0; i < COUNT(blocks); i++)
		blocks[i] = heap_malloc(i * i);
	for (size_t i = 0; i < COUNT(blocks); i += 2)
		heap_free(blocks[i]);
	snprintf(command, sizeof(command),
	         "test \"$(xmllint --xpath "
	         "'count(/malloc/heap[sizes][total][system][aspace])>=1 and count(/malloc/total)>=1 "
	         "and count(/malloc/system)>=1 and %s' -)\" = true", more);
	parser = popen(command, "w");
	CHECK(parser != NULL);
	CHECK(heap_info(0, parser) == 0);
	status = pclose(parser);
	CHECK_THAT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "xmllint says %#x",
	           (unsigned)status);
}

static void mallinfo_counts(void)
{
	struct mallinfo2 before = heap_mallinfo2(), after;
	char *block = heap_malloc(50000), *mapped = heap_malloc(40 << 20);
	/* A header, or what rounding up to a size class wastes at most. */
	size_t most = heap_is_default() ? 50000 + 50000 / 8 : 50000 + 100;

	after = heap_mallinfo2();
	CHECK(after.uordblks >= before.uordblks + 50000 &&
	      after.uordblks <= before.uordblks + most);
	CHECK(after.hblks == before.hblks + 1 && after.hblkhd >= before.hblkhd + (40 << 20));
	CHECK(after.arena == after.uordblks + after.fordblks);
	heap_free(block);
	heap_free(mapped);
	after = heap_mallinfo2();
	CHECK(after.uordblks == before.uordblks && after.hblkhd == before.hblkhd);
}

/* Blocks of some size classes, and larger: each counts as what it holds, and a chunk its
 * header too. */
static void mallinfo_is_exact(void)
{
	static const size_t sizes[] = { 0, 16, 17, 100, 1000, 1024, 1025, 3000, 8192, 8193, 30000 };
	struct mallinfo2 before = heap_mallinfo2(), after;
	char *blocks[COUNT(sizes)][10];
	size_t expected = before.uordblks;

	if (!heap_is_cede())
		SKIP("libc caches blocks, and counts them as in use");
	for (size_t i = 0; i < COUNT(sizes); i++) {
		for (size_t k = 0; k < COUNT(blocks[i]); k++) {
			blocks[i][k] = heap_malloc(sizes[i]);
			expected += heap_usable_size(blocks[i][k]);
			expected += heap_is_default() && sizes[i] <= 8192 ? 0 : sizeof(size_t);
		}
	}
	after = heap_mallinfo2();
	CHECK_THAT(after.uordblks == expected, "%zu and not %zu", after.uordblks, expected);
	CHECK(after.arena == after.uordblks + after.fordblks && after.hblks == before.hblks);
	for (size_t i = 0; i < COUNT(sizes); i++)
		for (size_t k = 0; k < COUNT(blocks[i]); k++)
			heap_free(blocks[i][k]);
	after = heap_mallinfo2();
	CHECK(after.uordblks == before.uordblks && after.arena == after.uordblks + after.fordblks);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "zero_size", zero_size, 20 },
		{ "realloc_edges", realloc_edges, 20 },
		{ "realloc_contents", realloc_contents, 20 },
		{ "too_large", too_large, 20 },
		{ "overflowing_product", overflowing_product, 20 },
		{ "alignment_of_every_size", alignment_of_every_size, 60 },
		{ "aligned_blocks", aligned_blocks, 60 },
		{ "alignment_errors", alignment_errors, 20 },
		{ "posix_memalign_errors", posix_memalign_errors, 20 },
		{ "whole_pages", whole_pages, 20 },
		{ "usable_size", usable_size, 60 },
		{ "calloc_zeros", calloc_zeros, 60 },
		{ "free_keeps_errno", free_keeps_errno, 20 },
		{ "mallopt_values", mallopt_values, 20 },
		{ "perturbed", perturbed, 20 },
		{ "trim_answers", trim_answers, 20 },
		{ "info_errors", info_errors, 20 },
		{ "info_is_xml", info_is_xml, 20 },
		{ "mallinfo_counts", mallinfo_counts, 20 },
		{ "mallinfo_is_exact", mallinfo_is_exact, 20 },
	};

	return cases_main(argc, argv, cases, COUNT(cases));
}
