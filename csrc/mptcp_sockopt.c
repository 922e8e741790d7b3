/* SPDX-License-Identifier: MIT */
#include "mptcp_sockopt.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* The layouts, as measured on kernels of four architectures. Only mptcp_subflow_info differs between
 * 64-bit and 32-bit: the kernel aligns its addresses like a pointer. */
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type ": size")
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

SIZE(struct mptcp_info, 96);
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

SIZE(struct mptcp_full_info, 136);
AT(struct mptcp_full_info, num_subflows, 16);
AT(struct mptcp_full_info, subflow_info, 24);
AT(struct mptcp_full_info, mptcp_info, 40);

SIZE(struct tcp_info, 280);
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

/* Where the arrays of MPTCP_FULL_INFO start before they are moved up: after the struct and its room. */
#define FULL_INFO_ROOM (offsetof(struct mptcp_full_info, mptcp_info) + MPTCP_INFO_ROOM)
#define SUBFLOW_ROOM (SUBFLOW_INFO_ROOM + TCP_INFO_ROOM)

_Static_assert(FULL_INFO_ROOM % 8 == 0, "the arrays start aligned");
_Static_assert(SUBFLOW_INFO_ROOM % 8 == 0, "and stay so");

const char *mptcp_sockopt_version(void)
{
	return MPTCP_SOCKOPT_VERSION;
}

int sockopt_get(int fd, int level, int option, void *value, int *length)
{
	socklen_t left = (socklen_t)*length;
	int failed;

	if (fd < 0)
		return -EBADF;
	/* MPTCP_INFO takes a negative length as "everything" and would write it all. */
	failed = getsockopt(fd, level, option, *length < 0 ? NULL : value, &left);
	*length = (int)left;
	return failed ? -errno : 0;
}

/* As sockopt_get, but returns the length, and refuses one that the buffer cannot hold. */
static int get_length(int fd, int option, void *value, int size)
{
	int length = size;
	int failed;

	if (size < 0)
		return -EINVAL;
	failed = sockopt_get(fd, SOL_MPTCP, option, value, &length);
	if (failed)
		return failed;
	return length < 0 || length > size ? -EPROTO : length;
}

int mptcp_get_info(int fd, void *info)
{
	return get_length(fd, MPTCP_INFO, info, MPTCP_INFO_ROOM);
}

int mptcp_get_subflow_data(int fd, int option, void *data, int size, int element)
{
	struct mptcp_subflow_data *header = data;
	int length;

	if (size < (int)sizeof(*header) || element <= 0)
		return -EINVAL;
	memset(header, 0, sizeof(*header));
	header->size_subflow_data = sizeof(*header);
	header->size_user = (uint32_t)element;
	length = get_length(fd, option, data, size);
	if (length >= 0 && (length < (int)sizeof(*header) || header->size_user == 0 ||
			    header->size_user > (uint32_t)element))
		return -EPROTO;
	return length;
}

int mptcp_full_info_room(int subflows)
{
	return (int)FULL_INFO_ROOM + subflows * SUBFLOW_ROOM;
}

int mptcp_get_full_info(int fd, void *full, int size)
{
	struct mptcp_full_info *header = full;
	char *start = full, *end, *subflow_info, *tcp_info;
	uint32_t slots, filled;
	size_t bytes;
	int length;

	if (size < (int)FULL_INFO_ROOM)
		return -EINVAL;
	slots = (uint32_t)(size - (int)FULL_INFO_ROOM) / SUBFLOW_ROOM;
	subflow_info = start + FULL_INFO_ROOM;
	tcp_info = subflow_info + slots * SUBFLOW_INFO_ROOM;

	memset(header, 0, offsetof(struct mptcp_full_info, mptcp_info));
	header->size_tcpinfo_user = TCP_INFO_ROOM;
	header->size_sfinfo_user = SUBFLOW_INFO_ROOM;
	header->size_arrays_user = slots;
	header->subflow_info = (uintptr_t)subflow_info;
	header->tcp_info = (uintptr_t)tcp_info;
	length = get_length(fd, MPTCP_FULL_INFO, full, (int)FULL_INFO_ROOM);
	if (length < 0)
		return length;
	if (length < (int)offsetof(struct mptcp_full_info, mptcp_info) ||
	    header->size_sfinfo_user > SUBFLOW_INFO_ROOM || header->size_tcpinfo_user > TCP_INFO_ROOM ||
	    header->size_arrays_user != slots)
		return -EPROTO;

	/* Addresses of this process are nobody's information. */
	header->subflow_info = 0;
	header->tcp_info = 0;

	filled = header->num_subflows < slots ? header->num_subflows : slots;
	end = start + length;
	bytes = (size_t)filled * header->size_sfinfo_user;
	memmove(end, subflow_info, bytes);
	end += bytes;
	bytes = (size_t)filled * header->size_tcpinfo_user;
	memmove(end, tcp_info, bytes);
	end += bytes;
	return (int)(end - start);
}

int socket_names(int fd, struct mptcp_subflow_addrs *names)
{
	socklen_t length = sizeof(names->ss_local);

	memset(names, 0, sizeof(*names));
	if (getsockname(fd, (struct sockaddr *)&names->ss_local, &length))
		return -errno;
	length = sizeof(names->ss_remote);
	if (getpeername(fd, (struct sockaddr *)&names->ss_remote, &length)) {
		if (errno != ENOTCONN)
			return -errno;
		names->sa_family_remote = names->sa_family;
	}
	return 0;
}
