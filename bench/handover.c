/*
 * handover: blocks that another thread frees than took them.  Layer: a program of its
 * own that links libc alone; the runner preloads the allocator.
 *
 *   handover server LINES GENERATIONS OBJECTS REPLACEMENTS   LINES threads at a time;
 *       each inherits OBJECTS blocks of 24 B to 1.5 KiB, replaces REPLACEMENTS of
 *       them chosen at random, starts its successor with them and ends
 *   handover relay PRODUCERS CONSUMERS BATCHES               each producer takes
 *       BATCHES batches of 1000 blocks of 100 bytes; the consumers give them back
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <string.h>

#include "block.h"

struct line {
	LINES_OF_ITS_OWN struct rng rng;
	struct block **objects;
	size_t count, replacements, generations; /* the last: still to come */
	uint64_t bytes;
	sem_t ended;
};

static size_t object_size(struct rng *rng)
{
	return size_skewed(rng, BLOCK_SMALLEST, 6);
}

static void *line_serve(void *argument_of_thread)
{
	struct line *line = argument_of_thread;
	pthread_t successor;

	CHECK(pthread_detach(pthread_self()) == 0);
	for (size_t i = 0; i < line->replacements; i++) {
		struct block **object = &line->objects[rng_below(&line->rng, line->count)];

		line->bytes += block_give(*object);
		*object = block_take(object_size(&line->rng));
	}
	if (--line->generations > 0)
		CHECK(pthread_create(&successor, NULL, line_serve, line) == 0);
	else
		CHECK(sem_post(&line->ended) == 0);
	return NULL;
}

static void line_start(struct line *line)
{
	pthread_t first;

	line->objects = calloc(line->count, sizeof(*line->objects));
	CHECK(line->objects != NULL && sem_init(&line->ended, 0, 0) == 0);
	for (size_t i = 0; i < line->count; i++)
		line->objects[i] = block_take(object_size(&line->rng));
	CHECK(pthread_create(&first, NULL, line_serve, line) == 0);
}

static uint64_t line_end(struct line *line)
{
	while (sem_wait(&line->ended) != 0)
		;
	for (size_t i = 0; i < line->count; i++)
		line->bytes += block_give(line->objects[i]);
	free(line->objects);
	return line->bytes;
}

static uint64_t server(size_t count, const struct line *model)
{
	struct line *lines = row_take(count, sizeof(*lines));
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		lines[i] = *model;
		lines[i].rng.state = i;
		line_start(&lines[i]);
	}
	for (size_t i = 0; i < count; i++)
		bytes += line_end(&lines[i]);
	free(lines);
	return bytes;
}

#define BATCH       1000
#define BLOCK_BYTES 100
#define DEPTH       32

/* Batches on their way; a thread that finds no room or no batch sleeps, so that
 * waiting costs no processor time.  All fields are guarded by `lock`. */
struct relay {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct block *batches[DEPTH];
	size_t sent, received, total; /* batches */
	uint64_t bytes;
	size_t batches_each; /* const after start */
};

static void relay_send(struct relay *relay, struct block *batch)
{
	pthread_mutex_lock(&relay->lock);
	while (relay->sent - relay->received == DEPTH)
		pthread_cond_wait(&relay->changed, &relay->lock);
	relay->batches[relay->sent++ % DEPTH] = batch;
	pthread_cond_broadcast(&relay->changed);
	pthread_mutex_unlock(&relay->lock);
}

/* Adds `bytes`, what the last batch held; NULL when no batch is to come. */
static struct block *relay_receive(struct relay *relay, uint64_t bytes)
{
	struct block *batch = NULL;

	pthread_mutex_lock(&relay->lock);
	relay->bytes += bytes;
	while (relay->received == relay->sent && relay->received < relay->total)
		pthread_cond_wait(&relay->changed, &relay->lock);
	if (relay->received < relay->total)
		batch = relay->batches[relay->received++ % DEPTH];
	pthread_cond_broadcast(&relay->changed);
	pthread_mutex_unlock(&relay->lock);
	return batch;
}

static void *relay_produce(void *argument_of_thread)
{
	struct relay *relay = argument_of_thread;

	for (size_t i = 0; i < relay->batches_each; i++) {
		struct block *batch = NULL;

		for (size_t j = 0; j < BATCH; j++) {
			struct block *block = block_take(BLOCK_BYTES);

			block->next = batch;
			batch = block;
		}
		relay_send(relay, batch);
	}
	return NULL;
}

static void *relay_consume(void *argument_of_thread)
{
	struct relay *relay = argument_of_thread;
	struct block *block, *next;
	uint64_t bytes = 0;

	while ((block = relay_receive(relay, bytes)) != NULL)
		for (bytes = 0; block != NULL; block = next) {
			next = block->next;
			bytes += block_give(block);
		}
	return NULL;
}

static uint64_t relay_run(size_t producers, size_t consumers, size_t batches_each)
{
	static struct relay relay = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	pthread_t *threads = calloc(producers + consumers, sizeof(*threads));

	CHECK(threads != NULL);
	relay.batches_each = batches_each;
	relay.total = producers * batches_each;
	for (size_t i = 0; i < producers + consumers; i++)
		CHECK(pthread_create(&threads[i], NULL,
		                     i < producers ? relay_produce : relay_consume, &relay) == 0);
	for (size_t i = 0; i < producers + consumers; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	free(threads);
	return relay.bytes;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";

	if (!strcmp(pattern, "server")) {
		struct line model = { .generations = argument(argc, argv, 3),
			              .count = argument(argc, argv, 4),
			              .replacements = argument(argc, argv, 5) };

		report(server(argument(argc, argv, 2), &model));
	} else if (!strcmp(pattern, "relay")) {
		report(relay_run(argument(argc, argv, 2), argument(argc, argv, 3),
		                 argument(argc, argv, 4)));
	} else {
		CHECK_THAT(false, "no such pattern: %s", pattern);
	}
	return 0;
}
