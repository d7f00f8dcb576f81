/*
 * doctor: what it makes of models drawn by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "doctor/drawn.h"
#include "doctor/verdict.h"

#define BASE 0x10000000ul
#define MIB (1ul << 20)

static uint64_t predicted(struct model *model)
{
	struct trim trim;

	drawn_finish(model);
	trim_predict(model, &trim);
	model_free(model);
	return trim.bytes;
}

static uint64_t predicted_of(const char *blocks, const char *pages)
{
	struct model model = { 0 };

	drawn_region(&model, MODEL_BREAK, 0, BASE, blocks, pages);
	return predicted(&model);
}

/* Of a free block all pages go but those of its first 48 bytes and its rest. */
static void test_trim_bins(void **state)
{
	(void)state;
	assert_int_equal(predicted_of("L4048 B4144 L4096", "R"), 4096);
	assert_int_equal(predicted_of("L4064 B4128 L4096", "R"), 0);
	assert_int_equal(predicted_of("L32 B8160 L4096", "R"), 4096);
	assert_int_equal(predicted_of("L32 B12256 L4096", "R"), 8192);
	assert_int_equal(predicted_of("L32 B12256 L4096", "RR-R"), 4096);
	assert_int_equal(predicted_of("L32 B12256 L4096", "RZSR"), 0);
	assert_int_equal(predicted_of("L32 B12256 L4096 B8192 L4096", "R"), 8192 + 4096);
}

static void test_trim_merges(void **state)
{
	(void)state;
	/* A fast block joins its neighbours; a cached one keeps them apart. */
	assert_int_equal(predicted_of("L32 B8160 F32 B4064 L4096", "R"), 8192);
	assert_int_equal(predicted_of("L32 B8160 C32 B4064 L4096", "R"), 4096);
	assert_int_equal(predicted_of("L4064 F32 F32 F32 F4032 L4096", "R"), 0);
	assert_int_equal(predicted_of("L4048 F48 F4096 L4096", "R"), 4096);
}

static void test_trim_top(void **state)
{
	struct model model = { 0 };
	struct trim trim;

	(void)state;
	/* Of the top stay 33 bytes, rounded up to pages. */
	assert_int_equal(predicted_of("L32 T8160", "R"), 4096);
	assert_int_equal(predicted_of("L4064 T4128", "R"), 0);
	assert_int_equal(predicted_of("L4048 T4144", "R"), 4096);
	assert_int_equal(predicted_of("L4096 T32", "R"), 0);

	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 B20448 F32 T4064", "R");
	drawn_finish(&model);
	trim_predict(&model, &trim);
	assert_int_equal(trim.bytes, 5 * 4096);
	assert_int_equal(trim.top_bytes, 5 * 4096);
	/* The page in which the top begins would not have gone, nor those below. */
	assert_int_equal(trim.merged_top_bytes, 4 * 4096);
	model_free(&model);

	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 T409568", "R");
	model.settings.trim_unit = 65536;
	assert_int_equal(predicted(&model), 6 * 65536);
}

static void test_trim_elsewhere(void **state)
{
	struct model model = { 0 };

	(void)state;
	/* The break has gone on without us. */
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 T81888", "R");
	model.arenas[0].top_shrinks = false;
	assert_int_equal(predicted(&model), 0);
	/* Other arenas: bins, but not the top. */
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4096", "R");
	drawn_region(&model, MODEL_HEAP, 1, BASE + MIB, "I2240 B10048 L32 T81888", "R");
	assert_int_equal(predicted(&model), 8192);
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4096", "R");
	drawn_region(&model, MODEL_HEAP, 1, BASE + MIB, "I2240 L32 B9984 F32 T81920", "R");
	assert_int_equal(predicted(&model), 0);
	/* A mapped block is live. */
	drawn_region(&model, MODEL_MAPPED, 0, BASE, "L81920", "R");
	assert_int_equal(predicted(&model), 0);
}

/* Where whole pages go by themselves: caches are emptied, the header is longer, and every
 * arena's top goes. */
