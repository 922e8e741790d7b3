/* SPDX-License-Identifier: MIT */
/*
 * Our C functions. They do not allocate memory, print, or keep state. Each returns its result or -errno, so
 * callers need not look at errno. build_ffi.py reads this file too, so the rules of mptcp_abi.h apply.
 */
#ifndef MPTCP_SOCKOPT_H
#define MPTCP_SOCKOPT_H

#include "mptcp_abi.h"

/*
 * The limits of what a kernel may answer. An answer beyond them is -EPROTO, before anything is multiplied,
 * indexed or copied with it.
 *
 * ROOM is the space that we offer for one struct. It is more than any kernel fills today, so the tail of a
 * future struct is kept. LEAST is the size of the struct on the first kernel that had it. All lengths are
 * multiples of 4.
 */
#define MPTCP_INFO_ROOM 256
#define TCP_INFO_ROOM 512
#define SUBFLOW_ADDRS_ROOM 320
#define SUBFLOW_INFO_ROOM 320
#define LEAST_MPTCP_INFO 40          /* Linux 5.9 */
#define LEAST_TCP_INFO 104           /* of a TCP socket: 2.6, and emulators of Linux */
#define LEAST_SUBFLOW_TCP_INFO 232   /* of a subflow: 5.4, so every kernel with MPTCP */
#define LEAST_SUBFLOW_ADDRS 256      /* 5.16 */
#define LEAST_SUBFLOW_INFO 260       /* 6.5, on 32 bits */
#define MOST_STRUCT 4096             /* the largest size that a kernel may report for its struct */
#define MOST_SUBFLOWS 16384          /* our limit: 13 MiB of an answer; a kernel has none */
#define MOST_STATE 31                /* TCP states are bits in a 32-bit mask, and never 0 */
#define MOST_FAMILY 255
#define MOST_TYPE 15
#define MOST_PROTOCOL 65535
#define MOST_ERRNO 4095
/* How often a socket that speaks MPTCP may refuse an option before we conclude that the kernel lacks it. */
#define MOST_REFUSALS 4
/* In a dump: datagrams without a socket, sockets, and bytes of records. */
#define MOST_BARREN 16
#define MOST_SOCKETS 16777216
#define MOST_RECORDS 33554432

/* The version of the package that this module was compiled for. */
const char *mptcp_sockopt_version(void);

/* getsockopt(2); every call goes through this function. *length is in and out; on failure too, it is what
 * the kernel left. A negative length is passed on with a NULL value, so that nothing can be written. A
 * negative descriptor is -EBADF without asking the kernel. Returns 0 or -errno. */
int sockopt_get(int fd, int level, int option, void *value, int *length);

/* Read MPTCP_INFO into info, which has MPTCP_INFO_ROOM bytes and is 8-byte aligned; or TCP_INFO, with
 * TCP_INFO_ROOM bytes and 4-byte aligned. Returns the length that the kernel filled, or -errno. */
int mptcp_get_info(int fd, void *info);
int tcp_get_info(int fd, void *info);

/* Read MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS (option): the header, then num_subflows elements of size_user
 * bytes. data is 8-byte aligned, size >= 16. Returns the length of both, or 0 if there are more subflows
 * than fit (the header has their number), or -errno.
 *
 * For this function and mptcp_get_full_info(), the memory must be zeroed the first time. After that, it must
 * only be used with the same function: then nothing of an earlier answer gets into this one. */
int mptcp_get_subflow_data(int fd, int option, void *data, int size);

/* Read MPTCP_FULL_INFO and compact it: struct mptcp_full_info as long as the kernel made it (the two
 * pointers zeroed), then num_subflows elements of size_sfinfo_user bytes, then as many of size_tcpinfo_user
 * bytes. full is 8-byte aligned; mptcp_full_info_room(n) bytes are enough for n subflows. Returns the
 * compacted length, or 0 if there are more subflows than fit (the header has their number), or -errno. */
int mptcp_get_full_info(int fd, void *full, int size);
int mptcp_full_info_room(int subflows);

/* Options that answer a small int. */
#define ASK_SO_DOMAIN 16
#define ASK_SO_TYPE 17
#define ASK_SO_PROTOCOL 18
#define ASK_SO_ACCEPTCONN 19
#define ASK_TCP_IS_MPTCP 20

/* Ask one of them. Returns the answer, or -(ASK_... << 12 | errno), so that functions that ask several can
 * say which one failed. */
int socket_ask(int fd, int question);

/* Why a socket refused an option at SOL_MPTCP with EOPNOTSUPP or ENOPROTOOPT: one of these, or as
 * socket_ask() if a question failed (for example, the descriptor was closed in between). */
#define REFUSED_OTHER 1    /* neither a TCP nor an MPTCP socket */
#define REFUSED_TCP 2      /* plain TCP */
#define REFUSED_FALLBACK 3 /* MPTCP that fell back to TCP */
#define REFUSED_OPTION 4   /* MPTCP; this kernel lacks the option */
int mptcp_refusal(int fd);

/* SO_PROTOCOL of a TCP or MPTCP socket; 0 for any other socket; or as socket_ask(). tcp_protocol_of() is the
 * rule behind it: the protocol number alone is not enough. */
int tcp_protocol(int fd);
int tcp_protocol_of(int domain, int type, int protocol);

/* TCP_IS_MPTCP of a TCP or MPTCP socket (see tcp_protocol()), on any kernel: 0, 1, or as socket_ask().
 * Before Linux 6.10, which added the option, an MPTCP socket refuses it with EOPNOTSUPP, and after a
 * fallback with ENOPROTOOPT. */
int speaks_mptcp(int fd);

/* Instead of a token: the descriptor was found closed, not MPTCP, or fallen back. */
#define TOKEN_GONE 0x100000000
/* Instead of a refusal, together with ESTALE. */
#define ANOTHER_CONNECTION 5

/* MPTCP_INFO or MPTCP_FULL_INFO (option) of many sockets, one row for each. */
struct socket_rows {
	const int *fds;
	uint64_t *tokens; /* in and out: of each connection; 0 until one was seen; or TOKEN_GONE */
	int count;        /* length of fds and tokens */
	int option;
	int stride;       /* bytes of a row, a multiple of 8 */
	void *block;      /* out: count rows, each with an answer, cut off at stride. Zeros follow up to the
	                   * end of mptcp_info; bytes after that are left as they are. Then 3 * count ints:
	                   * for each row, the length of the whole answer (0 if it failed); for each row, the
	                   * errno or 0; for each row, the reason if the errno alone does not tell it:
	                   * REFUSED_..., ANOTHER_CONNECTION, or the ASK_... that failed (else 0) */
	void *scratch;    /* for one answer: MPTCP_INFO_ROOM or mptcp_full_info_room(n) bytes */
	int scratch_size;
};

/* Fill the rows. If the token differs from the one seen before, or if there is an answer after TOKEN_GONE,
 * it is another connection: the row is ESTALE, without data. Returns the greatest length. It exceeds
 * scratch_size if that was too small for the subflows of a socket. The rows are valid if it is at most
 * stride. */
int mptcp_get_rows(struct socket_rows *rows);

/* Read getsockname(2) of a TCP or MPTCP socket, or with peer getpeername(2), into names, in the form of a
 * subflow element. names must be zeroed at first. An unconnected socket gets an all-zero peer of its own
 * family, if its own name was read before. Returns 0 or -errno. */
int socket_name(int fd, int peer, struct mptcp_subflow_addrs *names);

#endif
