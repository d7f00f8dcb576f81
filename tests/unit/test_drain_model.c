/*
 * The drain of an idle thread's cache (heap/cache.h) as a model: a thread that
 * takes and gives blocks, two others that take its cache over, and every order in
 * which their steps and their stores can reach memory.
 *
 * The processor is x86's: each thread has a queue of stores that others do not see
 * yet; its own loads do; a locked operation waits until the queue is empty.
 * membarrier returns once the owner has passed a moment at which its queue was
 * empty.  The search keeps every state it has seen, whole.
 *
 * What the lock of the cache guards is one step, as nobody else looks meanwhile.
 * There is one cache of one bin: what a pass does to others between its two looks is nothing
 * to this one but time, and a pass takes all bins of a cache or none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/drain_model.h"

#define TABLE (1u << 21)

/* What the protocol must not do without, to be left out one at a time. */
enum fault {
	NONE, NO_BARRIER, BARRIER_COMES_FIRST, BUSY_CLEARED_EARLY, BUSY_SET_LATE, BUSY_NOT_READ,
	PASSES_AT_ONCE, SHUT_NOT_CANCELLED, BUSY_LEFT_SHUT, SHUT_PASSED_OVER, HANDLER_OPENS, FAULTS
};

struct search {
	enum fault fault;
	const char *violation;
	struct state *seen;
	bool *used;
	uint32_t *pending; /* indices of `seen` to go on from */
	size_t states, waiting;
};

/* ---- blocks ---- */

/* Whoever takes a block must find it where it believes it to be. */
static void take(struct search *search, struct state *s, unsigned block, enum place from,
                 enum place to)
{
	if (s->place[block] != from)
		search->violation = "a block has two owners";
	s->place[block] = (uint8_t)to;
}

static unsigned find_block(const struct state *s, enum place place)
{
	unsigned block = 0;

	while (block < BLOCKS && s->place[block] != place)
		block++;
	return block;
}

/* ---- the owner's slow path: the lock is held and the queue is empty ---- */

static void open_bin(struct state *s)
{
	s->memory[BASE] = s->capacity == 0 ? 0 : ARRAY;
	s->memory[LIMIT] = s->memory[BASE] + s->capacity;
}

static void grow(struct state *s)
{
	if (s->capacity != 0)
		return;
	s->capacity = SLOTS;
	s->memory[TOP] = ARRAY;
	open_bin(s);
}

static void push(struct search *search, struct state *s, unsigned block, enum place from)
{
	s->memory[SLOT + s->memory[TOP]++] = (uint8_t)block;
	take(search, s, block, from, IN_CACHE);
}

static unsigned pop(struct search *search, struct state *s, enum place to)
{
	unsigned block = s->memory[SLOT + --s->memory[TOP]];

	take(search, s, block, IN_CACHE, to);
	return block;
}

static void refill(struct search *search, struct state *s)
{
	unsigned block;

	if (s->capacity != 0 && s->memory[TOP] > ARRAY) {
		(void)pop(search, s, WITH_OWNER);
		return;
	}
	grow(s);
	if ((block = find_block(s, IN_HEAP)) < BLOCKS)
		take(search, s, block, IN_HEAP, WITH_OWNER);
	if ((block = find_block(s, IN_HEAP)) < BLOCKS)
		push(search, s, block, IN_HEAP);
}

static void make_room(struct search *search, struct state *s)
{
	grow(s);
	if (s->memory[TOP] == s->memory[LIMIT])
		(void)pop(search, s, IN_HEAP);
	push(search, s, s->block, WITH_OWNER);
}

static void slow_work(struct search *search, struct state *s)
{
	if (s->memory[STATE] != OPEN) {
		if (search->fault != SHUT_NOT_CANCELLED || s->memory[STATE] == DRAINED)
			s->memory[STATE] = OPEN;
		open_bin(s);
	}
	if (s->frees)
		make_room(search, s);
	else
		refill(search, s);
}