static void test_trim_whole_pages(void **state)
{
	struct model model = { .settings = { .giving = MODEL_GIVES_SOON } };
	struct trim trim;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4000 B4192 L4096", "R");
	assert_int_equal(predicted(&model), 4096);
	model.settings.giving = MODEL_GIVES_SOON;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4016 B4176 L4096", "R");
	assert_int_equal(predicted(&model), 0);
	model.settings.giving = MODEL_GIVES_MORE;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 B4064 C32 B8160 L4096", "R");
	assert_int_equal(predicted(&model), 8192);
	model.settings.giving = MODEL_GIVES_ON_CALL;
	drawn_region(&model, MODEL_HEAP, 0, BASE, "I4064 T8224", "R");
	drawn_region(&model, MODEL_SLABS, 0, BASE + 0x100000, "S4080 C16 L16 S8176 S4096 S4096", "RRRR-");
	drawn_region(&model, MODEL_MAPPED, 0, BASE + 0x200000, "B8192", "R");
	drawn_region(&model, MODEL_OWN, 0, BASE + 0x300000, "I4096 S4096", "R");
	drawn_finish(&model);
	trim_predict(&model, &trim);
	model_free(&model);
	/* The top's, the slabs' first, third and fourth page, the spare's, what described them. */
	assert_int_equal(trim.top_bytes, 8192);
	assert_int_equal(trim.bytes, 8192 + 3 * 4096 + 8192 + 4096);
}

static void test_account(void **state)
{
	struct model model = { 0 };
	struct account account;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE,
	             "L4000 B96 B4096 C4096 X4096 L16 T4080 T4096", "RRRRR-");
	drawn_region(&model, MODEL_MAPPED, 0, BASE + MIB, "L8192", "R-");
	model_add_mapping(&model, &(struct model_mapping){
		.begin = BASE, .end = BASE + 2 * MIB, .resident_bytes = 10 * 4096, .swapped_bytes = 4096 });
	model_add_mapping(&model, &(struct model_mapping){
		.begin = 4096, .end = 8192, .kind = MODEL_FILE, .resident_bytes = 4096 });
	model_add_mapping(&model, &(struct model_mapping){
		.begin = 8192, .end = 12288, .kind = MODEL_STACK, .resident_bytes = 8192 });
	model.arenas[0].top_bytes = 8176;
	drawn_finish(&model);
	account_fill(&model, &account);

	assert_int_equal(account.heap_bytes, 6 * 4096);
	assert_int_equal(account.resident[MODEL_LIVE], 4000 + 16 + 4096);
	assert_int_equal(account.mapped_bytes, 4096);
	assert_int_equal(account.resident[MODEL_BIN], 96 + 4096);
	assert_int_equal(account.resident[MODEL_CACHED], 4096);
	assert_int_equal(account.resident[MODEL_FOREIGN], 4096);
	assert_int_equal(account.resident[MODEL_TOP], 4080);
	assert_int_equal(account.absent[MODEL_TOP], 4096);
	assert_int_equal(account.absent[MODEL_LIVE], 4096);
	assert_int_equal(account.whole[MODEL_BIN], 4096);
	assert_int_equal(account.whole[MODEL_CACHED], 4096);
	assert_int_equal(account.whole_bytes, 8192);
	assert_int_equal(account.shared[MODEL_BIN], 96);
	assert_int_equal(account.shared[MODEL_TOP], 4080);
	assert_int_equal(account.shared_bytes, 96 + 4080);

	assert_int_equal(account.resident_bytes, 13 * 4096);
	assert_int_equal(account.file_bytes, 4096);
	assert_int_equal(account.stack_bytes, 8192);
	assert_int_equal(account.other_bytes, 4 * 4096);
	assert_int_equal(account.swapped_bytes, 4096);
	assert_int_equal(account.live_blocks, 3);
	assert_int_equal(account.live_bytes, 4000 + 16 + 8192);
	model_free(&model);
}

