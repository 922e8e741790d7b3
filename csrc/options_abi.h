/* SPDX-License-Identifier: MIT */
/*
 * The kernel ABI of socket options that are tried, <linux/tcp.h>, <linux/in.h> and <asm-generic/socket.h>. The
 * rules of mptcp_abi.h, whose part this is, apply.
 */
#ifndef OPTIONS_ABI_H
#define OPTIONS_ABI_H

#include "mptcp_abi.h"

/* Options that _border/options.py tries and Python's socket module does not name everywhere. */
#define SO_BUSY_POLL 46
#define SO_MAX_PACING_RATE 47
#define SO_INCOMING_CPU 49
#define SO_ZEROCOPY 60
#define TCP_MD5SIG 14
#define TCP_THIN_LINEAR_TIMEOUTS 16
#define TCP_SAVE_SYN 27
#define TCP_FASTOPEN_CONNECT 30
#define TCP_INQ 36
#define TCP_TX_DELAY 37
#define TCP_RTO_MAX_MS 44
#define IP_MTU_DISCOVER 10
#define IP_RECVERR 11
#define IP_FREEBIND 15
#define IP_MINTTL 21
#define IP_BIND_ADDRESS_NO_PORT 24
#define IP_LOCAL_PORT_RANGE 51
#define IPV6_MTU_DISCOVER 23
#define IPV6_RECVERR 25

/* The value of TCP_MD5SIG: an address, and a key for the segments to and from it. */
struct tcp_md5sig {
	union kernel_sockaddr_storage tcpm_addr;
	uint8_t tcpm_flags;
	uint8_t tcpm_prefixlen;
	uint16_t tcpm_keylen;
	int32_t tcpm_ifindex;
	uint8_t tcpm_key[80];
};

#endif
