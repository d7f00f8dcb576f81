/*
 * A program in C++ that has blocks of known kinds: so many of each are lost, kept by the
 * program, or made when it is told to.  It writes lines of "name=value ..." as the other
 * targets do.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <typeinfo>
#include <vector>

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace shop {

struct item {
	virtual ~item() = default;
	virtual int price() const { return 1; }
	long number[3] = {1, 2, 3};
};

template <typename Key, typename Value>
struct shelf : item {
	int price() const override { return 2; }
	Key key{};
	Value value{};
	char rest[100] = {};
};

struct first_base {
	virtual ~first_base() = default;
	long one = 1;
};

/* Two tables of virtual functions, and one for a base that is shared. */
struct counter : virtual first_base, item {
	char rest[200] = {};
};

/* Nothing tells what it is. */
struct plain {
	long numbers[6] = {7, 8, 9, 10, 11, 12};
};

} // namespace shop

namespace {

/* No other file has it. */
struct hidden {
	virtual ~hidden() = default;
	char rest[300] = {};
};

} // namespace

using shelf = shop::shelf<int, std::pair<long, const char *>>;

/* What C has in place of classes. */
struct operations {
	int (*open)();
};
static int open_nothing() { return 0; }
extern "C" {
operations typed_operations = {open_nothing};
operations typed_table[4] = {{open_nothing}};
}

struct file {
	const operations *calls;
	long state[60];
};

struct counted {
	long references;
	const operations *calls;
	long state[70];
};

/* As Python's objects are that its collector knows. */
struct linked {
	void *next, *before;
	long references;
	const operations *calls;
	long state[80];
};

struct callback {
	int (*call)();
	long state[90];
};

struct node {
	node *next;
	long value[20];
};

static void *kept[20000];
static size_t kept_count;

template <typename Block>
static Block *keep(Block *block)
{
	kept[kept_count++] = block;
	return block;
}

static void *text_make(size_t size, const char *text)
{
	char *block = static_cast<char *>(malloc(size));

	for (size_t i = 0; i + 1 < size; i++)
		block[i] = text[i % strlen(text)];
	block[size - 1] = '\0';
	return block;
}

/* Where the compiler cannot see that nobody asks for it. */
static void *volatile last;

static __attribute__((noinline)) void lose()
{
	for (int i = 0; i < 30; i++)
		last = new shop::item;
	for (int i = 0; i < 40; i++)
		last = new shelf;
	for (int i = 0; i < 50; i++)
		last = new hidden;
	for (int i = 0; i < 60; i++)
		last = new shop::plain;
	for (int i = 0; i < 70; i++)
		last = text_make(700, "a text that was lost ");
	last = nullptr;
}

static __attribute__((noinline)) void fill()
{
	keep(new shop::counter[9]);
	for (int i = 0; i < 31; i++)
		keep(new shop::counter);
	for (int i = 0; i < 32; i++)
		keep(new file{&typed_operations, {}});
	for (int i = 0; i < 33; i++)
		keep(new counted{3, &typed_operations, {}});
	for (int i = 0; i < 34; i++)
		keep(new linked{kept[0], kept[0], 1, &typed_operations, {}});
	for (int i = 0; i < 35; i++)
		keep(new callback{open_nothing, {1}});
	for (int i = 0; i < 36; i++)
		keep(calloc(1, 900));
	for (int i = 0; i < 37; i++)
		keep(new node{static_cast<node *>(kept[0]), {1}});
	for (int i = 0; i < 38; i++)
		keep(new linked{kept[0], kept[0], 1, &typed_table[2], {}});
	for (int i = 0; i < 39; i++)
		keep(new std::shared_ptr<shelf>(std::make_shared<shelf>()));
}

static __attribute__((noinline)) void lose_nodes()
{
	for (int i = 0; i < 20; i++)
		last = new node{static_cast<node *>(kept[2]), {1}};
	last = nullptr;
}

/* What the allocator had in it is still there. */
static __attribute__((noinline)) void leave_stale()
{
	void *volatile first = malloc(3000), *volatile between = malloc(3500);

	free(first);
	keep(malloc(3000));
	keep(static_cast<void *>(between));
}

/* A page of blocks, of which one in so many stays. */
static __attribute__((noinline)) void fragment()
{
	static void *freed[200000];
	size_t count = 0;

	for (int i = 0; i < 200000; i++)
		if (i % 40 == 0)
			keep(new shelf);
		else
			freed[count++] = malloc(sizeof(shelf));
	while (count--)
		free(freed[count]);
}

/* The names of classes are no longer resident, as if nobody had touched them. */
static void forget_names()
{
#ifdef __cpp_rtti
	auto page = reinterpret_cast<uintptr_t>(typeid(shelf).name()) & ~4095ul;

	if (madvise(reinterpret_cast<void *>(page), 4096, MADV_DONTNEED) != 0)
		abort();
#endif
}

static __attribute__((noinline)) void stack_scrub()
{
	volatile char over[32768];

	for (size_t i = 0; i < sizeof(over); i++)
		over[i] = 0;
}

static void tell(const char *step)
{
	char line[100], letter;
	int length = snprintf(line, sizeof(line), "%s kept=%zu\n", step, kept_count);

	stack_scrub();
	forget_names();
	if (write(1, line, static_cast<size_t>(length)) != length || read(0, &letter, 1) != 1)
		_exit(0);
}

int main()
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	lose();
	fill();
	lose_nodes();
	leave_stale();
	tell("ready");
	for (int i = 0; i < 1000; i++)
		keep(new shop::item);
	tell("grown");
	fragment();
	tell("fragmented");
	_exit(0);
}