static void test_classes(void **state)
{
	struct model model = { 0 };
	struct account account;
	uint64_t pinned = 0;

	(void)state;
	assert_int_equal(account_class_of(16), 0);
	assert_int_equal(account_class_of(1024), 63);
	assert_int_equal(account_class_of(1025), 64);
	assert_int_equal(account_class_of(2048), 64);
	assert_int_equal(account_class_of(2049), 65);
	assert_true(account_class_of(UINT64_MAX) < ACCOUNT_CLASSES);

	/* A page's free bytes are divided among the live blocks on it. */
	drawn_region(&model, MODEL_BREAK, 0, BASE,
	             "L32 L48 B4016 B4064 L32 L3200 B896 L16 L16 L16 B4048", "R");
	drawn_finish(&model);
	account_fill(&model, &account);
	assert_int_equal(account.classes[account_class_of(48)].pinned_bytes, 2008);
	assert_int_equal(account.classes[account_class_of(32)].pinned_bytes, 2008 + 4064);
	assert_int_equal(account.classes[account_class_of(32)].live_blocks, 2);
	assert_int_equal(account.classes[account_class_of(3200)].pinned_bytes, 896);
	assert_int_equal(account.classes[account_class_of(3200)].block_bytes, 4096);
	for (size_t i = 0; i < ACCOUNT_CLASSES; i++)
		pinned += account.classes[i].pinned_bytes;
	assert_int_equal(pinned, account.shared_bytes);
	model_free(&model);
}

static void verdict_of(struct model *model, struct verdict *verdict)
{
	drawn_finish(model);
	verdict_reach(model, &VERDICT_LIMITS, false, verdict);
}

/* The gate that holds the most. */
static struct gate first_gate(struct model *model)
{
	struct verdict verdict;

	verdict_of(model, &verdict);
	assert_true(verdict.gate_count > 0);
	assert_int_equal(verdict.kind, VERDICT_RETENTION);
	model_free(model);
	return verdict.gates[0];
}

static void test_gates(void **state)
{
	struct model model = { 0 };
	struct gate gate;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 B33554400 F32 F64 B33554400 F32 T4000", "R");
	gate = first_gate(&model);
	assert_int_equal(gate.kind, GATE_FAST);
	assert_int_equal(gate.key_blocks, 3);
	assert_int_equal(gate.key_bytes, 128);
	assert_true(gate.held_bytes > 64 * MIB - 3 * 4096);

	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 B33554400 L32 B33554400 C32 T4000", "R");
	gate = first_gate(&model);
	assert_int_equal(gate.kind, GATE_PIN);
	assert_int_equal(gate.key_blocks, 2);
	assert_int_equal(gate.cached_blocks, 1);
	assert_int_equal(gate.key_bytes, 64);
	assert_int_equal(gate.address, BASE + 32 + 33554400 + 32 + 33554400);
	assert_true(gate.held_bytes > 64 * MIB - 4 * 4096);

	/* Too much is in use above for that to be the reason. */
	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 B33554400 L1048576 C16777216 T4000", "R");
	gate = first_gate(&model);
	assert_int_equal(gate.kind, GATE_CACHE);
	assert_int_equal(gate.held_bytes, 16 * MIB);

	drawn_region(&model, MODEL_BREAK, 0, BASE, "L32 T33554400", "R");
	model.settings.trim_threshold = 64 * MIB;
	gate = first_gate(&model);
	assert_int_equal(gate.kind, GATE_TOP);
	assert_int_equal(gate.held_bytes, 32 * MIB - 4096);
	assert_int_equal(gate.key_bytes, 64 * MIB);

	drawn_region(&model, MODEL_BREAK, 0, BASE, "L4096", "R");
	drawn_region(&model, MODEL_HEAP, 1, BASE + MIB, "I2240 L32 B16777216 L1824 T33554432", "R");
	gate = first_gate(&model);
	assert_int_equal(gate.kind, GATE_ARENAS);
	assert_int_equal(gate.held_bytes, 48 * MIB - 4096);
	assert_int_equal(gate.key_blocks, 1);
}

