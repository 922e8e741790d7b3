/* SPDX-License-Identifier: MIT */
/*
 * The kernel ABI of seccomp_run.h: <linux/seccomp.h> of Linux 6.6, <linux/filter.h> and <linux/audit.h>. Wheels are
 * built with headers that are older than user notification, and its structs have not changed since.
 *
 * For the C alone: neither cffi nor Python reads this file.
 */
#ifndef SECCOMP_ABI_H
#define SECCOMP_ABI_H

#include <elf.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* The processor as a filter sees it, and system calls that old headers lack. */
#if defined(__x86_64__) && defined(__LP64__)
#define MACHINE EM_X86_64
#define NR_SECCOMP 317
#elif defined(__aarch64__) && defined(__LP64__)
#define MACHINE EM_AARCH64
#define NR_SECCOMP 277
#elif defined(__riscv) && __riscv_xlen == 64
#define MACHINE EM_RISCV
#define NR_SECCOMP 277
#elif defined(__powerpc64__)
#define MACHINE EM_PPC64
#define NR_SECCOMP 358
#elif defined(__s390x__)
#define MACHINE EM_S390
#define NR_SECCOMP 348
#elif defined(__i386__)
#define MACHINE EM_386
#define NR_SECCOMP 354
#elif defined(__ARM_EABI__)
#define MACHINE EM_ARM
#define NR_SECCOMP 383
#endif

#if !defined(__NR_socket) && (defined(__s390x__) || defined(__i386__))
#define __NR_socket 359
#endif

#if defined(MACHINE) && defined(__NR_socket)
#define RUN_WORKS 1
#else
#define RUN_WORKS 0
#define MACHINE 0
#define NR_SECCOMP (-1)
#undef __NR_socket
#define __NR_socket (-1)
#endif

#define NR_CLOSE_RANGE 436 /* Linux 5.9, on every processor above */

/* AUDIT_ARCH_... of this processor; and where the low half of a 64-bit word lies. */
#ifdef __LP64__
#define ARCH_BITS 0x80000000u
#else
#define ARCH_BITS 0u
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH_ORDER 0x40000000u
#define LOW_HALF 0u
#else
#define ARCH_ORDER 0u
#define LOW_HALF 4u
#endif
#define ARCH ((uint32_t)MACHINE | ARCH_BITS | ARCH_ORDER)

/* A classic BPF program. */
struct sock_filter {
	uint16_t code;
	uint8_t jt;
	uint8_t jf;
	uint32_t k;
};
struct sock_fprog {
	unsigned short len;
	struct sock_filter *filter;
};
#define BPF_LOAD 0x20     /* BPF_LD | BPF_W | BPF_ABS */
#define BPF_AND_WITH 0x54 /* BPF_ALU | BPF_AND | BPF_K */
#define BPF_IF_EQUAL 0x15 /* BPF_JMP | BPF_JEQ | BPF_K */
#define BPF_RETURN 0x06   /* BPF_RET | BPF_K */

#define SECCOMP_SET_MODE_FILTER 1
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4          /* Linux 4.17 */
#define SECCOMP_FILTER_FLAG_NEW_LISTENER 8        /* Linux 5.0 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 32 /* Linux 5.19 */
#define SECCOMP_RET_ERRNO 0x00050000u
#define SECCOMP_RET_USER_NOTIF 0x7fc00000u
#define SECCOMP_RET_ALLOW 0x7fff0000u
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1 /* Linux 5.5 */
#define SECCOMP_ADDFD_FLAG_SEND 2          /* Linux 5.14 */

/* What a filter sees of a call. */
struct seccomp_data {
	int32_t nr;
	uint32_t arch;
	uint64_t instruction_pointer;
	uint64_t args[6];
};
struct seccomp_notif {
	uint64_t id;
	uint32_t pid; /* of the thread, in the reader's PID namespace; 0 if it has none there */
	uint32_t flags;
	struct seccomp_data data;
};
struct seccomp_notif_resp {
	uint64_t id;
	int64_t val;
	int32_t error;
	uint32_t flags;
};
struct seccomp_notif_addfd {
	uint64_t id;
	uint32_t flags;
	uint32_t srcfd;
	uint32_t newfd;
	uint32_t newfd_flags;
};
#define SECCOMP_IOCTL_NOTIF_RECV _IOWR('!', 0, struct seccomp_notif)
#define SECCOMP_IOCTL_NOTIF_SEND _IOWR('!', 1, struct seccomp_notif_resp)
#define SECCOMP_IOCTL_NOTIF_ADDFD _IOW('!', 3, struct seccomp_notif_addfd)

#endif
