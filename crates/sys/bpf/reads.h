/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * How the programs of jobs.bpf.c read the kernel's memory, of which the verifier knows numbers alone: a raw tracepoint's arguments, and what
 * is read behind them.
 *
 * A helper (bpf_probe_read_kernel) costs a call and the returns of three functions, which is most of what an event takes where the kernel
 * guards its returns (Safe RET, Documentation/admin-guide/hw-vuln/srso.rst). From Linux 6.2 on a program may take a number for a pointer to a
 * structure that the kernel has types of (bpf_rdonly_cast, kernel/bpf/helpers.c); the call is a move (fixup_kfunc_call,
 * kernel/bpf/verifier.c), and a read through the pointer a look at the address and a load, of which zeros come where the kernel has no
 * memory (BPF_PROBE_MEM). So they do of a helper that fails, here.
 *
 * What is no kernel's address a helper refuses on every kernel, a load on those of 6.10 and later alone (66e13b615a0c, b599d7d26d6a): what may
 * be anything is read by the helper (READ_ANY).
 */
#ifndef GPUSCOPE_READS_H
#define GPUSCOPE_READS_H

#include "kernel.h"

/* Whether this kernel has it: set before loading, when a program with it was loaded. The verifier knows the value, and removes the other way. */
const volatile u32 is_cast = 0;

/*
 * The call and the number of the structure's type are put in before loading, in place of these two numbers, which crates/sys/src/bpf/cast.rs
 * looks for side by side. The structure is two numbers of 64 bits, of which a read may take fewer.
 */
#define CAST_TYPE 0x67707574
#define CAST_CALL 0x67707563
#define TEXT(of) #of
#define TEXT_OF(of) TEXT(of)

INLINE const void *cast(u64 address)
{
	const void *pointer;

	asm volatile("r1 = %1\n"
		     "r2 = " TEXT_OF(CAST_TYPE) "\n"
		     "call " TEXT_OF(CAST_CALL) "\n"
		     "%0 = r0"
		     : "=r"(pointer)
		     : "r"(address)
		     : "r0", "r1", "r2", "r3", "r4", "r5");
	return pointer;
}

/* The place of a member that this kernel's structures do not have. */
#define ABSENT 0xffff

/* A number of 64 bits or fewer, behind what may be no address at all. The place may be absent; a read that fails leaves zeros. */
#define READ_ANY(to, base, place)                                                                                                          \
	do {                                                                                                                               \
		if ((place) == ABSENT)                                                                                                     \
			*(to) = 0;                                                                                                         \
		else                                                                                                                       \
			bpf_probe_read_kernel((to), sizeof(*(to)), (const void *)((base) + (place)));                                      \
	} while (0)

/* The same behind an address of the kernel, or none. */
#define READ(to, base, place)                                                                                                              \
	do {                                                                                                                               \
		_Static_assert(sizeof(*(to)) <= 8, "a number");                                                                            \
		if (is_cast && (place) != ABSENT)                                                                                          \
			*(to) = *(const volatile __typeof__(*(to)) *)cast((base) + (place));                                               \
		else                                                                                                                       \
			READ_ANY(to, base, place);                                                                                         \
	} while (0)

INLINE u64 read_word(u64 base, u16 place)
{
	u64 word;

	READ(&word, base, place);
	return word;
}

/* Text behind a pointer; what is not text is zero, so that recordings of the same are the same. */
INLINE void read_text(char *to, u32 size, u64 from)
{
	__builtin_memset(to, 0, size);
	if (from)
		bpf_probe_read_kernel_str(to, size, (const void *)from);
}

#endif
