/* SPDX-License-Identifier: MIT */
/*
 * Our C functions. None allocates, prints or keeps state; every one returns what it says or -errno, and
 * never touches errno. build_ffi.py reads this file too, so the rules of mptcp_abi.h hold here.
 */
#ifndef MPTCP_SOCKOPT_H
#define MPTCP_SOCKOPT_H

#include "mptcp_abi.h"

/*
 * The limits: what a kernel may answer. An answer beyond them is -EPROTO, before anything is multiplied by
 * it, indexed or copied with it.
 *
 * ROOM is what we offer for one struct: more than any kernel fills today, so that the tail of a future one is
 * kept. LEAST is the struct of the first kernel that answered. All lengths are multiples of 4.
 */
#define MPTCP_INFO_ROOM 256
#define TCP_INFO_ROOM 512
#define SUBFLOW_ADDRS_ROOM 320
#define SUBFLOW_INFO_ROOM 320
#define LEAST_MPTCP_INFO 40          /* Linux 5.9 */
#define LEAST_TCP_INFO 104           /* of a TCP socket: 2.6, and what imitates Linux */
#define LEAST_SUBFLOW_TCP_INFO 232   /* of a subflow: 5.4, so every kernel with MPTCP */
#define LEAST_SUBFLOW_ADDRS 256      /* 5.16 */
#define LEAST_SUBFLOW_INFO 260       /* 6.5, on 32 bits */
#define MOST_STRUCT 4096             /* what a kernel may say that its own struct takes */
#define MOST_SUBFLOWS 16384          /* ours: 13 MiB of an answer; a kernel has no bound */
#define MOST_STATE 31                /* a TCP state is a bit of 32, and never 0 */
#define MOST_FAMILY 255
#define MOST_TYPE 15
#define MOST_PROTOCOL 65535
#define MOST_ERRNO 4095
/* How often a socket that speaks MPTCP refuses an option until it is the kernel that lacks it. */
#define MOST_REFUSALS 4
/* Of a dump: datagrams without a record, and bytes of records. */
#define MOST_BARREN 16
#define MOST_RECORDS 33554432

/* The package version that this module was compiled as. */
const char *mptcp_sockopt_version(void);

/* getsockopt(2), the only call of it. *length goes in and out, and is what the kernel left there on
 * failure too. A negative length is passed on with a NULL value, so that nothing can be written. A
 * negative descriptor is -EBADF without asking the kernel. Returns 0 or -errno. */
int sockopt_get(int fd, int level, int option, void *value, int *length);

/* MPTCP_INFO into info, which has MPTCP_INFO_ROOM bytes, and TCP_INFO into info of TCP_INFO_ROOM bytes.
 * 4-byte aligned (MPTCP_INFO: 8). Returns the length that the kernel filled, or -errno. */
int mptcp_get_info(int fd, void *info);
int tcp_get_info(int fd, void *info);

/* MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS (option): the header, then num_subflows elements of size_user bytes.
 * data is 8-byte aligned, size >= 16. Returns the length of both, 0 if there are more subflows than room (the
 * header says how many), or -errno.
 *
 * Here and in mptcp_get_full_info() the memory is zeroed at first, or was given to the same function before:
 * nothing of an earlier answer gets into this one. */
int mptcp_get_subflow_data(int fd, int option, void *data, int size);

/* MPTCP_FULL_INFO, compacted: struct mptcp_full_info as long as the kernel made it (the two pointers
 * zeroed), then num_subflows elements of size_sfinfo_user bytes, then as many of size_tcpinfo_user. full is
 * 8-byte aligned; mptcp_full_info_room(n) bytes have room for n subflows. Returns the compacted length, 0
 * if there are more subflows than room (the header says how many), or -errno. */
int mptcp_get_full_info(int fd, void *full, int size);
int mptcp_full_info_room(int subflows);

/* Options that answer a small int. */
#define ASK_SO_DOMAIN 16
#define ASK_SO_TYPE 17
#define ASK_SO_PROTOCOL 18
#define ASK_SO_ACCEPTCONN 19
#define ASK_TCP_IS_MPTCP 20

/* Asks one of them. Returns what it answered, or -(ASK_... << 12 | errno): functions that ask several say so
 * which one failed. */
int socket_ask(int fd, int question);

/* Why a socket answered EOPNOTSUPP or ENOPROTOOPT at SOL_MPTCP: one of these, or as socket_ask() where a
 * question failed (the descriptor was closed meanwhile). */
#define REFUSED_OTHER 1    /* neither a TCP nor an MPTCP socket */
#define REFUSED_TCP 2      /* plain TCP */
#define REFUSED_FALLBACK 3 /* MPTCP that fell back to TCP */
#define REFUSED_OPTION 4   /* MPTCP; this kernel lacks the option */
int mptcp_refusal(int fd);

/* SO_PROTOCOL of a TCP or MPTCP socket, 0 for any other, or as socket_ask(); and the rule behind it: the
 * number of a protocol is not enough. */
int tcp_protocol(int fd);
int tcp_protocol_of(int domain, int type, int protocol);

/* TCP_IS_MPTCP of what passed tcp_protocol(), on any kernel: 0, 1 or as socket_ask(). Before 6.10, when the
 * option came, a living MPTCP socket refuses it with EOPNOTSUPP and the TCP socket of a fallback with
 * ENOPROTOOPT. */
int speaks_mptcp(int fd);

/* In place of a token: the descriptor was seen closed, or to be no MPTCP connection, or none any more. */
#define TOKEN_GONE 0x100000000
/* In place of a refusal, beside ESTALE. */
#define ANOTHER_CONNECTION 5

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
	                   * where the errno alone does not tell, why: REFUSED_..., ANOTHER_CONNECTION, or
	                   * the ASK_... that failed (else 0): 3 * count ints */
	void *scratch;    /* as for the call of one: MPTCP_INFO_ROOM or mptcp_full_info_room(n) bytes */
	int scratch_size;
};

/* Fills the rows. A token other than the one seen before, or any answer behind TOKEN_GONE, is that of
 * another connection: ESTALE, and none of its data. Returns the longest length, beyond scratch_size where
 * that was too small for the subflows of a socket: the rows are good if it is at most stride. */
int mptcp_get_rows(struct socket_rows *rows);

/* getsockname(2) of a TCP or MPTCP socket into names, or with peer getpeername(2), in the form of a subflow
 * element. names is zeroed at first. An unconnected socket has a zero peer of its own family, if its own name
 * was asked for before. Returns 0 or -errno. */
int socket_name(int fd, int peer, struct mptcp_subflow_addrs *names);

#endif