/* ---- the owner ---- */

/* `choice`: 0 allocates, the others free that block; false: it is not to be had. */
static bool owner_chooses(struct state *s, unsigned choice)
{
	if (s->left[OWNER] == 0 || (choice > 0 && s->place[choice - 1] != WITH_OWNER))
		return false;
	s->left[OWNER]--;
	s->frees = choice > 0;
	s->block = s->frees ? (uint8_t)(choice - 1) : 0;
	return true;
}

/* For ever. */
static bool owner_sleeps(struct state *s)
{
	if (s->at[OWNER] != OWNER_CHOOSES || s->left[OWNER] == 0)
		return false;
	s->left[OWNER] = 0;
	return true;
}

static bool owner_tests(struct search *search, struct state *s)
{
	unsigned top = s->top[OWNER];

	s->served = s->frees ? top < s->bound : top > s->bound;
	if (!s->served)
		return true;
	if (s->frees) {
		if (!store(s, OWNER, SLOT + top, s->block))
			return false;
		take(search, s, s->block, WITH_OWNER, IN_CACHE);
	} else {
		take(search, s, load(s, OWNER, SLOT + top - 1), IN_CACHE, WITH_OWNER);
	}
	return true;
}

static bool owner_moves(struct state *s)
{
	return !s->served ||
	       store(s, OWNER, TOP, s->frees ? s->top[OWNER] + 1u : s->top[OWNER] - 1u);
}

/*
 * A signal handler, which wants a block of another bin, finds the cache shut, and opens it,
 * but not over an operation that is under way in this bin.
 */
static bool owner_is_interrupted(const struct search *search, struct state *s)
{
	if (s->at[OWNER] == OWNER_CHOOSES || s->queued[OWNER] != 0 || s->lock != NOBODY ||
	    s->memory[STATE] == OPEN)
		return false;
	if (s->memory[BUSY] != 0 && search->fault != HANDLER_OPENS)
		return false;
	s->memory[STATE] = OPEN;
	open_bin(s);
	return true;
}

/* The step of the operation at `at`, and what it leaves for later. */
static bool owner_does(struct search *search, struct state *s, enum owner_at at)
{
	switch (at) {
	case SET_BUSY:
	case SLOW_SET_BUSY:
		return store(s, OWNER, BUSY, 1);
	case READ_TOP:
		s->top[OWNER] = load(s, OWNER, TOP);
		return true;
	case READ_BOUND:
		s->bound = load(s, OWNER, s->frees ? LIMIT : BASE);
		return true;
	case TEST_BOUND:
		return owner_tests(search, s);
	case MOVE_TOP:
		return owner_moves(s);
	case CLEAR_BUSY:
	case SLOW_CLEAR_BUSY:
		return store(s, OWNER, BUSY, 0);
	case SLOW_LOCK:
		if (s->queued[OWNER] != 0 || s->lock != NOBODY)
			return false;
		s->lock = OWNER;
		return true;
	case SLOW_WORK:
		slow_work(search, s);
		return true;
	case SLOW_UNLOCK:
		s->lock = NOBODY;
		return true;
	default:
		return false;
	}
}

/* The protocol's order, or the faulty one. */
static enum owner_at owner_order(enum fault fault, enum owner_at at)
{
	static const uint8_t late[] = { [SET_BUSY] = READ_TOP, [READ_TOP] = READ_BOUND,
	                                [READ_BOUND] = SET_BUSY };

	if (fault == BUSY_SET_LATE && at >= SET_BUSY && at <= READ_BOUND)
		return late[at];
	if (fault == BUSY_CLEARED_EARLY && at == MOVE_TOP)
		return CLEAR_BUSY;
	if (fault == BUSY_CLEARED_EARLY && at == CLEAR_BUSY)
		return MOVE_TOP;
	return at;
}

