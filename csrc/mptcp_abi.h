/* SPDX-License-Identifier: MIT */
/*
 * The kernel ABI that this library uses, defined only here and, for <linux/inet_diag.h>, in inet_diag_abi.h.
 *
 * Layouts follow Linux 7.3: <linux/mptcp.h> (mptcp_*), <linux/tcp.h> (tcp_info), and at the end
 * <linux/netlink.h>, <linux/genetlink.h>, <linux/mptcp_pm.h> and <linux/if_addr.h>.
 * Kernels append to the structs of the first two and return the length that they know; mptcp_sockopt/_mptcp_info.py
 * and _tcp_info.py decide which fields an older kernel returned. System headers are never included: they
 * describe the build machine.
 *
 * Three readers share this file: the C code (#include), build_ffi.py (the text becomes cffi's cdef) and
 * mptcp_sockopt/_border/abi.py (offsets and sizes by reflection). So it must be plain enough for cffi:
 * declarations, one-line #defines of integers, no attributes, no conditionals. The static asserts that pin it
 * are in mptcp_abi_assert.h.
 */
#ifndef MPTCP_ABI_H
#define MPTCP_ABI_H

#include <stdint.h>

/* Protocol and option numbers. */
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define SOL_MPTCP 284
#define MPTCP_INFO 1
#define MPTCP_TCPINFO 2
#define MPTCP_SUBFLOW_ADDRS 3
#define MPTCP_FULL_INFO 4
#define TCP_INFO 11      /* level SOL_TCP */
#define TCP_IS_MPTCP 43  /* level SOL_TCP, Linux 6.10 */

/* mptcp_info.mptcpi_flags */
#define MPTCP_INFO_FLAG_FALLBACK 1
#define MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED 2

/* MPTCP_INFO. 40 bytes in Linux 5.9; _mptcp_info.py lists when it grew. Linux 6.18 gave some fields second
 * names (extra_subflows and others are the same bytes); the names here are the original ones. */
struct mptcp_info {
	uint8_t mptcpi_subflows;
	uint8_t mptcpi_add_addr_signal;
	uint8_t mptcpi_add_addr_accepted;
	uint8_t mptcpi_subflows_max;
	uint8_t mptcpi_add_addr_signal_max;
	uint8_t mptcpi_add_addr_accepted_max;
	/* a two-byte hole */
	uint32_t mptcpi_flags;
	uint32_t mptcpi_token;
	uint64_t mptcpi_write_seq;
	uint64_t mptcpi_snd_una;
	uint64_t mptcpi_rcv_nxt;
	uint8_t mptcpi_local_addr_used;
	uint8_t mptcpi_local_addr_max;
	uint8_t mptcpi_csum_enabled;
	/* a one-byte hole */
	uint32_t mptcpi_retransmits;
	uint64_t mptcpi_bytes_retrans;
	uint64_t mptcpi_bytes_sent;
	uint64_t mptcpi_bytes_received;
	uint64_t mptcpi_bytes_acked;
	uint8_t mptcpi_subflows_total;
	uint8_t mptcpi_endp_laminar_max;
	uint8_t mptcpi_endp_fullmesh_max;
	uint8_t reserved;
	uint32_t mptcpi_last_data_sent;
	uint32_t mptcpi_last_data_recv;
	uint32_t mptcpi_last_ack_recv;
};

/* The header before the array of MPTCP_TCPINFO and MPTCP_SUBFLOW_ADDRS. The kernel's is 8-byte aligned. At
 * 16 bytes this changes nothing except the alignment of the buffer. */
struct mptcp_subflow_data {
	uint32_t size_subflow_data; /* in: of this header */
	uint32_t num_subflows;      /* must be 0 in; out: all subflows, even if fewer fit */
	uint32_t size_kernel;       /* must be 0 in; out: the kernel's element */
	uint32_t size_user;         /* in: our element; out: the stride, min(ours, the kernel's) */
};

/* The kernel's sockaddr_in, sockaddr_in6 and __kernel_sockaddr_storage. Ports and addresses are in
 * network order, so they are bytes here. */
struct kernel_sockaddr_in {
	uint16_t sin_family;
	uint8_t sin_port[2];
	uint8_t sin_addr[4];
	uint8_t sin_zero[8];
};

struct kernel_sockaddr_in6 {
	uint16_t sin6_family;
	uint8_t sin6_port[2];
	uint8_t sin6_flowinfo[4];
	uint8_t sin6_addr[16];
	uint32_t sin6_scope_id;
};

