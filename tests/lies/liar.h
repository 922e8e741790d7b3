/* SPDX-License-Identifier: MIT */
/*
 * A kernel that lies: preloaded by the package tests.lies, it stands between our C functions and libc.
 *
 * It passes everything on until freeze() is called. From then on the ages in an answer are zero, so that two
 * answers about a quiet connection are equal, and what tell() was told is done to every answer, in that order.
 * Which lies there are is written in told.py and told_netlink.py; here is only how an answer is bent. liar.c has
 * getsockopt(2) and its like, liar_netlink.c the rest. Not for threads.
 */
#ifndef LIAR_H
#define LIAR_H

#define _GNU_SOURCE
#include "inet_diag_abi.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Which call, where it is not getsockopt: in place of the level. */
enum call { NAME = -1, PEER = -2, SEND = -3, RECEIVE = -4, SOCKET = -5, PYTHON = -6 };

/* Of sendmsg and recvmsg, in place of the option: which request it is about. */
enum which {
	ANY,
	MPTCP_DUMP,
	TCP_DUMP,     /* of listeners, or without tcp_info */
	SUBFLOW_DUMP, /* of TCP sockets with their tcp_info */
	MPTCP_LOOKUP,
	TCP_LOOKUP,
	NTH = 10, /* and more: the first dump since freeze(), the second, ... */
};

enum kind {
	FAIL,     /* -1 with errno a; nobody is asked */
	ANSWER,   /* of getsockopt: returns a; of sendmsg and recvmsg besides: nobody is asked */
	LENGTH,   /* the length of the answer is a */
	LONGER,   /* the length is what was offered, plus a */
	WORD,     /* the 32-bit word at a is b */
	ROOM,     /* num_subflows is the number of elements that have room, plus a */
	ELEMENT,  /* the word at a of the first mptcp_subflow_info in MPTCP_FULL_INFO is b */
	STALE,    /* STALE_BYTE wherever there is room, as in the answer of another connection */
	MESSAGE,  /* of recvmsg: a message of type a with the payload b (an error, 0 or -errno) */
	SENDER,   /* of recvmsg: it came from the port id a */
	ORIGIN,   /* of recvmsg: the length of its address is a */
	SEQUENCE, /* of recvmsg: the sequence number of each message is larger by a */
	FLAGS,    /* of recvmsg: flags of the datagram (a), and of each message (b) */
	REPEAT,   /* of recvmsg: the first datagram for ever, as often as there is room */
	ENDLESS,  /* of recvmsg: EAGAIN where the end of the dump was */
	SWAP,     /* of sendmsg: the other end of the connection is asked for */
	/* Of recvmsg, in the rows that a begins with, see ROW_SHIFT; then a path of attributes: the one of the row
	 * in the lowest byte, the one in its payload in the next, and so on; 0 ends it. */
	SIZE,     /* it has b bytes, new ones are 0; it is not there if b is negative */
	SAID,     /* it says that it has b bytes, header included */
	VALUE,    /* its first bytes are the number b. If it is INET_DIAG_INFO: the word that the path goes on with */
	EXTRA,    /* after all that is in it, an unknown attribute of b bytes */
	IN_ROW,   /* no path: the word at a of inet_diag_msg is b */
};

/* 0: all rows of each datagram. n: its nth. */
#define ROW_SHIFT 24

#define STALE_BYTE 0xA5
#define DATAGRAM 32768
#define PUBLIC __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct lie {
	int level, option;
	enum kind kind;
	long a, b, left;
};

extern struct lie lies[8];
extern int count, frozen;
/* What was sent last (enum which), and how many dumps since freeze(). */
extern int asked_for, dumps;

int is_told(struct lie *lie, int level, int option);
/* The first lie of this kind that is due. Every call asks for FAIL first. */
struct lie *told(int level, int option, enum kind kind);
void put(void *base, size_t size, size_t at, uint32_t word);
void freeze_info(void *info, size_t size);
void freeze_tcp(void *info, size_t size);
void forget_datagrams(void);

#endif