static bool owner_step(struct search *search, struct state *s, unsigned choice)
{
	enum owner_at at = s->at[OWNER];

	if (at == OWNER_CHOOSES) {
		if (!owner_chooses(s, choice))
			return false;
	} else if (choice != 0 || !owner_does(search, s, owner_order(search->fault, at))) {
		return false;
	}
	s->at[OWNER] = (uint8_t)(at + 1);
	if (at == SLOW_CLEAR_BUSY || (at == CLEAR_BUSY && s->served)) {
		s->at[OWNER] = OWNER_CHOOSES;
		/* Registers that are dead must not make two states of one. */
		s->frees = s->served = s->block = s->top[OWNER] = s->bound = 0;
	}
	return true;
}

/* ---- the drainers ---- */

/* Whether the owner has passed its test and its new top is not in memory yet. */
static bool owner_moves_top(const struct state *s)
{
	for (unsigned i = 0; i < s->queued[OWNER]; i++) {
		if (s->queue[OWNER][i].location == TOP)
			return true;
	}
	return s->served && s->at[OWNER] > TEST_BOUND && s->at[OWNER] <= CLEAR_BUSY;
}

static bool write_top(struct search *search, struct state *s, enum who who, unsigned top)
{
	if (owner_moves_top(s))
		search->violation = "a drainer writes a top that it does not own";
	return store(s, who, TOP, top);
}

/* Whether the cache is the drainer's now; else the pass goes on without it. */
static void try_lock(struct state *s, enum who who)
{
	if (s->lock == NOBODY)
		s->lock = who;
	else
		s->at[who] = END_PASS;
}

static bool begin_pass(struct search *search, struct state *s, enum who who)
{
	bool alone = search->fault != PASSES_AT_ONCE;

	if (s->left[who] == 0 || (alone && s->pass != NOBODY))
		return false;
	s->left[who]--;
	if (alone)
		s->pass = who;
	return true;
}

static bool first_lock(struct search *search, struct state *s, enum who who)
{
	uint8_t seen = s->memory[STATE];

	if (seen == DRAINED || (seen == SHUT && search->fault == SHUT_PASSED_OVER))
		s->at[who] = END_PASS;
	else
		try_lock(s, who);
	return true;
}

/* The state of the cache, which none reads without the lock, is new with that. */
static bool unlock(struct state *s, enum who who, enum cache cache)
{
	if (s->queued[who] != 0)
		return false;
	s->memory[STATE] = (uint8_t)cache;
	s->lock = NOBODY;
	if (cache != SHUT || s->at[who] > SECOND_LOCK)
		s->at[who] = END_PASS;
	return true;
}

static bool begin_barrier(struct search *search, struct state *s, enum who who)
{
	s->barrier_due[who] = search->fault != NO_BARRIER;
	return s->queued[who] == 0;
}

static bool read_busy(struct search *search, struct state *s, enum who who)
{
	if (s->memory[STATE] != SHUT)
		s->at[who] = UNLOCK;
	else if (search->fault != BUSY_NOT_READ && load(s, who, BUSY))
		s->at[who] = search->fault == BUSY_LEFT_SHUT ? UNLOCK : OPEN_BASE;
	return true;
}

static bool take_top(struct state *s, enum who who)
{
	s->top[who] = load(s, who, TOP);
	if (s->capacity == 0 || s->top[who] == ARRAY)
		s->at[who] = SET_TOP;
	return true;
}

static bool take_slot(struct search *search, struct state *s, enum who who)
{
	unsigned top = s->top[who];

	s->at[who] = TAKE_TOP;
	take(search, s, load(s, who, SLOT + top - 1), IN_CACHE, IN_HEAP);
	return write_top(search, s, who, top - 1);
}

static bool set_top(struct search *search, struct state *s, enum who who)
{
	s->capacity = s->top[who] = 0;
	return write_top(search, s, who, 0);
}

static bool end_pass(struct state *s, enum who who)
{
	s->at[who] = BEGIN_PASS;
	if (s->pass == who)
		s->pass = NOBODY;
	return true;
}

