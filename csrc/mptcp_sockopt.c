/* SPDX-License-Identifier: MIT */
#include "mptcp_sockopt.h"

#include "mptcp_abi_assert.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Where the kernel writes the arrays of MPTCP_FULL_INFO, before they are moved up: after the room for the
 * struct. */
#define FULL_INFO_ROOM (offsetof(struct mptcp_full_info, mptcp_info) + MPTCP_INFO_ROOM)
#define SUBFLOW_ROOM (SUBFLOW_INFO_ROOM + TCP_INFO_ROOM)

_Static_assert(FULL_INFO_ROOM % 8 == 0, "the arrays start aligned");
_Static_assert(SUBFLOW_INFO_ROOM % 8 == 0, "each element is aligned");

const char *mptcp_sockopt_version(void)
{
	return MPTCP_SOCKOPT_VERSION;
}

/* The error of a failed call. Only -1 together with an errno is accepted as one. */
static int refused(int result)
{
	return result == -1 && errno > 0 && errno <= MOST_ERRNO ? -errno : -EPROTO;
}

int sockopt_get(int fd, int level, int option, void *value, int *length)
{
	socklen_t left = (socklen_t)*length;
	int failed;

	if (fd < 0)
		return -EBADF;
	/* MPTCP_INFO treats a negative length as "no limit" and would write the whole struct. */
	failed = getsockopt(fd, level, option, *length < 0 ? NULL : value, &left);
	*length = (int)left;
	return failed ? refused(failed) : 0;
}

/* As sockopt_get(), but returns the length, which must be that of a struct. */
static int get_length(int fd, int level, int option, void *value, int least, int room)
{
	int length = room;
	int failed = sockopt_get(fd, level, option, value, &length);

	if (failed)
		return failed;
	return length < least || length > room || length % 4 ? -EPROTO : length;
}

/* Marks a struct that the kernel has not written, whatever length it reports: no kernel sets all flags. */
#define UNWRITTEN_FLAGS UINT32_MAX

static int is_mptcp_info(const struct mptcp_info *info)
{
	return info->mptcpi_flags != UNWRITTEN_FLAGS;
}

static int is_family(uint16_t family)
{
	return family == AF_INET || family == AF_INET6;
}

/* Whether all addresses are those of a TCP connection. Memory that was not written has family 0. */
static int are_addrs(const char *at, uint32_t count, uint32_t step)
{
	uint16_t local, remote;

	for (; count--; at += step) {
		memcpy(&local, at + offsetof(struct mptcp_subflow_addrs, sa_family), sizeof(local));
		memcpy(&remote, at + offsetof(struct mptcp_subflow_addrs, sa_family_remote), sizeof(remote));
		if (!is_family(local) || remote != local)
			return 0;
	}
	return 1;
}

/* Whether each tcp_info has a state. Memory that was not written has state 0. */
static int are_tcp_infos(const char *at, uint32_t count, uint32_t step)
{
	for (; count--; at += step) {
		uint8_t state = (uint8_t)at[offsetof(struct tcp_info, tcpi_state)];

		if (state == 0 || state > MOST_STATE)
			return 0;
	}
	return 1;
}

/* Whether the kernel's struct can have this size, and the size that it returned is that, or room if that is
 * less. */
static int are_sizes(uint32_t kernel, uint32_t user, uint32_t least, uint32_t room)
{
	return kernel >= least && kernel <= MOST_STRUCT && kernel % 4 == 0 &&
	       user == (kernel < room ? kernel : room);
}

/* Forces a call of memset(): if gcc knows the size, it inlines rep stos, which takes five times as long. */
static void *(*const volatile clear)(void *, int, size_t) = memset;

int mptcp_get_info(int fd, void *info)
{
	int length;

	clear(info, 0, MPTCP_INFO_ROOM);
	((struct mptcp_info *)info)->mptcpi_flags = UNWRITTEN_FLAGS;
	length = get_length(fd, SOL_MPTCP, MPTCP_INFO, info, LEAST_MPTCP_INFO, MPTCP_INFO_ROOM);
	return length >= 0 && !is_mptcp_info(info) ? -EPROTO : length;
}

