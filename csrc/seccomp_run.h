/* SPDX-License-Identifier: MIT */
/*
 * MPTCP for programs as they are. A seccomp filter stops socket(2) where a program asks for a TCP socket. A
 * supervisor, which is a process of its own, makes an MPTCP socket and gives it to the program as the result of the
 * call; or it lets the call go on.
 *
 * This works for static programs too, and needs no privilege: Linux 5.14 and /proc. The rules of mptcp_sockopt.h
 * apply, except that the supervisor may print its report.
 */
#ifndef SECCOMP_RUN_H
#define SECCOMP_RUN_H

/* What was refused. */
#define RUN_MACHINE 1  /* there is no filter for this processor */
#define RUN_CLONE 2    /* a process, or a socket pair */
#define RUN_FILTER 3   /* the filter */
#define RUN_KERNEL 4   /* the kernel has no SECCOMP_ADDFD_FLAG_SEND: it is older than 5.14 */
#define RUN_LISTENER 5 /* another program has this process's only listener, as in some containers */
#define RUN_PROC 6     /* there is no /proc of this PID namespace */
#define RUN_SETTLE 7   /* /dev/null, or descriptors for the supervisor */
#define RUN_SOCKETCALL 8 /* the C library makes sockets by socketcall(2): a filter cannot see which */
#define RUN_LOST 9     /* the way of the listener to the supervisor: from now on, socket(2) fails with ENOSYS */

/* Instead of 0: the sockets of this process already are MPTCP, by an earlier call in an ancestor. */
#define RUN_NESTED 1

/* From now on, the TCP sockets of this thread, and of every program that it starts or becomes, are MPTCP: those of
 * the caller's network namespace. Where the kernel refuses MPTCP, they stay TCP; with strict, the program gets the
 * errno. The supervisor ends with the last of these programs. Then it writes what it did to report, unless that is
 * negative.
 *
 * Sets no_new_privs unless the caller has CAP_SYS_ADMIN. Returns 0, RUN_NESTED, or -(RUN_... << 12 | errno). Then,
 * except for RUN_LOST, nothing has changed. */
int seccomp_run_begin(int strict, int report);

/* execvp(3), with the actions of the signals that Python ignores set to their defaults. Returns -errno. */
int seccomp_run_exec(char **argv);

#endif