/* True: done; s->at[who] is then the next step, by default the following one. */
static bool drainer_does(struct search *search, struct state *s, enum who who,
                         enum drainer_at at)
{
	switch (at) {
	case BEGIN_PASS:
		return begin_pass(search, s, who);
	case FIRST_LOCK:
		return first_lock(search, s, who);
	case SHUT_BASE:
		return store(s, who, BASE, BASE_SHUT);
	case SHUT_LIMIT:
		return store(s, who, LIMIT, LIMIT_SHUT);
	case UNLOCK_SHUT:
		return unlock(s, who, SHUT);
	case BARRIER:
		return begin_barrier(search, s, who);
	case AWAIT_BARRIER:
		return !s->barrier_due[who];
	case SECOND_LOCK:
		try_lock(s, who);
		return true;
	case READ_BUSY:
		return read_busy(search, s, who);
	case TAKE_TOP:
		return take_top(s, who);
	case TAKE_SLOT:
		return take_slot(search, s, who);
	case SET_TOP:
		return set_top(search, s, who);
	case UNLOCK_DRAINED:
		return unlock(s, who, DRAINED);
	case OPEN_BASE:
		return store(s, who, BASE, s->capacity == 0 ? 0 : ARRAY);
	case OPEN_LIMIT:
		return store(s, who, LIMIT, s->capacity == 0 ? 0 : ARRAY + s->capacity);
	case UNLOCK_OPEN:
		return unlock(s, who, OPEN);
	case UNLOCK:
		return unlock(s, who, s->memory[STATE]);
	case END_PASS:
		return end_pass(s, who);
	default:
		return false;
	}
}

/* The order of the pass, or the faulty one. */
static enum drainer_at drainer_order(enum fault fault, enum drainer_at at)
{
	static const uint8_t early[] = {
		[FIRST_LOCK] = BARRIER, [SHUT_BASE] = AWAIT_BARRIER, [SHUT_LIMIT] = FIRST_LOCK,
		[UNLOCK_SHUT] = SHUT_BASE, [BARRIER] = SHUT_LIMIT, [AWAIT_BARRIER] = UNLOCK_SHUT
	};

	if (fault == BARRIER_COMES_FIRST && at >= FIRST_LOCK && at <= AWAIT_BARRIER)
		return early[at];
	return at;
}

static bool drainer_step(struct search *search, struct state *s, enum who who)
{
	enum drainer_at at = s->at[who];

	s->at[who] = (uint8_t)(at + 1);
	return drainer_does(search, s, who, drainer_order(search->fault, at));
}

/* ---- the search ---- */

static uint64_t hash(const struct state *s)
{
	const uint8_t *bytes = (const uint8_t *)s;
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < sizeof(*s); i++)
		h = (h ^ bytes[i]) * 0x100000001b3;
	return h ^ (h >> 32);
}

static void visit(struct search *search, const struct state *s)
{
	size_t i = hash(s) % TABLE;

	while (search->used[i]) {
		if (memcmp(&search->seen[i], s, sizeof(*s)) == 0)
			return;
		i = (i + 1) % TABLE;
	}
	assert_true(++search->states < TABLE / 4 * 3);
	search->used[i] = true;
	search->seen[i] = *s;
	search->pending[search->waiting++] = (uint32_t)i;
}

/* Nobody can go on: everything must be done, and every block in its place. */
static void check_end(struct search *search, const struct state *s)
{
	bool cached[BLOCKS] = { false };

	for (enum who who = OWNER; who < THREADS; who++) {
		if (s->left[who] != 0 || s->at[who] != (who == OWNER ? OWNER_CHOOSES : BEGIN_PASS))
			search->violation = "somebody waits for ever";
	}
	if (s->memory[STATE] == SHUT)
		search->violation = "a cache stays shut";
	for (unsigned i = ARRAY; s->capacity != 0 && i < s->memory[TOP]; i++)
		cached[s->memory[SLOT + i]] = true;
	for (unsigned b = 0; b < BLOCKS; b++) {
		if (cached[b] != (s->place[b] == IN_CACHE))
			search->violation = "a block is lost";
	}
}