int tcp_get_info(int fd, void *info)
{
	int length;

	clear(info, 0, TCP_INFO_ROOM);
	length = get_length(fd, IPPROTO_TCP, TCP_INFO, info, LEAST_TCP_INFO, TCP_INFO_ROOM);
	return length >= 0 && !are_tcp_infos(info, 1, 0) ? -EPROTO : length;
}

static int get_subflow_data(int fd, int option, struct mptcp_subflow_data *header, int size)
{
	const int addrs = option == MPTCP_SUBFLOW_ADDRS;
	const uint32_t least = addrs ? LEAST_SUBFLOW_ADDRS : LEAST_SUBFLOW_TCP_INFO;
	const uint32_t room = addrs ? SUBFLOW_ADDRS_ROOM : TCP_INFO_ROOM;
	const char *elements = (const char *)(header + 1);
	uint32_t count, fit;
	int length;

	header->size_subflow_data = sizeof(*header);
	header->size_user = room;
	length = get_length(fd, SOL_MPTCP, option, header, sizeof(*header), size);
	if (length < 0)
		return length;
	count = header->num_subflows;
	if (header->size_subflow_data != sizeof(*header) || count > MOST_SUBFLOWS ||
	    !are_sizes(header->size_kernel, header->size_user, least, room))
		return -EPROTO;
	fit = (uint32_t)(size - (int)sizeof(*header)) / header->size_user;
	if (length != (int)(sizeof(*header) + (count < fit ? count : fit) * header->size_user))
		return -EPROTO;
	if (count > fit)
		return 0;
	return (addrs ? are_addrs : are_tcp_infos)(elements, count, header->size_user) ? length : -EPROTO;
}

int mptcp_get_subflow_data(int fd, int option, void *data, int size)
{
	struct mptcp_subflow_data *header = data;
	uint64_t used;
	int length;

	if (size < (int)sizeof(*header))
		return -EINVAL;
	/* The header of the last answer says how much of the memory it took. */
	used = sizeof(*header) + (uint64_t)header->num_subflows * header->size_user;
	memset(data, 0, header->size_subflow_data && used <= (uint64_t)size ? (size_t)used : (size_t)size);
	length = get_subflow_data(fd, option, header, size);
	if (length == -EPROTO)
		header->size_subflow_data = 0; /* unknown how much was written */
	return length;
}

int mptcp_full_info_room(int subflows)
{
	return (int)FULL_INFO_ROOM + subflows * SUBFLOW_ROOM;
}

static int get_full_info(int fd, struct mptcp_full_info *header, char *subflow_info, char *tcp_info,
			 uint32_t slots)
{
	char *start = (char *)header, *end;
	uint32_t count, addrs_at;
	size_t bytes;
	int length;

	header->size_tcpinfo_user = TCP_INFO_ROOM;
	header->size_sfinfo_user = SUBFLOW_INFO_ROOM;
	header->size_arrays_user = slots;
	header->subflow_info = (uintptr_t)subflow_info;
	header->tcp_info = (uintptr_t)tcp_info;
	header->mptcp_info.mptcpi_flags = UNWRITTEN_FLAGS;
	length = get_length(fd, SOL_MPTCP, MPTCP_FULL_INFO, header,
			    (int)offsetof(struct mptcp_full_info, mptcp_info) + LEAST_MPTCP_INFO,
			    (int)FULL_INFO_ROOM);
	/* Do not leak addresses of this process. */
	header->subflow_info = 0;
	header->tcp_info = 0;
	if (length < 0)
		return length;
	count = header->num_subflows;
	if (count > MOST_SUBFLOWS || header->size_arrays_user != slots || !is_mptcp_info(&header->mptcp_info) ||
	    !are_sizes(header->size_sfinfo_kernel, header->size_sfinfo_user, LEAST_SUBFLOW_INFO,
		       SUBFLOW_INFO_ROOM) ||
	    !are_sizes(header->size_tcpinfo_kernel, header->size_tcpinfo_user, LEAST_SUBFLOW_TCP_INFO,
		       TCP_INFO_ROOM))
		return -EPROTO;
	if (count > slots)
		return 0;
	/* At offset 4 in the 260 bytes of a 32-bit kernel, else at 8. */
	addrs_at = header->size_sfinfo_kernel == LEAST_SUBFLOW_INFO ? 4 : 8;
	if (!are_addrs(subflow_info + addrs_at, count, header->size_sfinfo_user) ||
	    !are_tcp_infos(tcp_info, count, header->size_tcpinfo_user))
		return -EPROTO;
	/* The memory was cleared before. If there is a state after the last element, the kernel wrote more
	 * than it said. */
	if (count < slots && tcp_info[count * header->size_tcpinfo_user + offsetof(struct tcp_info, tcpi_state)])
		return -EPROTO;

	end = start + length;
	bytes = (size_t)count * header->size_sfinfo_user;
	memmove(end, subflow_info, bytes);
	end += bytes;
	bytes = (size_t)count * header->size_tcpinfo_user;
	memmove(end, tcp_info, bytes);
	end += bytes;
	return (int)(end - start);
}

