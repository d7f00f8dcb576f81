/*
 * Cores that lie: a real one, changed in its headers, its notes and its heap in thousands
 * of ways.  Whatever it says, the doctor ends, with a report or a reason, in little time,
 * and touches nothing that is not its own (which the sanitizers see).
 *
 *     test_core_hostile CORE [first seed] [seeds]
 */
#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "command.h"
#include "doctor/patient.h"
#include "doctor/report.h"
#include "doctor/verdict.h"

#define SEEDS 3000
#define SECONDS_MOST 20            /* of the processor, for one core */
#define CHANGES_MOST 8

/* What the allocators of sanitizers answer to what a core asks for. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1:max_allocation_size_mb=8192";
}

static struct subject {
	char *bytes;                 /* as it was */
	size_t size;
	int descriptor;              /* of the copy that is changed */
	char path[64];
	const Elf64_Phdr *headers;
	size_t header_count;
} subject;

static uint64_t state;

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* --- changes --- */

static void change(uint64_t offset, const void *bytes, size_t size)
{
	if (offset <= subject.size && size <= subject.size - offset &&
	    pwrite(subject.descriptor, bytes, size, (off_t)offset) != (ssize_t)size)
		abort();
}

/* Words that make limits overflow, or look right. */
static uint64_t word_draw(void)
{
	static const uint64_t words[] = {
		0, 1, 2, 16, 0x20, 0x21, 0x31, 0x1001, 4095, 4096, 1ul << 20, 1ul << 31, 1ul << 32,
		1ul << 40, (1ul << 47) - 4096, 1ul << 47, (1ul << 56) - 4096, 1ul << 56, 1ul << 62,
		1ul << 63, UINT64_MAX, UINT64_MAX - 15, UINT64_MAX - 4095,
	};
	const Elf64_Phdr *header = &subject.headers[draw(subject.header_count)];
	uint64_t word;

	switch (draw(5)) {
	case 0:
		return words[draw(sizeof(words) / sizeof(*words))];
	case 1:
		return header->p_vaddr + 16 * draw(header->p_memsz / 16 + 1);
	case 2:
		return header->p_vaddr + header->p_memsz;
	case 3:
		return draw(0x2000) | 1;
	default:
		memcpy(&word, subject.bytes + 8 * draw(subject.size / 8), sizeof(word));
		return word + 16 * draw(3) - 16;
	}
}

/* Words in the first bytes of a segment that holds something, where it holds it. */
static void segment_change(uint64_t count)
{
	const Elf64_Phdr *header;
	uint64_t word, place;

	do
		header = &subject.headers[draw(subject.header_count)];
	while (header->p_type != PT_LOAD || !(header->p_flags & PF_W) || header->p_filesz < 4096);
	while (count--) {
		for (int tries = 0; tries < 64; tries++) {
			place = header->p_offset + 8 * draw(header->p_filesz / 8);
			memcpy(&word, subject.bytes + place, sizeof(word));
			if (word)
				break;
		}
		word = word_draw();
		change(place, &word, sizeof(word));
	}
}

static void headers_change(uint64_t count)
{
	while (count--) {
		static const size_t fields[] = {
			offsetof(Elf64_Phdr, p_offset), offsetof(Elf64_Phdr, p_vaddr),
			offsetof(Elf64_Phdr, p_filesz), offsetof(Elf64_Phdr, p_memsz),
		};
		uint64_t begin = (uintptr_t)&subject.headers[draw(subject.header_count)] -
		                 (uintptr_t)subject.bytes;
		uint64_t word = draw(2) ? word_draw() & ~4095ul : word_draw();

		if (draw(8))
			change(begin + fields[draw(4)], &word, sizeof(word));
		else
			change(draw(sizeof(Elf64_Ehdr)), &word, 1 + draw(2));
	}
}

static void notes_change(uint64_t count)
{
	const Elf64_Phdr *notes = subject.headers;

	while (notes->p_type != PT_NOTE)
		notes++;
	while (count--) {
		uint64_t word = word_draw(), place = notes->p_offset + draw(notes->p_filesz);

		/* Where the first ones begin, and the table of files, more often. */
		if (draw(2))
			place = notes->p_offset + 4 * draw(64);
		change(draw(2) ? place & ~3ul : place, &word, (size_t)1 << draw(4));
	}
}