union kernel_sockaddr_storage {
	uint16_t ss_family;
	uint8_t ss_bytes[128];
	void *ss_align;
};

/* An element of MPTCP_SUBFLOW_ADDRS. */
struct mptcp_subflow_addrs {
	union {
		uint16_t sa_family;
		struct kernel_sockaddr_in sin_local;
		struct kernel_sockaddr_in6 sin6_local;
		union kernel_sockaddr_storage ss_local;
	};
	union {
		uint16_t sa_family_remote;
		struct kernel_sockaddr_in sin_remote;
		struct kernel_sockaddr_in6 sin6_remote;
		union kernel_sockaddr_storage ss_remote;
	};
};

/* An element of MPTCP_FULL_INFO, Linux 6.5. The addresses are aligned like a pointer *of the kernel*: a
 * 64-bit kernel returns 264 bytes with the addresses at 8, even to a 32-bit process; a 32-bit kernel returns
 * 260 with the addresses at 4. Never step by sizeof: step by size_sfinfo_user. */
struct mptcp_subflow_info {
	uint32_t id;
	struct mptcp_subflow_addrs addrs;
};

/* MPTCP_FULL_INFO. The kernel reads the first 40 bytes, follows the two pointers, and returns 40 plus the
 * length of its mptcp_info. */
struct mptcp_full_info {
	uint32_t size_tcpinfo_kernel; /* must be 0 in */
	uint32_t size_tcpinfo_user;
	uint32_t size_sfinfo_kernel;  /* must be 0 in */
	uint32_t size_sfinfo_user;
	uint32_t num_subflows;        /* must be 0 in; out: all subflows, even if fewer fit */
	uint32_t size_arrays_user;    /* elements that both arrays have room for */
	uint64_t subflow_info;        /* user pointer */
	uint64_t tcp_info;            /* user pointer */
	struct mptcp_info mptcp_info;
};

/* tcp_info.tcpi_state */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define TCP_NEW_SYN_RECV 12

/* TCP_INFO and the element of MPTCP_TCPINFO. */
struct tcp_info {
	uint8_t tcpi_state;
	uint8_t tcpi_ca_state;
	uint8_t tcpi_retransmits;
	uint8_t tcpi_probes;
	uint8_t tcpi_backoff;
	uint8_t tcpi_options;
	uint8_t tcpi_snd_wscale : 4, tcpi_rcv_wscale : 4;
	uint8_t tcpi_delivery_rate_app_limited : 1, tcpi_fastopen_client_fail : 2;
	uint32_t tcpi_rto;
	uint32_t tcpi_ato;
	uint32_t tcpi_snd_mss;
	uint32_t tcpi_rcv_mss;
	uint32_t tcpi_unacked;
	uint32_t tcpi_sacked;
	uint32_t tcpi_lost;
	uint32_t tcpi_retrans;
	uint32_t tcpi_fackets;
	uint32_t tcpi_last_data_sent;
	uint32_t tcpi_last_ack_sent;
	uint32_t tcpi_last_data_recv;
	uint32_t tcpi_last_ack_recv;
	uint32_t tcpi_pmtu;
	uint32_t tcpi_rcv_ssthresh;
	uint32_t tcpi_rtt;
	uint32_t tcpi_rttvar;
	uint32_t tcpi_snd_ssthresh;
	uint32_t tcpi_snd_cwnd;
	uint32_t tcpi_advmss;
	uint32_t tcpi_reordering;
	uint32_t tcpi_rcv_rtt;
	uint32_t tcpi_rcv_space;
	uint32_t tcpi_total_retrans;
	uint64_t tcpi_pacing_rate;
	uint64_t tcpi_max_pacing_rate;
	uint64_t tcpi_bytes_acked;
	uint64_t tcpi_bytes_received;
	uint32_t tcpi_segs_out;
	uint32_t tcpi_segs_in;
	uint32_t tcpi_notsent_bytes;
	uint32_t tcpi_min_rtt;
	uint32_t tcpi_data_segs_in;
	uint32_t tcpi_data_segs_out;
	uint64_t tcpi_delivery_rate;
	uint64_t tcpi_busy_time;
	uint64_t tcpi_rwnd_limited;
	uint64_t tcpi_sndbuf_limited;
	uint32_t tcpi_delivered;
	uint32_t tcpi_delivered_ce;
	uint64_t tcpi_bytes_sent;
	uint64_t tcpi_bytes_retrans;
	uint32_t tcpi_dsack_dups;
	uint32_t tcpi_reord_seen;
	uint32_t tcpi_rcv_ooopack;
	uint32_t tcpi_snd_wnd;
	uint32_t tcpi_rcv_wnd;
	uint32_t tcpi_rehash;
	uint16_t tcpi_total_rto;
	uint16_t tcpi_total_rto_recoveries;
	uint32_t tcpi_total_rto_time;
	uint32_t tcpi_received_ce;
	uint32_t tcpi_delivered_e1_bytes;
	uint32_t tcpi_delivered_e0_bytes;
	uint32_t tcpi_delivered_ce_bytes;
	uint32_t tcpi_received_e1_bytes;
	uint32_t tcpi_received_e0_bytes;
	uint32_t tcpi_received_ce_bytes;
	/* Two u16 in 6.18 and 6.19, a bit-field from 7.0 on, with the same struct size. Hence a raw word. */
	uint32_t tcpi_raw_276;
};

