#include "doctor/checked.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#define STACK_BYTES 32768

#define VECTORS 32
#define RED_WORDS 16

struct checked {
	char vectors_before[VECTORS * 64], vectors_after[VECTORS * 64];
	uint64_t number, arguments[6];            /* 4096 */
	uint64_t kept[5], arguments_after[6];     /* 4152, 4192 */
	uint64_t red[RED_WORDS];                  /* 4240 */
	uint64_t is_wide;                         /* 4368 */
};

_Static_assert(offsetof(struct checked, number) == 4096, "as below");
_Static_assert(offsetof(struct checked, kept) == 4152, "as below");
_Static_assert(offsetof(struct checked, red) == 4240, "as below");
_Static_assert(offsetof(struct checked, is_wide) == 4368, "as below");

/* Registers have a value each, so have vectors and what lies below the stack pointer. */
__asm__(".text\n"
	".globl checked_call\n"
	"checked_call:\n"
	".cfi_startproc\n"
	".irp r,rbx,rbp,r12,r13,r14,r15\n"
	"push %\\r\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset \\r, 0\n.endr\n"
	"mov %rdi, %r15\n"
	"cmpq $0, 4368(%r15)\n je 1f\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 i(%r15), %zmm\\v\n .set i, i + 64\n.endr\n"
	"jmp 2f\n1:\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu i(%r15), %xmm\\v\n .set i, i + 64\n.endr\n"
	"2:\n"
	"mov $0x1111, %rbx; mov $0x2222, %rbp; mov $0x3333, %r12; mov $0x4444, %r13\n"
	"mov $0x5555, %r14\n"
	".set i, 1\n.rept 16\n movq $i * 3, -8 * i(%rsp)\n .set i, i + 1\n.endr\n"
	"mov 4096(%r15), %rax; mov 4104(%r15), %rdi; mov 4112(%r15), %rsi\n"
	"mov 4120(%r15), %rdx; mov 4128(%r15), %r10; mov 4136(%r15), %r8; mov 4144(%r15), %r9\n"
	"syscall\n"
	"mov %rbx, 4152(%r15); mov %rbp, 4160(%r15); mov %r12, 4168(%r15); mov %r13, 4176(%r15)\n"
	"mov %r14, 4184(%r15)\n"
	"mov %rdi, 4192(%r15); mov %rsi, 4200(%r15); mov %rdx, 4208(%r15); mov %r10, 4216(%r15)\n"
	"mov %r8, 4224(%r15); mov %r9, 4232(%r15)\n"
	".set i, 1\n.rept 16\n mov -8 * i(%rsp), %rbx\n mov %rbx, 4232 + 8 * i(%r15)\n"
	" .set i, i + 1\n.endr\n"
	"cmpq $0, 4368(%r15)\n je 1f\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 %zmm\\v, 2048 + i(%r15)\n .set i, i + 64\n.endr\n"
	"vzeroupper\n jmp 2f\n1:\n"
	".set i, 0\n"
	".irp v,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu %xmm\\v, 2048 + i(%r15)\n .set i, i + 64\n.endr\n"
	"2:\n"
	".irp r,r15,r14,r13,r12,rbp,rbx\n"
	"pop %\\r\n .cfi_adjust_cfa_offset -8\n .cfi_restore \\r\n.endr\n"
	"ret\n"
	".cfi_endproc\n");

void checked_begin(void)
{
	static char bytes[STACK_BYTES];
	stack_t stack = { .ss_sp = bytes, .ss_size = sizeof(bytes) };
	sigset_t blocked;

	sigaltstack(&stack, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
}

long checked_make(long number, const uint64_t arguments[6], int *bad)
{
	static struct checked checked;
	stack_t stack = { .ss_sp = NULL };
	sigset_t blocked, blocked_after;
	long result;

	checked.is_wide = (uint64_t)__builtin_cpu_supports("avx512f");
	for (size_t i = 0; i < sizeof(checked.vectors_before); i++)
		checked.vectors_before[i] = checked.vectors_after[i] =
			(char)(checked.is_wide || i % 64 < 16 ? i * 7 + i / 64 : 0);
	checked.number = (uint64_t)number;
	memcpy(checked.arguments, arguments, sizeof(checked.arguments));
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	errno = 77;
	result = checked_call((uint64_t *)&checked);
	*bad = errno != 77;
	*bad += memcmp(checked.vectors_before, checked.vectors_after,
	               sizeof(checked.vectors_before)) != 0;
	for (int i = 0; i < 5; i++)
		*bad += checked.kept[i] != 0x1111u * (unsigned)(i + 1);
	*bad += memcmp(checked.arguments, checked.arguments_after, sizeof(checked.arguments)) != 0;
	for (unsigned i = 0; i < RED_WORDS; i++)
		*bad += checked.red[i] != 3 * (i + 1);
	pthread_sigmask(SIG_BLOCK, NULL, &blocked_after);
	*bad += memcmp(&blocked, &blocked_after, 8) != 0;
	sigaltstack(NULL, &stack);
	*bad += stack.ss_size != STACK_BYTES || stack.ss_flags != 0;
	return result;
}
