/*
 * A scenario of the doctor's target: a heap that is corrupted in one of many ways.
 */
#include <stdlib.h>
#include <unistd.h>

#include "doctor/target.h"

static void garble(void *begin, size_t size, long count, uint64_t *random)
{
	while (count--)
		((char *)begin)[random_next(random) % size] = (char)random_next(random);
}

/* Words that look like a heap's: sizes, flags, addresses in the heap. */
static void forge(void *begin, size_t size, long count, void *heap, uint64_t *random)
{
	while (count--) {
		uint64_t word = random_next(random) % 3 ? random_next(random) % 0x2000 :
		                (uint64_t)heap + random_next(random) % 0x100000;

		((uint64_t *)begin)[random_next(random) % (size / 8)] =
			random_next(random) % 2 ? word & ~15ul : word | 1;
	}
}

static void *page_of(const void *address)
{
	return (void *)((uintptr_t)address & ~(PAGE - 1));
}

void broken(const long *numbers)
{
	size_t *all[1000];
	uint64_t random = (uint64_t)numbers[1] * 2654435761u + 1;
	char *arena;

	if (numbers[0] >= 14)
		threads_start(3, 3000, 1000, 5);
	for (int i = 0; i < 1000; i++)
		all[i] = take(i % 2 ? 2000 : 100);
	for (int i = 1; i < 1000; i += 4)
		free(all[i]);
	for (int i = 500; i < 520; i += 2)
		free(all[i]);
	info_tell("whole");
	/* The last one freed leads back to the head of the arena's first list. */
	arena = (char *)all[997][1];
	switch (numbers[0]) {
	case 0:                      /* a size that leads out of the heap */
		all[300][-1] = 0x7ffffffff1;
		break;
	case 1:                      /* a size of zero */
		all[300][-1] = 1;
		break;
	case 2:                      /* a free block's list that bites its tail */
		all[401][0] = (size_t)(all[401] - 2);
		break;
	case 3:                      /* a list to nowhere */
		all[401][0] = 0x4141414141414141;
		break;
	case 4:                      /* a cache's list that leads into a live block */
		all[512][0] = (size_t)all[512] >> 12 ^ ((size_t)all[2] + 32);
		break;
	case 5:                      /* two neighbours that tell different sizes */
		all[402][-2] = 64;
		break;
	case 6:                      /* a list that does not lead back */
		all[401][1] += 16;
		break;
	case 7:                      /* a fast bin's list that bites its tail */
		all[518][0] = (size_t)all[518] >> 12 ^ (size_t)(all[518] - 2);
		break;
	case 8:                      /* a free block in no list: its neighbours pass it by */
		((size_t *)all[405][0])[3] = all[405][1];
		((size_t *)all[405][1])[2] = all[405][0];
		break;
	case 9:                      /* a free block in the list for another size */
		((size_t *)all[405][0])[3] = all[405][1];
		((size_t *)all[405][1])[2] = all[405][0];
		all[405][0] = all[405][1] = (size_t)(arena + 4 * 16);
		((size_t *)all[405][0])[2] = ((size_t *)all[405][0])[3] = (size_t)(all[405] - 2);
		break;
	case 10:                     /* a block in a cache's list for another size */
		all[512][0] = (size_t)all[512] >> 12 ^ (size_t)all[3];
		all[3][0] = (size_t)all[3] >> 12;
		break;
	case 17:                     /* a cache's list that bites its tail */
		all[512][0] = (size_t)all[512] >> 12 ^ (size_t)all[512];
		break;
	case 16:                     /* nothing, but that a thread seems to be inside */
		*(int *)(arena - 96) = 1;
		break;
	case 11:                     /* anything, in the heap */
		garble(all[0], 1000000, numbers[2], &random);
		break;
	case 12:                     /* in the arena and the parameters around it */
		garble(page_of(arena), 2 * PAGE, numbers[2], &random);
		break;
	case 13:                     /* the same, with words that could be right */
		forge(page_of(arena), 2 * PAGE, numbers[2], all[0], &random);
		break;
	case 14:                     /* in the heaps of other arenas */
		for (int i = 0; i < 3; i++)
			for (size_t slot = 0; slot < 1000; slot++)
				/* Not a mapping of its own. */
				if (threads_slots(i)[slot] &&
				    ((size_t *)threads_slots(i)[slot])[-1] & 4)
					forge((void *)((uintptr_t)threads_slots(i)[slot] &
					      ~((64ul << 20) - 1)), 2 * PAGE, 1, all[0], &random);
		break;
	default:                     /* in all the heap */
		forge(page_of(all[0]), 1000000, numbers[2], all[0], &random);
	}
	/* No more than this may work. */
	if (write(1, "broken\n", 7) != 7)
		_exit(1);
	for (;;)
		pause();
}
