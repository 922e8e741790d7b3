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

/* An option that is a small non-negative int, or -errno. */
static int ask(int fd, int level, int option)
{
	int value = 0, length = sizeof(value);
	int failed = sockopt_get(fd, level, option, &value, &length);

	return failed ? failed : value;
}

int tcp_protocol_of(int domain, int type, int protocol)
{
	if (domain != AF_INET && domain != AF_INET6)
		return 0;
	if (type != SOCK_STREAM)
		return 0;
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP ? protocol : 0;
}

int tcp_protocol(int fd)
{
	int domain = ask(fd, SOL_SOCKET, SO_DOMAIN);
	int type, protocol;

	if (domain < 0)
		return domain;
	type = ask(fd, SOL_SOCKET, SO_TYPE);
	if (type < 0)
		return type;
	protocol = ask(fd, SOL_SOCKET, SO_PROTOCOL);
	if (protocol < 0)
		return protocol;
	return tcp_protocol_of(domain, type, protocol);
}

int speaks_mptcp(int fd)
{
	int answer = ask(fd, IPPROTO_TCP, TCP_IS_MPTCP);

	if (answer == -EOPNOTSUPP || answer == -ENOPROTOOPT)
		return answer == -EOPNOTSUPP;
	return answer < 0 ? answer : answer == 1;
}

int mptcp_refusal(int fd)
{
	int protocol = tcp_protocol(fd);
	int living;

	if (protocol < 0)
		return protocol;
	if (!protocol)
		return REFUSED_OTHER;
	living = speaks_mptcp(fd);
	if (living < 0)
		return living;
	if (living)
		return REFUSED_OPTION;
	return protocol == IPPROTO_MPTCP ? REFUSED_FALLBACK : REFUSED_TCP;
}

/* One answer into the scratch. Returns its length, also of one that found no room there, or -errno. */
static int get_row(const struct socket_rows *rows, int fd)
{
	const struct mptcp_full_info *full = rows->scratch;
	int length;

	if (rows->option == MPTCP_INFO)
		return get_length(fd, MPTCP_INFO, rows->scratch, rows->scratch_size);
	length = mptcp_get_full_info(fd, rows->scratch, rows->scratch_size);
	return length ? length : mptcp_full_info_room((int)full->num_subflows);
}

/* Whether the token read is that of another connection than the one known; else it is known now. */
static int is_another(uint64_t *known, uint32_t token)
{
	if (*known == TOKEN_GONE)
		return 1;
	/* 0 before connect, and after a fastclose: nobody's. */
	if (!token)
		return 0;
	if (!*known)
		*known = token;
	return *known != token;
}

int mptcp_get_rows(struct socket_rows *rows)
{
	const size_t info_at = rows->option == MPTCP_INFO ? 0 : offsetof(struct mptcp_full_info, mptcp_info);
	/* struct mptcp_info as it was born. */
	const int smallest = (int)(info_at + offsetof(struct mptcp_info, mptcpi_local_addr_used));
	const struct mptcp_info *info = (const void *)((const char *)rows->scratch + info_at);
	const int count = rows->count, stride = rows->stride;
	const int info_end = (int)(info_at + sizeof(*info));
	const int head = info_end < stride ? info_end : stride;
	char *row = rows->block;
	int *lengths = (void *)(row + (size_t)count * (size_t)stride);
	int *errnos = lengths + count, *refusals = errnos + count;
	int longest = 0, i;

	for (i = 0; i < count; i++, row += stride) {
		int length = get_row(rows, rows->fds[i]), refusal = 0, filled;

		if (length == -EOPNOTSUPP || length == -ENOPROTOOPT) {
			refusal = mptcp_refusal(rows->fds[i]);
			if (refusal < 0) {
				length = refusal;
				refusal = 0;
			}
		} else if (length >= 0 && length < smallest) {
			length = -EPROTO;
		} else if (length >= 0 && is_another(&rows->tokens[i], info->mptcpi_token)) {
			length = -ESTALE;
		}
		if (length == -EBADF || length == -ENOTSOCK || (refusal && refusal != REFUSED_OPTION))
			rows->tokens[i] = TOKEN_GONE;
		lengths[i] = length < 0 ? 0 : length;
		errnos[i] = length < 0 ? -length : 0;
		refusals[i] = refusal;
		if (length > longest)
			longest = length;
		/* What found no room in the scratch will be asked for again. */
		filled = length < 0 || length > rows->scratch_size ? 0 : length < stride ? length : stride;
		memcpy(row, rows->scratch, (size_t)filled);
		if (filled < head)
			memset(row + filled, 0, (size_t)(head - filled));
	}
	return longest;
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
