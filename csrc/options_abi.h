/* SPDX-License-Identifier: MIT */
/*
 * The kernel ABI of socket options that are tried, <linux/tcp.h>, <linux/in.h>, <linux/in6.h> and
 * <asm-generic/socket.h>. The rules of mptcp_abi.h apply. No C file includes this one: once SO_DEBUG is defined,
 * musl's <sys/socket.h> leaves its own SO_* names out.
 */
#ifndef OPTIONS_ABI_H
#define OPTIONS_ABI_H

/* Options that _border/options.py tries and Python's socket module does not name everywhere. */
#define SO_DEBUG 1
#define SO_NO_CHECK 11
#define SO_TIMESTAMP 29
#define SO_SNDBUFFORCE 32
#define SO_RCVBUFFORCE 33
#define SO_PASSSEC 34
#define SO_TIMESTAMPNS 35
#define SO_TIMESTAMPING 37
#define SO_RXQ_OVFL 40
#define SO_WIFI_STATUS 41
#define SO_PEEK_OFF 42
#define SO_NOFCS 43
#define SO_LOCK_FILTER 44
#define SO_SELECT_ERR_QUEUE 45
#define SO_BUSY_POLL 46
#define SO_MAX_PACING_RATE 47
#define SO_INCOMING_CPU 49
#define SO_MEMINFO 55
#define SO_INCOMING_NAPI_ID 56
#define SO_COOKIE 57
#define SO_ZEROCOPY 60
#define SO_TXTIME 61
#define SO_BINDTOIFINDEX 62
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#define SO_NETNS_COOKIE 71
#define SO_BUF_LOCK 72
#define SO_RESERVE_MEM 73
#define SO_TXREHASH 74
#define SO_RCVMARK 75
#define SO_PASSPIDFD 76
#define SO_RCVPRIORITY 82
#define TCP_MD5SIG 14
#define TCP_THIN_LINEAR_TIMEOUTS 16
#define TCP_THIN_DUPACK 17
#define TCP_TIMESTAMP 24
#define TCP_CC_INFO 26
#define TCP_SAVE_SYN 27
#define TCP_SAVED_SYN 28
#define TCP_FASTOPEN_CONNECT 30
#define TCP_ULP 31
#define TCP_FASTOPEN_KEY 33
#define TCP_FASTOPEN_NO_COOKIE 34
#define TCP_INQ 36
#define TCP_TX_DELAY 37
#define TCP_RTO_MAX_MS 44
#define TCP_RTO_MIN_US 45
#define TCP_DELACK_MAX_US 46
#define IP_PKTINFO 8
#define IP_MTU_DISCOVER 10
#define IP_RECVERR 11
#define IP_RECVTTL 12
#define IP_RECVTOS 13
#define IP_MTU 14
#define IP_FREEBIND 15
#define IP_RECVORIGDSTADDR 20
#define IP_MINTTL 21
#define IP_BIND_ADDRESS_NO_PORT 24
#define IP_UNICAST_IF 50
#define IP_LOCAL_PORT_RANGE 51
#define IPV6_MTU_DISCOVER 23
#define IPV6_MTU 24
#define IPV6_RECVERR 25
#define IPV6_FLOWINFO_SEND 33
#define IPV6_AUTOFLOWLABEL 70
#define IPV6_ADDR_PREFERENCES 72
#define IPV6_MINHOPCOUNT 73
#define IPV6_RECVORIGDSTADDR 74
#define IPV6_TRANSPARENT 75
#define IPV6_UNICAST_IF 76
#define IPV6_RECVFRAGSIZE 77
#define IPV6_FREEBIND 78

#endif
