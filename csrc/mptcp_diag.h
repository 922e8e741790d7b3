/* SPDX-License-Identifier: MIT */
/*
 * The MPTCP and TCP sockets in a network namespace, from sock_diag(7) dumps. The rules of mptcp_sockopt.h
 * apply: no memory, no state, -errno, and only what cffi can parse.
 */
#ifndef MPTCP_DIAG_H
#define MPTCP_DIAG_H

#include "inet_diag_abi.h"

/* The most that a kernel puts into one datagram of a dump. */
#define MPTCP_DIAG_DATAGRAM 32768
/* The room that its records need, if they are of subflows. */
#define MPTCP_DIAG_ROOM 65536

/*
 * A dump in progress, or several dumps one after the other into one array. The caller zeroes this struct,
 * points records to size bytes of 8-byte aligned memory, sets a new sequence number for each request, and may
 * move the records to a larger place between two calls.
 *
 * A record is struct inet_diag_msg (with a family and a state that TCP has), then struct mptcp_info as long as
 * this kernel makes it, cut off at MPTCP_INFO_ROOM, then zeros up to the next multiple of 8. If datagram is set,
 * a record is struct diag_subflow, then struct tcp_info in the same way, cut off at TCP_INFO_ROOM; otherwise, if
 * tcp is set, it is struct tcp_socket. Subflows are longer than their messages, so they are not made in place.
 */
struct mptcp_diag_dump {
	void *records;
	uint64_t size;
	uint64_t used;        /* bytes of records; stride for each */
	uint64_t met;         /* sockets in the answers, including those left out */
	void *datagram;       /* MPTCP_DIAG_DATAGRAM bytes for what arrives: the dump is of subflows */
	uint8_t *sets;        /* which sockets without a ULP name to keep beside listeners: DIAG_SETS bits, of local
	                       * ports and of the low 16 bits of inodes. The port of each MPTCP listener is added,
	                       * and the kernel lists listeners first. NULL: all sockets */
	uint32_t stride;      /* 0 before the first record */
	uint32_t info_length; /* bytes of mptcp_info or tcp_info in a record; 0 before the first */
	uint32_t sequence;    /* number of the current request */
	uint32_t interrupted; /* the kernel reported that its table changed: NLM_F_DUMP_INTR */
	uint32_t barren;      /* datagrams without a record, and receives interrupted by a signal */
	uint32_t tcp;         /* if not 0, the dump is of TCP sockets in these states (1 << state) */
	uint32_t port;        /* if not 0, only of sockets with this local or remote port */
	uint32_t single;      /* the first socket ends the answer */
};
#define DIAG_SET_INODES 65536
#define DIAG_SETS 131072

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

/* A socket in TCP's table that belongs to MPTCP, or may: a subflow, a listener, or one that was kept (see sets).
 * What told has no bit for is 0. */
struct diag_subflow {
	struct inet_diag_msg msg;
	uint64_t map_seq;
	uint32_t token_rem;
	uint32_t token_loc;
	uint32_t flags;
	uint32_t relwrite_seq;
	uint32_t map_sfseq;
	uint32_t ssn_offset;
	uint16_t map_datalen;
	uint8_t id_rem;
	uint8_t id_loc;
	uint16_t told;      /* SUBFLOW_TOLD_MPTCP, and bits: 1 << MPTCP_SUBFLOW_ATTR_... */
	uint8_t privileged; /* nothing was withheld */
	uint8_t pad;
};
#define SUBFLOW_TOLD_MPTCP 1

/* Ask, on a socket of NETLINK_SOCK_DIAG, for the MPTCP sockets in these states (1 << state), with their
 * mptcp_info; the answer carries dump->sequence.
 *
 * With AF_INET or AF_INET6, only sockets of that family: a kernel without MPTCP diag answers ENOENT. With
 * AF_UNSPEC, all of them, in one walk of the kernel's table instead of two, by the older TCPDIAG_GETSOCK.
 * Linux 5.7 and 5.8 do not know the attribute that selects MPTCP, and answer with TCP sockets; older kernels
 * answer EINVAL. Returns 0 or -errno. */
int mptcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int family, uint32_t states);

/* Ask for the TCP sockets of both families in the states of dump->tcp, with this local port (0: any). The
 * name of the ULP is requested for listeners and subflows only. Returns 0 or -errno. */
int tcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int port);

/* Receive some datagrams of the dump. Never waits: the kernel prepares the next datagram while it delivers
 * one. Returns 1 if the dump is complete. Returns 0 if not: the caller lets signals be handled, makes sure
 * that MPTCP_DIAG_DATAGRAM bytes are free (MPTCP_DIAG_ROOM, if it is of subflows), and calls again. Or returns
 * -errno: the kernel's own, EAGAIN if the end did not arrive, ENOBUFS if something was lost, EPROTO for a
 * malformed answer, which includes more than MOST_BARREN datagrams without a socket. */
int mptcp_diag_receive(int fd, struct mptcp_diag_dump *dump);

/* Look up one socket, in constant time; single must be set, and size be MPTCP_DIAG_ROOM. With datagram, the TCP
 * socket with these ends (if there is none, a listener that would take the connection). Otherwise the MPTCP
 * connection whose token is the first word of the cookie. Its record is the only one then, and the sequence number
 * is the next one. Returns 1, with the record or without if it has no tcp_info or has lost its token, or -errno:
 * ENOENT if there is none, also if the answer is about a socket with other ends. */
int diag_lookup(int fd, struct mptcp_diag_dump *dump, int family, const struct inet_diag_sockid *id);

/* Look up the TCP socket with these ends into path, which has a datagram; and if it is a subflow with a token, its
 * connection into row, which has none. Returns what the first look-up does, or -errno of the second; row has a record
 * if the connection was found. */
int diag_lookup_both(int fd, struct mptcp_diag_dump *path, struct mptcp_diag_dump *row, int family,
                     const struct inet_diag_sockid *id);

/* Parse a datagram: turn the length bytes at datagram, or else at records + used, into records. Nothing beyond them is
 * read or written, whatever they contain. Returns 1 if the dump is complete, 0 if not, or -errno. */
int mptcp_diag_parse(struct mptcp_diag_dump *dump, uint64_t length);

#endif
