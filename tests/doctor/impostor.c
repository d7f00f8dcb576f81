/*
 * A process whose blocks begin with what looks like an object's first word and is none: of
 * each kind of deceit a hundred blocks, each kind with a size of its own.  It writes
 * "ready" and waits for a letter.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096ul
#define EACH 100

/* The offset of the whole object, the typeinfo, the table that objects lead to. */
struct table {
	uintptr_t offset;
	const void *typeinfo;
	void (*first)(void);
};

struct typeinfo {
	const void *table;
	const char *name;
};

/* Variables, so that they lie in the file's mapping. */
static struct { char before[PAGE]; char page[PAGE]; char behind[PAGE]; } unreadable
	__attribute__((aligned(4096))) = { "", "x", "" };
static struct { char text[2 * PAGE]; } endless __attribute__((aligned(4096))) = { "x" };
static char growing[1000] = "1BI1A";
static struct typeinfo typeinfos[] = {
	{ &typeinfos[0], "\033[2J\033[31mred" },
	{ &typeinfos[1], (const char *)&typeinfos[1] },
	{ &typeinfos[2], endless.text },
	{ &typeinfos[3], unreadable.page },
	{ &typeinfos[4], growing },
	{ NULL, "4Real" },
	{ &typeinfos[6], "" },
	{ &typeinfos[7], "*" },
	{ &typeinfos[8], "10Escape\033[2Jx" },
	/* A type, but no class. */
	{ &typeinfos[9], "x" },
	/* None is wrong with this one. */
	{ &typeinfos[10], "4True" },
};
#define TYPEINFOS (sizeof(typeinfos) / sizeof(*typeinfos))
static struct table tables[TYPEINFOS + 5] = { { 0, NULL, NULL } };
static const char *const texts[] = {
	"a text of more\twords than\none, of which this is the end",
	"a text of more\177words than one, of which this is the end",
};
#define KINDS (TYPEINFOS + 8)
static void *kept[KINDS * EACH] = { NULL };

/* Each of its arguments is a pair of the one before. */
static void growing_fill(void)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char *at = growing + strlen(growing);

	at += sprintf(at, "S0_IS0_S0_E");
	for (int i = 1; i < 35; i++)
		at += sprintf(at, "S0_IS%c_S%c_E", digits[i], digits[i]);
	strcpy(at, "E");
}

/* An address in a file whose bytes are letters. */
static void *letters_map(void)
{
	int self = open("/proc/self/exe", O_RDONLY);
	char *begin = mmap((void *)0x414243440000, 8 * PAGE, PROT_READ,
	                   MAP_PRIVATE | MAP_FIXED_NOREPLACE, self, PAGE);

	if (begin != (void *)0x414243440000)
		abort();
	return begin + 0x4546;
}

static void *block_make(size_t kind, void *letters)
{
	void **block = calloc(1, 40 + 16 * kind);

	if (!block)
		abort();
	if (kind >= TYPEINFOS + 6)
		strcpy((char *)block, texts[kind - TYPEINFOS - 6]);
	else
		block[0] = kind == TYPEINFOS + 2 ? (void *)unreadable.behind :
		           kind == TYPEINFOS + 5 ? letters : (void *)&tables[kind].first;
	return block;
}

int main(void)
{
	void *letters = letters_map();
	char letter;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(endless.text, 'a', sizeof(endless.text));
	growing_fill();
	for (size_t i = 0; i < TYPEINFOS; i++)
		tables[i].typeinfo = &typeinfos[i];
	tables[TYPEINFOS].typeinfo = (void *)8;
	tables[TYPEINFOS + 1].typeinfo = (char *)&typeinfos[1] + 1;
	tables[TYPEINFOS + 2].typeinfo = unreadable.page;
	tables[TYPEINFOS + 3].typeinfo = (void *)(UINTPTR_MAX - 7);
	tables[TYPEINFOS + 4] = tables[10];
	tables[TYPEINFOS + 4].offset = 8;
	if (mprotect(unreadable.page, PAGE, PROT_NONE) != 0)
		abort();
	for (size_t i = 0; i < KINDS; i++)
		for (size_t j = 0; j < EACH; j++)
			kept[i * EACH + j] = block_make(i, letters);
	if (write(1, "ready\n", 6) != 6 || read(0, &letter, 1) != 1)
		_exit(0);
	return 0;
}
