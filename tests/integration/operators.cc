/*
 * The C++ operators in a real C++ program, linked with libcede or preloaded:
 * every form of new and delete, and what happens when memory runs out.
 *
 * Expected: exit status 0 and no output.  A failure is one line on stderr and
 * status 1.
 */
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <new>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <sys/resource.h>

#include "support/check.h"

static const std::align_val_t page = std::align_val_t(4096);

/* Read at run time, so that the compiler does not warn of them. */
static volatile std::size_t impossible = SIZE_MAX / 2 + 1;
static volatile std::size_t large = std::size_t(64) << 20;

static void operators_are_ours()
{
	for (const char *name : { "_Znwm", "_ZnamSt11align_val_tRKSt9nothrow_t", "_ZdaPv",
	                          "_ZdlPvmSt11align_val_t" }) {
		Dl_info info;

		CHECK(dladdr(dlsym(RTLD_DEFAULT, name), &info) != 0);
		CHECK_THAT(strstr(info.dli_fname, "libstdc++") == nullptr, "%s is libstdc++'s", name);
	}
}

static void *used(void *block, std::size_t size, std::size_t alignment)
{
	CHECK(block != nullptr);
	CHECK(reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
	memset(block, 0x5a, size);
	return block;
}

/* Each new with a delete that may follow it. */
static void every_form(std::size_t size)
{
	const std::nothrow_t &quiet = std::nothrow;

	::operator delete(used(::operator new(size), size, 16));
	::operator delete(used(::operator new(size), size, 16), size);
	::operator delete(used(::operator new(size, quiet), size, 16), quiet);
	::operator delete[](used(::operator new[](size), size, 16));
	::operator delete[](used(::operator new[](size), size, 16), size);
	::operator delete[](used(::operator new[](size, quiet), size, 16), quiet);
	::operator delete(used(::operator new(size, page), size, 4096), page);
	::operator delete(used(::operator new(size, page), size, 4096), size, page);
	::operator delete(used(::operator new(size, page, quiet), size, 4096), page, quiet);
	::operator delete[](used(::operator new[](size, page), size, 4096), page);
	::operator delete[](used(::operator new[](size, page), size, 4096), size, page);
	::operator delete[](used(::operator new[](size, page, quiet), size, 4096), page, quiet);
}

static void size_zero_is_unique()
{
	void *a = ::operator new(0), *b = ::operator new(0);

	CHECK(a != nullptr && b != nullptr && a != b);
	::operator delete(a);
	::operator delete(b);
	::operator delete(nullptr);
}

static void delete_keeps_errno()
{
	void *block = ::operator new(large);

	errno = 77;
	::operator delete(block, large);
	CHECK(errno == 77);
}

/* Runs each throwing form; returns how many ended with an Expected. */
template <typename Expected>
static int count_thrown()
{
	void *(*const forms[])() = {
		[] { return ::operator new(impossible); },
		[] { return ::operator new[](impossible); },
		[] { return ::operator new(impossible, page); },
		[] { return ::operator new[](impossible, page); },
	};
	int thrown = 0;

	for (auto form : forms) {
		try {
			CHECK(form() == nullptr);
		} catch (const Expected &) {
			thrown++;
		}
	}
	return thrown;
}

static void check_nothrow_is_null()
{
	CHECK(::operator new(impossible, std::nothrow) == nullptr);
	CHECK(::operator new[](impossible, std::nothrow) == nullptr);
	CHECK(::operator new(impossible, page, std::nothrow) == nullptr);
	CHECK(::operator new[](impossible, page, std::nothrow) == nullptr);
}

static int handler_calls;

static void no_handler()
{
	CHECK(count_thrown<std::bad_alloc>() == 4);
	check_nothrow_is_null();
}

struct out_of_everything : std::bad_alloc {};

static void handler_throws_its_own()
{
	handler_calls = 0;
	std::set_new_handler([] {
		handler_calls++;
		throw out_of_everything();
	});
	CHECK(count_thrown<out_of_everything>() == 4);
	check_nothrow_is_null();
	CHECK(handler_calls == 8);
}

static void handler_gives_up()
{
	handler_calls = 0;
	std::set_new_handler([] {
		if (++handler_calls == 3)
			std::set_new_handler(nullptr);
	});
	try {
		CHECK(::operator new(impossible) == nullptr);
	} catch (const std::bad_alloc &) {
	}
	CHECK(handler_calls == 3);
}

/* No growth at all until the handler lifts the limit: as if it had freed memory. */
static struct rlimit unlimited;

static void forbid_growth()
{
	CHECK(getrlimit(RLIMIT_AS, &unlimited) == 0);
	struct rlimit none = unlimited;
	none.rlim_cur = 0;
	handler_calls = 0;
	malloc_trim(0); /* what was deleted does not serve again */
	CHECK(setrlimit(RLIMIT_AS, &none) == 0);
}

static void handler_finds_memory()
{
	std::set_new_handler([] {
		handler_calls++;
		CHECK(setrlimit(RLIMIT_AS, &unlimited) == 0);
	});
	forbid_growth();
	::operator delete(used(::operator new(large), large, 16));
	CHECK(handler_calls == 1);
	forbid_growth();
	::operator delete[](used(::operator new[](large, page), large, 4096), page);
	CHECK(handler_calls == 1);
	forbid_growth();
	::operator delete(used(::operator new(large, std::nothrow), large, 16));
	CHECK(handler_calls == 1);
	forbid_growth();
	::operator delete[](used(::operator new[](large, page, std::nothrow), large, 4096), page);
	CHECK(handler_calls == 1);
	std::set_new_handler(nullptr);
}

struct alignas(128) wide {
	char bytes[256];
	~wide() { bytes[0] = 0; }
};

static void the_language_uses_them()
{
	wide *array = new wide[7];
	CHECK(reinterpret_cast<std::uintptr_t>(array) % 128 == 0);
	delete[] array;

	std::vector<std::string> lines;
	for (int i = 0; i < 10000; i++)
		lines.push_back(std::string(100, char('a' + i % 26)));
	for (int i = 0; i < 10000; i++)
		CHECK(lines[i] == std::string(100, char('a' + i % 26)));
}

int main()
{
	operators_are_ours();
	for (std::size_t size : { 1, 24, 1000, 5000, 300000 })
		every_form(size);
	size_zero_is_unique();
	delete_keeps_errno();
	no_handler();
	handler_throws_its_own();
	handler_gives_up();
	handler_finds_memory();
	the_language_uses_them();
	return 0;
}