/* netlink(7): messages and their attributes are aligned to 4 bytes. What sock_diag(7) says in them is in
 * inet_diag_abi.h. */
#define NETLINK_SOCK_DIAG 4
#define TCPDIAG_GETSOCK 18
#define SOCK_DIAG_BY_FAMILY 20
#define NLM_F_REQUEST 0x1
#define NLM_F_DUMP_INTR 0x10
#define NLM_F_DUMP 0x300
#define NLMSG_ERROR 2
#define NLMSG_DONE 3
#define NLMSG_OVERRUN 4
#define NLA_TYPE_MASK 0x3fff

struct sockaddr_nl {
	uint16_t nl_family;
	uint16_t nl_pad;
	uint32_t nl_pid; /* 0 is the kernel */
	uint32_t nl_groups;
};

struct nlmsghdr {
	uint32_t nlmsg_len; /* this header included */
	uint16_t nlmsg_type;
	uint16_t nlmsg_flags;
	uint32_t nlmsg_seq;
	uint32_t nlmsg_pid;
};

struct nlattr {
	uint16_t nla_len; /* this header included */
	uint16_t nla_type;
};

/* What _border/netlink.py uses. Generic netlink families are found by name. */
#define NETLINK_GENERIC 16
#define NLM_F_ACK 0x4
#define NLM_F_EXCL 0x200
#define NLM_F_CREATE 0x400
#define NLA_F_NESTED 0x8000
#define GENL_ID_CTRL 16
#define CTRL_CMD_GETFAMILY 3
#define CTRL_ATTR_FAMILY_ID 1
#define CTRL_ATTR_FAMILY_NAME 2

struct genlmsghdr {
	uint8_t cmd;
	uint8_t version;
	uint16_t reserved;
};

/* The family mptcp_pm (Documentation/netlink/specs/mptcp_pm.yaml): Linux 5.6. */
#define MPTCP_PM_CMD_ADD_ADDR 1
#define MPTCP_PM_CMD_DEL_ADDR 2
#define MPTCP_PM_CMD_GET_ADDR 3
#define MPTCP_PM_CMD_FLUSH_ADDRS 4
#define MPTCP_PM_CMD_SET_LIMITS 5
#define MPTCP_PM_CMD_GET_LIMITS 6
#define MPTCP_PM_ATTR_ADDR 1
#define MPTCP_PM_ATTR_RCV_ADD_ADDRS 2
#define MPTCP_PM_ATTR_SUBFLOWS 3
#define MPTCP_PM_ADDR_ATTR_FAMILY 1
#define MPTCP_PM_ADDR_ATTR_ID 2
#define MPTCP_PM_ADDR_ATTR_ADDR4 3
#define MPTCP_PM_ADDR_ATTR_ADDR6 4
#define MPTCP_PM_ADDR_ATTR_PORT 5
#define MPTCP_PM_ADDR_ATTR_FLAGS 6
#define MPTCP_PM_ADDR_ATTR_IF_IDX 7
#define MPTCP_PM_ADDR_FLAG_SIGNAL 1
#define MPTCP_PM_ADDR_FLAG_SUBFLOW 2
#define MPTCP_PM_ADDR_FLAG_BACKUP 4
#define MPTCP_PM_ADDR_FLAG_FULLMESH 8
#define MPTCP_PM_ADDR_FLAG_IMPLICIT 16
#define MPTCP_PM_ADDR_FLAG_LAMINAR 32 /* Linux 6.18 */