/* What goes by itself waits behind no block. */
static void test_waiting(void **state)
{
	struct model model = { .settings = { .giving = MODEL_GIVES_SOON } };
	struct gate gates[GATE_KINDS];
	struct account account;
	struct trim trim;
	size_t count;

	(void)state;
	drawn_region(&model, MODEL_BREAK, 0, BASE, "B40960 L32 T40928", "R");
	drawn_region(&model, MODEL_SLABS, 0, BASE + 0x100000, "S8192 C4096", "R");
	drawn_finish(&model);
	account_fill(&model, &account);
	trim_predict(&model, &trim);
	count = gates_find(&model, &account, &trim, gates);
	assert_int_equal(count, 2);
	assert_int_equal(gates[0].kind, GATE_WAIT);
	/* But for the page of the live block. */
	assert_int_equal(gates[0].held_bytes, 40960 + 9 * 4096 + 8192);
	assert_int_equal(gates[1].kind, GATE_CACHE);
	assert_int_equal(gates[1].held_bytes, 4096);
	model_free(&model);
}

static void test_threshold(void **state)
{
	struct model model = { .settings = { .trim_threshold = 128 << 10 } };

	(void)state;
	assert_false(gates_threshold_grew(&model));
	model.settings.trim_threshold = 4 * MIB;
	assert_true(gates_threshold_grew(&model));
	model.settings.thresholds_fixed = true;
	assert_false(gates_threshold_grew(&model));
}

static enum verdict_kind verdict_kind_of(const char *blocks)
{
	struct model model = { 0 };
	struct verdict verdict;

	drawn_region(&model, MODEL_BREAK, 0, BASE, blocks, "R");
	verdict_of(&model, &verdict);
	model_free(&model);
	return verdict.kind;
}

static void test_verdicts(void **state)
{
	struct verdict_limits limits = { 50, 4096 };
	struct model model = { 0 };
	struct verdict verdict;

	(void)state;
	/* 16 MiB and a quarter, of whole pages. */
	assert_int_equal(verdict_kind_of("L4096 B16777216 L50343936 T4096"), VERDICT_LIVE);
	assert_int_equal(verdict_kind_of("L4096 B16777216 L50339840 T4096"), VERDICT_RETENTION);
	assert_int_equal(verdict_kind_of("L4096 B16773120 L4096"), VERDICT_LIVE);

	/* Pages of which half is in use. */
	model_begin_region(&model, MODEL_BREAK, 0, BASE);
	for (uint64_t at = BASE; at < BASE + 64 * MIB; at += 4096) {
		model_add_block(&model, at, MODEL_LIVE);
		model_add_block(&model, at + 2048, MODEL_CACHED);
	}
	memset(model_end_region(&model, BASE + 64 * MIB), MODEL_RESIDENT, 64 * MIB / 4096);
	model_add_arena(&model, &(struct model_arena){ 0 });
	verdict_of(&model, &verdict);
	assert_int_equal(verdict.kind, VERDICT_FRAGMENTATION);
	assert_int_equal(verdict.account.shared_bytes, 32 * MIB);
	limits.share_percent = 51;
	verdict_reach(&model, &limits, false, &verdict);
	assert_int_equal(verdict.kind, VERDICT_LIVE);

	/* As much elsewhere, and then more. */
	model_add_mapping(&model, &(struct model_mapping){ .resident_bytes = 4 * 64 * MIB - 1 });
	verdict_reach(&model, &limits, false, &verdict);
	assert_int_equal(verdict.kind, VERDICT_LIVE);
	model_add_mapping(&model, &(struct model_mapping){ .resident_bytes = 1 });
	verdict_reach(&model, &limits, false, &verdict);
	assert_int_equal(verdict.kind, VERDICT_NOT_GLIBC);
	verdict_reach(&model, &VERDICT_LIMITS, false, &verdict);
	assert_int_equal(verdict.kind, VERDICT_FRAGMENTATION);
	verdict_reach(&model, &VERDICT_LIMITS, true, &verdict);
	assert_int_equal(verdict.kind, VERDICT_NOT_GLIBC);
	model_free(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trim_bins),
		cmocka_unit_test(test_trim_merges),
		cmocka_unit_test(test_trim_top),
		cmocka_unit_test(test_trim_elsewhere),
		cmocka_unit_test(test_trim_whole_pages),
		cmocka_unit_test(test_account),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_gates),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_threshold),
		cmocka_unit_test(test_verdicts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
