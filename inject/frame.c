#include "inject/frame.h"

#include <cpuid.h>
#include <string.h>
#include <ucontext.h>

/* The kernel's, of <asm/sigcontext.h>, which does not go together with libc's headers. */
#define VECTORS_MAGIC 0x46505853u
#define VECTORS_MAGIC_END 0x46505845u
#define FLAG_VECTORS 1u            /* of ucontext: more than the oldest vectors */
#define FLAG_SEGMENT 2u
#define FLAG_SEGMENT_STRICT 4u

#define VECTORS_LEAST 576u         /* of x87 and SSE, with the header */
#define VECTORS_FEATURES 512u      /* where the header tells what is in them */
#define VECTORS_RESERVED 464u      /* where the kernel looks for the following */

struct vectors_reserved {
	uint32_t magic, extended_bytes;
	uint64_t features;
	uint32_t bytes, unused[7];
};

/* What sigaltstack does not know changes nothing, and rt_sigreturn does not mind. */
#define STACK_AS_IT_IS 0x40

/* How far the vectors go that are not as at the start of a program. */
static uint32_t vectors_used(uint64_t features)
{
	uint32_t used = VECTORS_LEAST;

	for (unsigned feature = 2; feature < 63; feature++) {
		unsigned size, offset, flags, unused;

		if (!(features >> feature & 1))
			continue;
		__cpuid_count(0xd, feature, size, offset, flags, unused);
		if (offset + size > used)
			used = offset + size;
	}
	return used;
}

static uint32_t vectors_fill(const struct frame_state *state, uint8_t *to)
{
	struct vectors_reserved reserved = { .magic = VECTORS_MAGIC };
	uint32_t end = VECTORS_MAGIC_END;

	memcpy(&reserved.features, state->vectors + VECTORS_FEATURES, sizeof(reserved.features));
	reserved.bytes = vectors_used(reserved.features);
	if (reserved.bytes > state->vector_bytes)
		reserved.bytes = (uint32_t)state->vector_bytes;
	reserved.extended_bytes = reserved.bytes + sizeof(end);
	/* x87 and SSE are always there. */
	reserved.features |= 3;
	memcpy(to, state->vectors, reserved.bytes);
	memcpy(to + VECTORS_RESERVED, &reserved, sizeof(reserved));
	memcpy(to + reserved.bytes, &end, sizeof(end));
	return reserved.extended_bytes;
}

static void context_fill(const struct frame_state *state, uint64_t vectors, ucontext_t *context)
{
	const struct user_regs_struct *from = &state->registers;
	greg_t *to = context->uc_mcontext.gregs;

	*context = (ucontext_t){ .uc_flags = FLAG_VECTORS | FLAG_SEGMENT | FLAG_SEGMENT_STRICT };
	context->uc_stack.ss_flags = STACK_AS_IT_IS;
	context->uc_mcontext.fpregs = (fpregset_t)vectors;
	memcpy(&context->uc_sigmask, &state->blocked, sizeof(state->blocked));
	to[REG_R8] = (greg_t)from->r8;
	to[REG_R9] = (greg_t)from->r9;
	to[REG_R10] = (greg_t)from->r10;
	to[REG_R11] = (greg_t)from->r11;
	to[REG_R12] = (greg_t)from->r12;
	to[REG_R13] = (greg_t)from->r13;
	to[REG_R14] = (greg_t)from->r14;
	to[REG_R15] = (greg_t)from->r15;
	to[REG_RDI] = (greg_t)from->rdi;
	to[REG_RSI] = (greg_t)from->rsi;
	to[REG_RBP] = (greg_t)from->rbp;
	to[REG_RBX] = (greg_t)from->rbx;
	to[REG_RDX] = (greg_t)from->rdx;
	to[REG_RAX] = (greg_t)from->rax;
	to[REG_RCX] = (greg_t)from->rcx;
	to[REG_RSP] = (greg_t)from->rsp;
	to[REG_RIP] = (greg_t)from->rip;
	to[REG_EFL] = (greg_t)from->eflags;
	to[REG_CSGSFS] = (greg_t)(from->cs | from->gs << 16 | from->fs << 32 | from->ss << 48);
}

size_t frame_room(void)
{
	unsigned unused, all, others;

	__cpuid_count(0xd, 0, unused, others, all, unused);
	return FRAME_RED_ZONE + all + sizeof(ucontext_t) + 128;
}

void frame_build(const struct frame_state *state, uint64_t restorer, struct frame *frame)
{
	uint64_t end = state->registers.rsp - FRAME_RED_ZONE, vectors;
	ucontext_t context;

	vectors = (end - vectors_fill(state, frame->content)) & ~63ul;
	context_fill(state, vectors, &context);
	/* A function begins with a stack pointer that is 8 more than a multiple of 16. */
	frame->address = ((vectors - sizeof(context) - sizeof(restorer)) & ~15ul) - 8;
	frame->bytes = end - frame->address;
	memmove(frame->content + (vectors - frame->address), frame->content, end - vectors);
	memset(frame->content, 0, vectors - frame->address);
	memcpy(frame->content, &restorer, sizeof(restorer));
	memcpy(frame->content + sizeof(restorer), &context, sizeof(context));
}
