/* SPDX-License-Identifier: MIT */
#include "mptcp_sockopt.h"

#include "mptcp_abi_assert.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

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
	uint32_t slots;
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

	if (header->num_subflows > slots)
		return 0;
	end = start + length;
	bytes = (size_t)header->num_subflows * header->size_sfinfo_user;
	memmove(end, subflow_info, bytes);
	end += bytes;
	bytes = (size_t)header->num_subflows * header->size_tcpinfo_user;
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
