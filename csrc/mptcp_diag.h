/* SPDX-License-Identifier: MIT */
/*
 * The MPTCP and TCP sockets in a network namespace, from sock_diag(7) dumps. The rules of mptcp_sockopt.h
 * apply: no memory, no state, -errno, and only what cffi can parse.
 */
#ifndef MPTCP_DIAG_H
#define MPTCP_DIAG_H

#include "mptcp_abi.h"

/* The most that a kernel puts into one datagram of a dump. */
#define MPTCP_DIAG_DATAGRAM 32768

/*
 * A dump in progress, or several dumps one after the other into one array. The caller zeroes this struct,
 * points records to size bytes of 8-byte aligned memory, sets a new sequence number for each request, and may
 * move the records to a larger place between two calls.
 *
 * A record is struct inet_diag_msg (with a family and a state that TCP has), then struct mptcp_info as long as
 * this kernel makes it, cut off at MPTCP_INFO_ROOM, then zeros up to the next multiple of 8. If tcp is set, a
 * record is struct tcp_socket.
 */
struct mptcp_diag_dump {
	void *records;
	uint64_t size;
	uint64_t used;        /* bytes of records; stride for each */
	uint32_t stride;      /* 0 before the first record */
	uint32_t info_length; /* bytes of mptcp_info in a record; 0 before the first */
	uint32_t sequence;    /* number of the current request */
	uint32_t interrupted; /* the kernel reported that its table changed: NLM_F_DUMP_INTR */
	uint32_t barren;      /* datagrams without a record, and receives interrupted by a signal */
	uint32_t tcp;         /* if not 0, the dump is of TCP sockets in these states (1 << state), each a
	                       * struct tcp_socket */
};

/* A socket in TCP's table. This includes the subflows of MPTCP sockets, and the TCP socket in every MPTCP
 * listener. */
struct tcp_socket {
	struct inet_diag_msg msg;
	uint8_t is_mptcp;   /* of a listener: the kernel says that it belongs to an MPTCP listener */
	uint8_t privileged; /* nothing was withheld: a socket without a ULP name has no ULP */
	uint16_t tcp_info;  /* size of tcp_info on this kernel */
	uint8_t v6only;     /* 0 or 1, or V6ONLY_NOT_TOLD */
	uint8_t pad[3];
};
#define V6ONLY_NOT_TOLD 2

/* Ask, on a socket of NETLINK_SOCK_DIAG, for the MPTCP sockets in these states (1 << state), with their
 * mptcp_info; the answer carries dump->sequence.
 *
 * With AF_INET or AF_INET6, only sockets of that family: a kernel without MPTCP diag answers ENOENT. With
 * AF_UNSPEC, all of them, in one walk of the kernel's table instead of two, by the older TCPDIAG_GETSOCK.
 * Linux 5.7 and 5.8 do not know the attribute that selects MPTCP, and answer with TCP sockets; older kernels
 * answer EINVAL. Returns 0 or -errno. */
int mptcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int family, uint32_t states);

/* Ask for the TCP sockets of both families in the states of dump->tcp, with this local port (0: any). The
 * name of the ULP is requested for listeners only. Returns 0 or -errno. */
int tcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int port);

/* Receive some datagrams of the dump. Never waits: the kernel prepares the next datagram while it delivers
 * one. Returns 1 if the dump is complete. Returns 0 if not: the caller lets signals be handled, makes sure
 * that MPTCP_DIAG_DATAGRAM bytes are free, and calls again. Or returns -errno: the kernel's own, EAGAIN if
 * the end did not arrive, ENOBUFS if something was lost, EPROTO for a malformed answer, which includes more
 * than MOST_BARREN datagrams without a record. */
int mptcp_diag_receive(int fd, struct mptcp_diag_dump *dump);

/* Parse a datagram: turn the length bytes at records + used into records, in place. Nothing beyond them is
 * read or written, whatever they contain. Returns 1 if the dump is complete, 0 if not, or -errno. */
int mptcp_diag_parse(struct mptcp_diag_dump *dump, uint64_t length);

#endif