int mptcp_get_full_info(int fd, void *full, int size)
{
	struct mptcp_full_info *header = full;
	char *subflow_info = (char *)full + FULL_INFO_ROOM, *tcp_info;
	uint32_t slots, before;
	int length;

	if (size < (int)FULL_INFO_ROOM)
		return -EINVAL;
	slots = (uint32_t)(size - (int)FULL_INFO_ROOM) / SUBFLOW_ROOM;
	tcp_info = subflow_info + slots * SUBFLOW_INFO_ROOM;

	/* The header of the last answer says how much of the memory it took. */
	before = header->num_subflows;
	if (header->size_arrays_user == slots && before <= slots &&
	    header->size_sfinfo_user <= SUBFLOW_INFO_ROOM && header->size_tcpinfo_user <= TCP_INFO_ROOM) {
		const size_t arrays = header->size_sfinfo_user + header->size_tcpinfo_user;

		memset(tcp_info, 0, before * (size_t)header->size_tcpinfo_user);
		memset(full, 0, FULL_INFO_ROOM + before * arrays);
	} else {
		memset(full, 0, FULL_INFO_ROOM + (size_t)slots * SUBFLOW_ROOM);
	}
	length = get_full_info(fd, header, subflow_info, tcp_info, slots);
	if (length == -EPROTO)
		header->num_subflows = UINT32_MAX; /* unknown how much was written */
	return length;
}

static const struct {
	int level, option, least, most;
} questions[] = {
	[ASK_SO_DOMAIN - ASK_SO_DOMAIN] = {SOL_SOCKET, SO_DOMAIN, 1, MOST_FAMILY},
	[ASK_SO_TYPE - ASK_SO_DOMAIN] = {SOL_SOCKET, SO_TYPE, 1, MOST_TYPE},
	[ASK_SO_PROTOCOL - ASK_SO_DOMAIN] = {SOL_SOCKET, SO_PROTOCOL, 0, MOST_PROTOCOL},
	[ASK_SO_ACCEPTCONN - ASK_SO_DOMAIN] = {SOL_SOCKET, SO_ACCEPTCONN, 0, 1},
	[ASK_TCP_IS_MPTCP - ASK_SO_DOMAIN] = {IPPROTO_TCP, TCP_IS_MPTCP, 0, 1},
};

int socket_ask(int fd, int question)
{
	const int index = question - ASK_SO_DOMAIN;
	int value = -1, length = sizeof(value), failed;

	if (index < 0 || index >= (int)(sizeof(questions) / sizeof(questions[0])))
		return -EINVAL;
	failed = sockopt_get(fd, questions[index].level, questions[index].option, &value, &length);
	if (!failed && (length != sizeof(value) || value < questions[index].least || value > questions[index].most))
		failed = -EPROTO;
	return failed ? -(question << 12 | -failed) : value;
}

int tcp_protocol_of(int domain, int type, int protocol)
{
	if (!is_family((uint16_t)domain) || type != SOCK_STREAM)
		return 0;
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP ? protocol : 0;
}

int tcp_protocol(int fd)
{
	int domain = socket_ask(fd, ASK_SO_DOMAIN);
	int type, protocol;

	if (domain < 0)
		return domain;
	type = socket_ask(fd, ASK_SO_TYPE);
	if (type < 0)
		return type;
	protocol = socket_ask(fd, ASK_SO_PROTOCOL);
	if (protocol < 0)
		return protocol;
	return tcp_protocol_of(domain, type, protocol);
}