static void seed_apply(uint64_t seed)
{
	uint64_t count = 1 + draw(CHANGES_MOST);

	switch (seed % 8) {
	case 0:
		headers_change(1 + draw(2));
		break;
	case 1:
		headers_change(1);
		segment_change(count);
		break;
	case 2:
		notes_change(count);
		break;
	case 3:
		if (ftruncate(subject.descriptor, (off_t)draw(subject.size + 1)) != 0)
			abort();
		break;
	default:
		segment_change(count);
	}
}

static void seed_revert(void)
{
	static char *page;

	page = page ? page : malloc(1 << 16);
	if (!page || ftruncate(subject.descriptor, (off_t)subject.size) != 0)
		abort();
	for (size_t at = 0; at < subject.size; at += 1 << 16) {
		size_t size = subject.size - at < 1 << 16 ? subject.size - at : 1 << 16;

		if (pread(subject.descriptor, page, size, (off_t)at) != (ssize_t)size)
			abort();
		if (memcmp(page, subject.bytes + at, size) != 0)
			change(at, subject.bytes + at, size);
	}
}

/* --- looks --- */

static void limit_set(int seconds)
{
	const struct itimerval limit = { .it_value.tv_sec = seconds };

	setitimer(ITIMER_PROF, &limit, NULL);
}

/* Returns whether a heap was read, and all that is made of it was. */
static bool core_look(void)
{
	const struct patient_source source = { .core = subject.path };
	struct patient *patient = malloc(sizeof(*patient));
	FILE *nowhere = fopen("/dev/null", "w");
	bool read = false;

	if (!patient || !nowhere)
		abort();
	limit_set(SECONDS_MOST);
	if (patient_take(patient, "doctor", NULL, &source, true) == COMMAND_OK) {
		if (patient->outcome == READING_DONE && model_check(&patient->model) != 0)
			abort();
		verdict_reach(&patient->model, &VERDICT_LIMITS, patient->outcome == READING_ABSENT,
		              &patient->verdict);
		if (patient->leaks_wanted)
			verdict_weigh_leaks(&patient->leaks, &VERDICT_LIMITS, &patient->verdict);
		if (doctor_report_text(nowhere, patient) != 0 ||
		    doctor_report_json(nowhere, patient) != 0)
			abort();
		read = patient->outcome == READING_DONE;
	}
	patient_discharge(patient);
	limit_set(0);
	fclose(nowhere);
	free(patient);
	return read;
}

static void subject_open(const char *path)
{
	const Elf64_Ehdr *header;
	struct stat status;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0 || fstat(file, &status) != 0)
		abort();
	subject.size = (size_t)status.st_size;
	subject.bytes = mmap(NULL, subject.size, PROT_READ, MAP_PRIVATE, file, 0);
	subject.descriptor = memfd_create("core", MFD_CLOEXEC);
	if (subject.bytes == MAP_FAILED || subject.descriptor < 0)
		abort();
	snprintf(subject.path, sizeof(subject.path), "/proc/self/fd/%d", subject.descriptor);
	header = (const Elf64_Ehdr *)subject.bytes;
	subject.headers = (const Elf64_Phdr *)(subject.bytes + header->e_phoff);
	subject.header_count = header->e_phnum;
	seed_revert();
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	uint64_t seeds = argc > 3 ? strtoul(argv[3], NULL, 10) : SEEDS, read = 0;
	FILE *told = stderr;

	if (argc < 2)
		return 2;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	setrlimit(RLIMIT_AS, &(struct rlimit){ 8ul << 30, 8ul << 30 });
#endif
	subject_open(argv[1]);
	/* The sanitizers write to the descriptor itself. */
	stderr = fopen("/dev/null", "w");
	if (!stderr || !core_look())
		return 1;
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		state = (seed + 1) * 0x9e3779b97f4a7c15u;
		if (getenv("VERBOSE"))
			fprintf(told, "seed %lu\n", seed);
		seed_apply(seed);
		read += core_look();
		seed_revert();
	}
	printf("%lu cores, %lu of them still whole\n", seeds, read);
	/* Changes that do nothing, or make all of them unreadable, test nothing. */
	return read < seeds / 50 || read > seeds * 3 / 4;
}
