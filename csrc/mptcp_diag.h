/* SPDX-License-Identifier: MIT */
/*
 * Every MPTCP socket of a network namespace, and its TCP sockets, from sock_diag(7) dumps. The rules are those of
 * mptcp_sockopt.h: no memory, no state, -errno, and what cffi can parse.
 */
#ifndef MPTCP_DIAG_H
#define MPTCP_DIAG_H

#include "mptcp_abi.h"

/* The most that a kernel puts into one datagram of a dump. */
#define MPTCP_DIAG_DATAGRAM 32768

/*
 * A dump under way, or several one after the other into one array. The caller zeroes it, points records to
 * 8-byte aligned memory of size bytes, gives each request a sequence number, and may move the records to a
 * larger place between two calls.
 *
 * A record is struct inet_diag_msg (of a family and a state that TCP has), then struct mptcp_info as long as
 * this kernel makes it, cut off at MPTCP_INFO_ROOM, and zeroes up to the next multiple of 8. Or, where tcp is
 * set, struct tcp_socket.
 */
struct mptcp_diag_dump {
	void *records;
	uint64_t size;
	uint64_t used;        /* of size; stride bytes for every record */
	uint32_t stride;      /* 0 before the first record */
	uint32_t info_length; /* bytes of mptcp_info in a record; 0 if the kernel gave none */
	uint32_t sequence;    /* of the request whose answer is awaited */
	uint32_t interrupted; /* the kernel said that its table changed: NLM_F_DUMP_INTR */
	uint32_t barren;      /* datagrams that brought no record, and receives that a signal ended */
	uint32_t tcp;         /* not 0: this dump is of TCP sockets in these states (1 << state), each a
	                       * struct tcp_socket */
};

/* A socket in TCP's table, which holds the subflows of MPTCP sockets, and the one inside of every MPTCP listener. */
struct tcp_socket {
	struct inet_diag_msg msg;
	uint8_t is_mptcp;   /* of a listener: the kernel says that it is inside of an MPTCP listener */
	uint8_t privileged; /* nothing was withheld: what has no name of a ULP has no ULP */
	uint16_t tcp_info;  /* bytes that this kernel gives of it */
	uint8_t v6only;     /* 0 or 1, or V6ONLY_NOT_TOLD */
	uint8_t pad[3];
};
#define V6ONLY_NOT_TOLD 2

/* Asks, on a socket of NETLINK_SOCK_DIAG, for the MPTCP sockets in these states (1 << state), with their
 * mptcp_info; what comes will carry dump->sequence. With AF_INET or AF_INET6 for those of a family: a kernel
 * without MPTCP diag then says ENOENT. With AF_UNSPEC for all, in one walk of the kernel's table instead of
 * two, by the older TCPDIAG_GETSOCK: Linux 5.7 and 5.8 do not know the attribute that says MPTCP, and answer
 * with TCP sockets; older ones say EINVAL. Returns 0 or -errno. */
int mptcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int family, uint32_t states);

/* Asks for the TCP sockets of both families that are in the states of dump->tcp and have that local port, or
 * any (0). Of listeners alone the name of the ULP is asked for. Returns 0 or -errno. */
int tcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int port);

/* Receives some datagrams of the dump. Never waits: the kernel makes the next datagram while it hands one
 * over. Returns 1 if the dump is done, 0 if not (the caller lets signals be handled, sees to it that
 * MPTCP_DIAG_DATAGRAM bytes are left, and calls again), or -errno: the kernel's own, EAGAIN if the end did
 * not come, ENOBUFS if something was lost, EPROTO for what is no answer. More than MOST_BARREN datagrams
 * without a record are none either. */
int mptcp_diag_receive(int fd, struct mptcp_diag_dump *dump);

/* What receive does with a datagram: the length bytes at records + used become records, in place. Nothing
 * beyond them is read or written, whatever they hold. Returns 1 if the dump is done, 0 if not, or -errno. */
int mptcp_diag_parse(struct mptcp_diag_dump *dump, uint64_t length);

#endif
