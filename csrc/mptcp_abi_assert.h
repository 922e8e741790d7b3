/* SPDX-License-Identifier: MIT */
/*
 * Asserts for the layouts in mptcp_abi.h, as measured on kernels of four architectures. Only mptcp_subflow_info
 * differs between 64 and 32 bits: the kernel aligns its addresses like a pointer. This file is freestanding, so
 * it can be compiled for 32 bits without a 32-bit C library. A struct that grows is pinned by its last field,
 * because its size, with padding, may differ on 32 bits.
 */
#ifndef MPTCP_ABI_ASSERT_H
#define MPTCP_ABI_ASSERT_H

#include "inet_diag_abi.h"
#include "mptcp_abi.h"

#include <stddef.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type ": size")
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

AT(struct mptcp_info, mptcpi_flags, 8);
AT(struct mptcp_info, mptcpi_write_seq, 16);
AT(struct mptcp_info, mptcpi_rcv_nxt, 32);
AT(struct mptcp_info, mptcpi_local_addr_used, 40);
AT(struct mptcp_info, mptcpi_retransmits, 44);
AT(struct mptcp_info, mptcpi_bytes_acked, 72);
AT(struct mptcp_info, mptcpi_subflows_total, 80);
AT(struct mptcp_info, mptcpi_endp_fullmesh_max, 82);
AT(struct mptcp_info, mptcpi_last_data_sent, 84);
AT(struct mptcp_info, mptcpi_last_ack_recv, 92);

SIZE(struct mptcp_subflow_data, 16);
AT(struct mptcp_subflow_data, size_user, 12);

SIZE(struct kernel_sockaddr_in, 16);
SIZE(struct kernel_sockaddr_in6, 28);
AT(struct kernel_sockaddr_in6, sin6_addr, 8);
AT(struct kernel_sockaddr_in6, sin6_scope_id, 24);
SIZE(struct mptcp_subflow_addrs, 256);
AT(struct mptcp_subflow_addrs, sa_family, 0);
AT(struct mptcp_subflow_addrs, sa_family_remote, 128);

SIZE(struct mptcp_subflow_info, 256 + sizeof(void *));
AT(struct mptcp_subflow_info, addrs, sizeof(void *));

AT(struct mptcp_full_info, num_subflows, 16);
AT(struct mptcp_full_info, subflow_info, 24);
AT(struct mptcp_full_info, mptcp_info, 40);

AT(struct tcp_info, tcpi_rto, 8);
AT(struct tcp_info, tcpi_unacked, 24);
AT(struct tcp_info, tcpi_rtt, 68);
AT(struct tcp_info, tcpi_total_retrans, 100);
AT(struct tcp_info, tcpi_bytes_acked, 120);
AT(struct tcp_info, tcpi_delivery_rate, 160);
AT(struct tcp_info, tcpi_bytes_sent, 200);
AT(struct tcp_info, tcpi_snd_wnd, 228);
AT(struct tcp_info, tcpi_rehash, 236);
AT(struct tcp_info, tcpi_total_rto_time, 244);
AT(struct tcp_info, tcpi_received_ce, 248);
AT(struct tcp_info, tcpi_raw_276, 276);

SIZE(struct sockaddr_nl, 12);
SIZE(struct nlmsghdr, 16);
AT(struct nlmsghdr, nlmsg_type, 4);
AT(struct nlmsghdr, nlmsg_seq, 8);
SIZE(struct nlattr, 4);
AT(struct nlattr, nla_type, 2);

SIZE(struct inet_diag_sockid, 48);
AT(struct inet_diag_sockid, idiag_src, 4);
AT(struct inet_diag_sockid, idiag_dst, 20);
AT(struct inet_diag_sockid, idiag_if, 36);
AT(struct inet_diag_sockid, idiag_cookie, 40);
SIZE(struct inet_diag_req_v2, 56);
AT(struct inet_diag_req_v2, idiag_states, 4);
AT(struct inet_diag_req_v2, id, 8);
SIZE(struct inet_diag_req, 60);
AT(struct inet_diag_req, id, 4);
AT(struct inet_diag_req, idiag_states, 52);
SIZE(struct inet_diag_bc_op, 4);
SIZE(struct inet_diag_msg, 72);
AT(struct inet_diag_msg, id, 4);
AT(struct inet_diag_msg, idiag_expires, 52);
AT(struct inet_diag_msg, idiag_inode, 68);

SIZE(struct rtmsg, 12);
AT(struct rtmsg, rtm_type, 7);
SIZE(struct tcp_md5sig, 216);
AT(struct tcp_md5sig, tcpm_keylen, 130);

#undef SIZE
#undef AT

#endif
