/*
 * A signal frame: on the stack of a thread, the state in which it is to go on, as the
 * kernel leaves it there for a handler.  Layer: inject; a calculation.
 *
 * A function that returns into such a frame runs rt_sigreturn, and with it the thread
 * has all its registers, vectors and blocked signals again, without anybody's help.
 */
#ifndef CEDE_INJECT_FRAME_H
#define CEDE_INJECT_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#define FRAME_VECTORS 16384u       /* more than any processor's */
#define FRAME_BYTES (FRAME_VECTORS + 2048u)
#define FRAME_RED_ZONE 128         /* below the stack pointer, but in use */

/* As ptrace tells it. */
struct frame_state {
	struct user_regs_struct registers;
	uint64_t blocked;              /* signals */
	size_t vector_bytes;
	_Alignas(64) uint8_t vectors[FRAME_VECTORS];   /* NT_X86_XSTATE */
};

struct frame {
	uint64_t address;              /* the stack pointer with which the function begins */
	size_t bytes;
	uint8_t content[FRAME_BYTES];
};

/* The most that a frame takes on this processor, from the stack pointer down. */
size_t frame_room(void);

/*
 * Builds the frame below the state's stack pointer.  At its address lies where the
 * function returns to, `restorer`, which calls rt_sigreturn.
 */
void frame_build(const struct frame_state *state, uint64_t restorer, struct frame *frame);

#endif