int speaks_mptcp(int fd)
{
	int answer = socket_ask(fd, ASK_TCP_IS_MPTCP);
	int error = answer < 0 ? -answer & MOST_ERRNO : 0;

	if (error == EOPNOTSUPP || error == ENOPROTOOPT)
		return error == EOPNOTSUPP;
	return answer;
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

/* Read one answer into the scratch memory. Returns its length, even if it did not fit, or -errno. */
static int get_row(const struct socket_rows *rows, int fd)
{
	const struct mptcp_full_info *full = rows->scratch;
	int length;

	if (rows->option == MPTCP_INFO)
		return rows->scratch_size < MPTCP_INFO_ROOM ? -EINVAL : mptcp_get_info(fd, rows->scratch);
	length = mptcp_get_full_info(fd, rows->scratch, rows->scratch_size);
	return length ? length : mptcp_full_info_room((int)full->num_subflows);
}

/* Whether token belongs to another connection than *known; if nothing is known yet, it becomes *known. */
static int is_another(uint64_t *known, uint32_t token)
{
	if (*known == TOKEN_GONE)
		return 1;
	/* 0 before connect() and after a fastclose: identifies nothing. */
	if (!token)
		return 0;
	if (!*known)
		*known = token;
	return *known != token;
}

int mptcp_get_rows(struct socket_rows *rows)
{
	const size_t info_at = rows->option == MPTCP_INFO ? 0 : offsetof(struct mptcp_full_info, mptcp_info);
	const struct mptcp_info *info = (const void *)((const char *)rows->scratch + info_at);
	const int count = rows->count, stride = rows->stride;
	const int info_end = (int)(info_at + sizeof(*info));
	const int head = info_end < stride ? info_end : stride;
	char *row = rows->block;
	int *lengths = (void *)(row + (size_t)count * (size_t)stride);
	int *errnos = lengths + count, *refusals = errnos + count;
	int longest = 0, i;

	for (i = 0; i < count; i++, row += stride) {
		int length, filled, refusal = 0, tries = MOST_REFUSALS;

		/* If MPTCP refused: the kernel lacks the option, or the socket was connected again in
		 * between. */
		do {
			length = get_row(rows, rows->fds[i]);
			refusal = 0;
			if (length == -EOPNOTSUPP || length == -ENOPROTOOPT)
				refusal = mptcp_refusal(rows->fds[i]);
		} while (refusal == REFUSED_OPTION && --tries);
		if (refusal < 0) {
			length = -(-refusal & MOST_ERRNO);
			refusal = -refusal >> 12;
		} else if (length >= 0 && is_another(&rows->tokens[i], info->mptcpi_token)) {
			length = -ESTALE;
			refusal = ANOTHER_CONNECTION;
		}
		if (length == -EBADF || length == -ENOTSOCK || refusal == REFUSED_OTHER ||
		    refusal == REFUSED_TCP || refusal == REFUSED_FALLBACK)
			rows->tokens[i] = TOKEN_GONE;
		lengths[i] = length < 0 ? 0 : length;
		errnos[i] = length < 0 ? -length : 0;
		refusals[i] = refusal;
		if (length > longest)
			longest = length;
		/* An answer that did not fit in the scratch memory will be requested again. */
		filled = length < 0 || length > rows->scratch_size ? 0 : length < stride ? length : stride;
		memcpy(row, rows->scratch, (size_t)filled);
		if (filled < head)
			memset(row + filled, 0, (size_t)(head - filled));
	}
	return longest;
}

int socket_name(int fd, int peer, struct mptcp_subflow_addrs *names)
{
	void *name = peer ? (void *)&names->ss_remote : (void *)&names->ss_local;
	const uint16_t *family = peer ? &names->sa_family_remote : &names->sa_family;
	socklen_t length = sizeof(names->ss_local);
	int failed = peer ? getpeername(fd, name, &length) : getsockname(fd, name, &length);

	if (failed) {
		failed = refused(failed);
		if (!peer || failed != -ENOTCONN)
			return failed;
		names->sa_family_remote = names->sa_family;
		return 0;
	}
	if (length == sizeof(struct kernel_sockaddr_in) && *family == AF_INET)
		return 0;
	return length == sizeof(struct kernel_sockaddr_in6) && *family == AF_INET6 ? 0 : -EPROTO;
}
