/* SPDX-License-Identifier: MIT */
/*
 * The kernel ABI of sock_diag(7), <linux/inet_diag.h>: requests, and what they answer about a socket. The rules
 * of mptcp_abi.h, whose second part this is, apply.
 */
#ifndef INET_DIAG_ABI_H
#define INET_DIAG_ABI_H

#include "mptcp_abi.h"

/* Attributes of requests and answers. A protocol above 255 does not fit in sdiag_protocol, hence the
 * attribute (Linux 5.9). */
#define INET_DIAG_REQ_BYTECODE 1
#define INET_DIAG_REQ_PROTOCOL 3
#define INET_DIAG_INFO 2
#define INET_DIAG_SKV6ONLY 11 /* of an IPv6 socket that listens or is closed */
#define INET_DIAG_MARK 15     /* only for CAP_NET_ADMIN */
#define INET_DIAG_ULP_INFO 19 /* together with INET_DIAG_INFO; before Linux 6.15 only for CAP_NET_ADMIN */
#define INET_ULP_INFO_NAME 1  /* in INET_DIAG_ULP_INFO: a string, "mptcp" for a subflow or listener */
#define INET_ULP_INFO_MPTCP 3 /* and, of a subflow only, the attributes below */

/* A subflow, <linux/mptcp.h>. REM: what the peer did or has; LOC: this side. Those with a comment are only for
 * CAP_NET_ADMIN. */
#define MPTCP_SUBFLOW_ATTR_TOKEN_REM 1
#define MPTCP_SUBFLOW_ATTR_TOKEN_LOC 2
#define MPTCP_SUBFLOW_ATTR_RELWRITE_SEQ 3 /* u32 */
#define MPTCP_SUBFLOW_ATTR_MAP_SEQ 4      /* u64 */
#define MPTCP_SUBFLOW_ATTR_MAP_SFSEQ 5    /* u32 */
#define MPTCP_SUBFLOW_ATTR_SSN_OFFSET 6   /* u32 */
#define MPTCP_SUBFLOW_ATTR_MAP_DATALEN 7  /* u16 */
#define MPTCP_SUBFLOW_ATTR_FLAGS 8
#define MPTCP_SUBFLOW_ATTR_ID_REM 9
#define MPTCP_SUBFLOW_ATTR_ID_LOC 10
#define MPTCP_SUBFLOW_FLAG_MCAP_REM 1
#define MPTCP_SUBFLOW_FLAG_MCAP_LOC 2
#define MPTCP_SUBFLOW_FLAG_JOIN_REM 4
#define MPTCP_SUBFLOW_FLAG_JOIN_LOC 8
#define MPTCP_SUBFLOW_FLAG_BKUP_REM 16
#define MPTCP_SUBFLOW_FLAG_BKUP_LOC 32
#define MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED 64
#define MPTCP_SUBFLOW_FLAG_CONNECTED 128
#define MPTCP_SUBFLOW_FLAG_MAPVALID 256

/* INET_DIAG_REQ_BYTECODE: a test of each socket. yes and no are distances to the next op, in bytes; the end is
 * yes, 4 bytes beyond it no. The port that an op compares is the no of the op after it. */
#define INET_DIAG_BC_NOP 0
#define INET_DIAG_BC_JMP 1
#define INET_DIAG_BC_S_EQ 11
#define INET_DIAG_BC_D_EQ 12

struct inet_diag_bc_op {
	uint8_t code;
	uint8_t yes;
	uint16_t no;
};

/* Ports and addresses are in network order, so they are bytes here. */
struct inet_diag_sockid {
	uint8_t idiag_sport[2];
	uint8_t idiag_dport[2];
	uint8_t idiag_src[16];
	uint8_t idiag_dst[16];
	uint32_t idiag_if;
	uint32_t idiag_cookie[2]; /* the low word, the high word */
};

/* The request of SOCK_DIAG_BY_FAMILY. */
struct inet_diag_req_v2 {
	uint8_t sdiag_family;
	uint8_t sdiag_protocol;
	uint8_t idiag_ext; /* bits: 1 << (attribute - 1) */
	uint8_t pad;
	uint32_t idiag_states; /* bits: 1 << state */
	struct inet_diag_sockid id;
};

/* The request of TCPDIAG_GETSOCK: it means TCP, unless there is an INET_DIAG_REQ_PROTOCOL. */
struct inet_diag_req {
	uint8_t idiag_family;
	uint8_t idiag_src_len;
	uint8_t idiag_dst_len;
	uint8_t idiag_ext;
	struct inet_diag_sockid id;
	uint32_t idiag_states;
	uint32_t idiag_dbs;
};

struct inet_diag_msg {
	uint8_t idiag_family;
	uint8_t idiag_state;
	uint8_t idiag_timer;
	uint8_t idiag_retrans;
	struct inet_diag_sockid id;
	uint32_t idiag_expires;
	uint32_t idiag_rqueue;
	uint32_t idiag_wqueue;
	uint32_t idiag_uid;
	uint32_t idiag_inode;
};

#endif