/* What _border/pm_events.py uses: the multicast group mptcp_pm_events, Linux 5.12. A message's command is the
 * event, and its attributes are those of enum mptcp_event_attr. */
#define SOL_NETLINK 270
#define NETLINK_ADD_MEMBERSHIP 1
#define CTRL_ATTR_MCAST_GROUPS 7
#define CTRL_ATTR_MCAST_GRP_NAME 1
#define CTRL_ATTR_MCAST_GRP_ID 2
#define MPTCP_EVENT_CREATED 1
#define MPTCP_EVENT_ESTABLISHED 2
#define MPTCP_EVENT_CLOSED 3
#define MPTCP_EVENT_ANNOUNCED 6
#define MPTCP_EVENT_REMOVED 7
#define MPTCP_EVENT_SUB_ESTABLISHED 10
#define MPTCP_EVENT_SUB_CLOSED 11
#define MPTCP_EVENT_SUB_PRIORITY 13
#define MPTCP_EVENT_LISTENER_CREATED 15 /* Linux 6.2 */
#define MPTCP_EVENT_LISTENER_CLOSED 16  /* Linux 6.2 */
#define MPTCP_ATTR_TOKEN 1         /* u32 */
#define MPTCP_ATTR_FAMILY 2        /* u16 */
#define MPTCP_ATTR_LOC_ID 3        /* u8 */
#define MPTCP_ATTR_REM_ID 4        /* u8 */
#define MPTCP_ATTR_SADDR4 5        /* addresses and ports are in network order */
#define MPTCP_ATTR_SADDR6 6
#define MPTCP_ATTR_DADDR4 7
#define MPTCP_ATTR_DADDR6 8
#define MPTCP_ATTR_SPORT 9         /* u16 */
#define MPTCP_ATTR_DPORT 10        /* u16 */
#define MPTCP_ATTR_BACKUP 11       /* u8 */
#define MPTCP_ATTR_ERROR 12        /* u8 */
#define MPTCP_ATTR_FLAGS 13        /* u16 */
#define MPTCP_ATTR_IF_IDX 15       /* s32 */
#define MPTCP_ATTR_RESET_REASON 16 /* u32 */
#define MPTCP_ATTR_RESET_FLAGS 17  /* u32 */
#define MPTCP_ATTR_SERVER_SIDE 18  /* u8, Linux 5.19; newer kernels send the flag below too */
#define MPTCP_PM_EV_FLAG_SERVER_SIDE 2

/* rtnetlink(7): interfaces and their addresses. */
#define NETLINK_ROUTE 0
#define RTM_NEWLINK 16
#define IFLA_ADDRESS 1
#define IFLA_IFNAME 3
#define IFLA_LINKINFO 18
#define IFLA_NET_NS_FD 28
#define IFLA_INFO_KIND 1
#define IFLA_INFO_DATA 2
#define VETH_INFO_PEER 1
#define IFF_UP 0x1
#define IFF_NOARP 0x80
#define RTM_NEWADDR 20
#define IFA_ADDRESS 1
#define IFA_LOCAL 2
#define IFA_F_NODAD 2
#define RTM_GETADDR 22
#define RTM_GETROUTE 26
#define RTM_F_FIB_MATCH 0x2000 /* answer with the entry that matched, not with the route made of it */
#define RTN_UNICAST 1
#define RTN_LOCAL 2
#define RTA_DST 1
#define RTA_SRC 2
#define RTA_OIF 4
#define RTA_GATEWAY 5

struct ifaddrmsg {
	uint8_t ifa_family;
	uint8_t ifa_prefixlen;
	uint8_t ifa_flags;
	uint8_t ifa_scope;
	uint32_t ifa_index;
};

struct ifinfomsg {
	uint8_t ifi_family;
	uint8_t ifi_pad;
	uint16_t ifi_type;
	uint32_t ifi_index;
	uint32_t ifi_flags;
	uint32_t ifi_change; /* mask of the flags to change */
};

struct rtmsg {
	uint8_t rtm_family;
	uint8_t rtm_dst_len;
	uint8_t rtm_src_len;
	uint8_t rtm_tos;
	uint8_t rtm_table;
	uint8_t rtm_protocol;
	uint8_t rtm_scope;
	uint8_t rtm_type;
	uint32_t rtm_flags;
};

/* What _border/packets.py uses: packet(7). */
#define SOL_PACKET 263
#define PACKET_VNET_HDR 15
#define PACKET_IGNORE_OUTGOING 23
#define ETH_P_ALL 3

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
