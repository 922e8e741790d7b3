/* SPDX-License-Identifier: MIT */
/*
 * Our C functions. None allocates, prints or keeps state; every one returns what it says or -errno, and
 * never touches errno. build_ffi.py reads this file too, so the rules of mptcp_abi.h hold here.
 */
#ifndef MPTCP_SOCKOPT_H
#define MPTCP_SOCKOPT_H

#include "mptcp_abi.h"

/* Bytes that we offer the kernel for one struct: more than any kernel fills today, so that the tail of
 * a future one is kept. */
#define MPTCP_INFO_ROOM 256
#define TCP_INFO_ROOM 512
#define SUBFLOW_ADDRS_ROOM 320
#define SUBFLOW_INFO_ROOM 320

/* The package version that this module was compiled as. */
const char *mptcp_sockopt_version(void);

/* getsockopt(2), the only call of it. *length goes in and out, and is what the kernel left there on
 * failure too. A negative length is passed on with a NULL value, so that nothing can be written. A
 * negative descriptor is -EBADF without asking the kernel. Returns 0 or -errno. */
int sockopt_get(int fd, int level, int option, void *value, int *length);

/* MPTCP_INFO into info, which has MPTCP_INFO_ROOM bytes. Returns the length that the kernel filled, or
 * -errno. */
int mptcp_get_info(int fd, void *info);

/* MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS (option) with element bytes for each subflow. data is 8-byte
 * aligned, size >= 16: the header, then as many elements as fit, stepped by the header's size_user.
 * Returns the length that the kernel filled, header included, or -errno. */
int mptcp_get_subflow_data(int fd, int option, void *data, int size, int element);

/* MPTCP_FULL_INFO, compacted: struct mptcp_full_info as long as the kernel made it (the two pointers
 * zeroed), then num_subflows elements of size_sfinfo_user bytes, then as many of size_tcpinfo_user. full is
 * 8-byte aligned; mptcp_full_info_room(n) bytes have room for n subflows. Returns the compacted length, 0
 * if there are more subflows than room (the header says how many), or -errno. */
int mptcp_get_full_info(int fd, void *full, int size);
int mptcp_full_info_room(int subflows);

/* Why a socket answered EOPNOTSUPP or ENOPROTOOPT at SOL_MPTCP: one of these, or -errno where the
 * question itself failed (the descriptor was closed meanwhile). */
#define REFUSED_OTHER 1    /* neither a TCP nor an MPTCP socket */
#define REFUSED_TCP 2      /* plain TCP */
#define REFUSED_FALLBACK 3 /* MPTCP that fell back to TCP */
#define REFUSED_OPTION 4   /* MPTCP; this kernel lacks the option */
int mptcp_refusal(int fd);

/* SO_PROTOCOL of a TCP or MPTCP socket, 0 for any other, or -errno; and the rule behind it: the number of
 * a protocol is not enough. */
int tcp_protocol(int fd);
int tcp_protocol_of(int domain, int type, int protocol);

/* TCP_IS_MPTCP of what passed tcp_protocol(), on any kernel: 0, 1 or -errno. Before 6.10, when the option
 * came, a living MPTCP socket refuses it with EOPNOTSUPP and the TCP socket of a fallback with
 * ENOPROTOOPT. */
int speaks_mptcp(int fd);

/* In place of a token: the descriptor was seen closed, or to be no MPTCP connection, or none any more. */
#define TOKEN_GONE 0x100000000

/* MPTCP_INFO or MPTCP_FULL_INFO (option) of many sockets, a row each. */
struct socket_rows {
	const int *fds;
	uint64_t *tokens; /* in and out: the connection's, 0 while none was seen, or TOKEN_GONE */
	int count;        /* of the arrays here */
	int option;
	int stride;       /* bytes of a row, a multiple of 8 */
	void *block;      /* out: count rows, each an answer, cut off at stride, or zeros to the end of
	                   * mptcp_info (what is behind it and the answer is not touched); then of each
	                   * row the length of the whole answer (0 where it failed), 0 or the errno, and
	                   * mptcp_refusal() where the errno alone does not tell (else 0): 3 * count ints */
	void *scratch;    /* 8-byte aligned: MPTCP_INFO_ROOM or mptcp_full_info_room(n) bytes */
	int scratch_size;
};

/* Fills the rows. A token other than the one seen before, or any answer behind TOKEN_GONE, is that of
 * another connection: ESTALE, and none of its data. Returns the longest length, beyond scratch_size where
 * that was too small for the subflows of a socket: the rows are good if it is at most stride. */
int mptcp_get_rows(struct socket_rows *rows);

/* getsockname(2) and getpeername(2) of any socket, in the form of a subflow element. An unconnected
 * socket has a zero peer of its own family. Returns 0 or -errno. */
int socket_names(int fd, struct mptcp_subflow_addrs *names);

#endif