/* Visits whatever can come next of *s. */
static void go_on(struct search *search, const struct state *s)
{
	enum { KINDS = 3, STEPS = 1 + BLOCKS + KINDS * THREADS + 1 };
	bool any = false;

	for (unsigned step = 0; step < STEPS && search->violation == NULL; step++) {
		struct state next = *s;
		enum who who = (step - 1 - BLOCKS) % THREADS;
		unsigned kind = (step - 1 - BLOCKS) / THREADS;
		bool done;

		if (step <= BLOCKS)
			done = owner_step(search, &next, step);
		else if (step == STEPS - 1)
			done = owner_is_interrupted(search, &next);
		else if (kind == 0)
			done = who == OWNER ? owner_sleeps(&next) : drainer_step(search, &next, who);
		else if (kind == 1)
			done = pass_barrier(&next, who);
		else
			done = reach_memory(&next, who);
		if (!done)
			continue;
		any = true;
		visit(search, &next);
	}
	if (!any)
		check_end(search, s);
}

/* Where a search begins. */
struct beginning {
	uint8_t operations, passes[2]; /* of the owner, of each drainer */
	bool is_shut; /* by a thread that a fork left behind in the middle of its pass */
};

static const struct beginning beginnings[] = {
	{ 5, { 3, 0 }, false },
	{ 4, { 2, 0 }, true },
	{ 3, { 2, 1 }, false },
	{ 3, { 2, 1 }, true },
};

#define BEGINNINGS (sizeof(beginnings) / sizeof(*beginnings))

/* What the protocol with that fault does wrong, or NULL. */
static const char *search_from(const struct beginning *begin, enum fault fault)
{
	struct search search = { .fault = fault };
	struct state first = {
		.memory = { [TOP] = ARRAY + 1, [BASE] = begin->is_shut ? BASE_SHUT : ARRAY,
		            [LIMIT] = begin->is_shut ? LIMIT_SHUT : ARRAY + SLOTS,
		            [STATE] = begin->is_shut ? SHUT : OPEN },
		.lock = NOBODY,
		.pass = NOBODY,
		.capacity = SLOTS,
		.left = { begin->operations, begin->passes[0], begin->passes[1] },
		.place = { IN_CACHE, WITH_OWNER, IN_HEAP },
	};

	search.seen = calloc(TABLE, sizeof(*search.seen));
	search.used = calloc(TABLE, sizeof(*search.used));
	search.pending = calloc(TABLE, sizeof(*search.pending));
	assert_true(search.seen != NULL && search.used != NULL && search.pending != NULL);
	visit(&search, &first);
	while (search.waiting > 0 && search.violation == NULL) {
		struct state s = search.seen[search.pending[--search.waiting]];

		go_on(&search, &s);
	}
	printf("%zu states: %s\n", search.states,
	       search.violation != NULL ? search.violation : "sound");
	free(search.seen);
	free(search.used);
	free(search.pending);
	return search.violation;
}

static void the_protocol_is_sound(void **state)
{
	(void)state;
	for (size_t i = 0; i < BEGINNINGS; i++)
		assert_null(search_from(&beginnings[i], NONE));
}

/* Else the search would prove nothing. */
static void each_part_of_it_is_needed(void **state)
{
	(void)state;
	for (enum fault fault = NONE + 1; fault < FAULTS; fault++) {
		const char *found = NULL;

		for (size_t i = 0; i < BEGINNINGS && found == NULL; i++)
			found = search_from(&beginnings[i], fault);
		assert_non_null(found);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_protocol_is_sound),
		cmocka_unit_test(each_part_of_it_is_needed),
	};

	return cmocka_run_group_tests_name("drain_model", tests, NULL, NULL);
}
