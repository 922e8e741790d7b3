/* SPDX-License-Identifier: MIT */
#include "mptcp_diag.h"

#include "mptcp_abi_assert.h"
#include "mptcp_sockopt.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The payload follows each kind of header without padding; the next header follows at a multiple of 4. */
#define NETLINK_ALIGN(length) (((length) + 3) & ~(size_t)3)
#define RECORD_ALIGN(length) (((length) + 7) & ~(size_t)7)

/* Datagrams between two checks for signals: about 10 ms. */
#define BATCH 64

_Static_assert(sizeof(struct inet_diag_msg) % 8 == 0, "mptcp_info starts aligned");
_Static_assert(MPTCP_INFO_ROOM % 8 == 0, "and ends aligned");
/* Records are made in place, so one must not be longer than its message. Padding takes 7 bytes at most. */
_Static_assert(sizeof(struct nlmsghdr) >= 7, "the shortest message has room for its record");
_Static_assert(sizeof(struct tcp_socket) <= sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg), "also this");

/* The error of a failed call. Only -1 together with an errno is accepted as one. */
static int refused(ssize_t result)
{
	return result == -1 && errno > 0 && errno <= MOST_ERRNO ? -errno : -EPROTO;
}

int mptcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int family, uint32_t states)
{
	const int all = family == AF_UNSPEC;
	const uint8_t info = 1 << (INET_DIAG_INFO - 1);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct nlmsghdr header = {
		.nlmsg_type = all ? TCPDIAG_GETSOCK : SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.nlmsg_seq = dump->sequence,
	};
	struct inet_diag_req any_family = {.idiag_ext = info, .idiag_states = states};
	/* sdiag_protocol stays 0: a kernel that does not know the attribute must find nothing, rather than
	 * take the low byte of 262 for a protocol. */
	struct inet_diag_req_v2 one_family = {
		.sdiag_family = (uint8_t)family, .idiag_ext = info, .idiag_states = states};
	struct nlattr attribute = {.nla_type = INET_DIAG_REQ_PROTOCOL};
	uint32_t protocol = IPPROTO_MPTCP;
	struct iovec parts[] = {
		{&header, sizeof(header)},
		{&any_family, sizeof(any_family)},
		{&attribute, sizeof(attribute)},
		{&protocol, sizeof(protocol)},
	};
	struct msghdr request = {
		.msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = parts, .msg_iovlen = 4};
	ssize_t sent;

	if (!all)
		parts[1] = (struct iovec){&one_family, sizeof(one_family)};
	attribute.nla_len = sizeof(attribute) + sizeof(protocol);
	header.nlmsg_len = (uint32_t)(sizeof(header) + parts[1].iov_len + attribute.nla_len);
	sent = sendmsg(fd, &request, 0);
	return sent == (ssize_t)header.nlmsg_len ? 0 : refused(sent);
}

int tcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int port)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct {
		struct nlmsghdr header;
		struct inet_diag_req of_tcp;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = TCPDIAG_GETSOCK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			.nlmsg_seq = dump->sequence,
		},
		/* The name of the ULP comes only together with tcp_info. */
		.of_tcp = {
			.idiag_ext = dump->tcp == 1u << TCP_LISTEN ? (uint8_t)(1 << (INET_DIAG_INFO - 1)) : 0,
			.id.idiag_sport = {(uint8_t)(port >> 8), (uint8_t)port},
			.idiag_states = dump->tcp,
		},
	};
	struct iovec part = {&request, sizeof(request)};
	struct msghdr message = {
		.msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = &part, .msg_iovlen = 1};
	ssize_t sent;

	_Static_assert(sizeof(request) == sizeof(request.header) + sizeof(request.of_tcp), "no padding");
	sent = sendmsg(fd, &message, 0);
	return sent == (ssize_t)sizeof(request) ? 0 : refused(sent);
}

/* Find an attribute. Returns its payload; or NULL, with *length 0 if it is not there, -1 if attributes are
 * malformed. */
static const uint8_t *find_attribute(const uint8_t *at, size_t left, uint16_t type, int *length)
{
	struct nlattr attribute;

	*length = 0;
	while (left >= sizeof(attribute)) {
		memcpy(&attribute, at, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > left) {
			*length = -1;
			return NULL;
		}
		if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
			*length = (int)(attribute.nla_len - sizeof(attribute));
			return at + sizeof(attribute);
		}
		if (NETLINK_ALIGN(attribute.nla_len) >= left)
			break;
		at += NETLINK_ALIGN(attribute.nla_len);
		left -= NETLINK_ALIGN(attribute.nla_len);
	}
	return NULL;
}

static int is_of_tcp(const uint8_t *message)
{
	const uint8_t family = message[offsetof(struct inet_diag_msg, idiag_family)];
	const uint8_t state = message[offsetof(struct inet_diag_msg, idiag_state)];

	return (family == AF_INET || family == AF_INET6) && state > 0 && state <= MOST_STATE;
}

/* Turn a message about one socket (without its header) into a record after the others. */
static int add_record(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length)
{
	const size_t msg = sizeof(struct inet_diag_msg);
	uint8_t *record = (uint8_t *)dump->records + dump->used;
	const uint8_t *info;
	int info_length;

	if (length < msg)
		return -EPROTO;
	if (!is_of_tcp(message))
		return -EPROTO;
	info = find_attribute(message + msg, length - msg, INET_DIAG_INFO, &info_length);
	if (info_length < LEAST_MPTCP_INFO || info_length > MOST_STRUCT || info_length % 4)
		return -EPROTO;
	if (info_length > MPTCP_INFO_ROOM)
		info_length = MPTCP_INFO_ROOM;
	if (!dump->stride) {
		dump->info_length = (uint32_t)info_length;
		dump->stride = (uint32_t)(msg + RECORD_ALIGN((size_t)info_length));
	}
	/* A kernel has only one struct mptcp_info. */
	if ((uint32_t)info_length != dump->info_length)
		return -EPROTO;
	memmove(record, message, msg);
	memmove(record + msg, info, dump->info_length);
	memset(record + msg + dump->info_length, 0, dump->stride - msg - dump->info_length);
	dump->used += dump->stride;
	return 0;
}

/* 1 if the ULP is named "mptcp", else 0; -EPROTO if its attributes are malformed. */
static int is_named_mptcp(const uint8_t *ulp, size_t length)
{
	static const char name[] = "mptcp";
	const uint8_t *value;
	int value_length;

	value = find_attribute(ulp, length, INET_ULP_INFO_NAME, &value_length);
	if (value_length < 0)
		return -EPROTO;
	return value && value_length == sizeof(name) && !memcmp(value, name, sizeof(name));
}

/* As add_record(), for a TCP socket. */
static int add_tcp_socket(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length)
{
	const size_t msg = sizeof(struct inet_diag_msg);
	struct tcp_socket found = {.v6only = V6ONLY_NOT_TOLD};
	const uint8_t *ulp, *v6only;
	int info_length, ulp_length, mark_length, v6only_length, named = 0;

	if (length < msg)
		return -EPROTO;
	if (!is_of_tcp(message))
		return -EPROTO;
	/* The kernel selects sockets under a lock, but reports them later. This one has changed its state
	 * since. */
	if (!(dump->tcp >> message[offsetof(struct inet_diag_msg, idiag_state)] & 1))
		return 0;
	ulp = find_attribute(message + msg, length - msg, INET_DIAG_ULP_INFO, &ulp_length);
	find_attribute(message + msg, length - msg, INET_DIAG_INFO, &info_length);
	found.privileged = !!find_attribute(message + msg, length - msg, INET_DIAG_MARK, &mark_length);
	v6only = find_attribute(message + msg, length - msg, INET_DIAG_SKV6ONLY, &v6only_length);
	if (ulp_length < 0 || mark_length < 0 || v6only_length < 0 || info_length < 0 || info_length > MOST_STRUCT)
		return -EPROTO;
	if (v6only && (v6only_length != sizeof(*v6only) || *v6only > 1))
		return -EPROTO;
	if (ulp)
		named = is_named_mptcp(ulp, (size_t)ulp_length);
	if (named < 0)
		return named;
	memcpy(&found.msg, message, msg);
	found.is_mptcp = (uint8_t)named;
	found.tcp_info = (uint16_t)info_length;
	if (v6only)
		found.v6only = *v6only;
	memcpy((uint8_t *)dump->records + dump->used, &found, sizeof(found));
	dump->stride = sizeof(found);
	dump->used += sizeof(found);
	return 0;
}

int mptcp_diag_parse(struct mptcp_diag_dump *dump, uint64_t length)
{
	const uint8_t *at = (const uint8_t *)dump->records + dump->used;
	size_t left = (size_t)length;
	struct nlmsghdr header;
	int32_t error;
	int failed;

	if (dump->used > dump->size || length > dump->size - dump->used)
		return -EINVAL;
	while (left) {
		if (left < sizeof(header))
			return -EPROTO;
		memcpy(&header, at, sizeof(header));
		if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left)
			return -EPROTO;
		/* Left over from another request. */
		if (header.nlmsg_seq != dump->sequence)
			goto next;
		if (header.nlmsg_flags & NLM_F_DUMP_INTR)
			dump->interrupted = 1;
		switch (header.nlmsg_type) {
		case TCPDIAG_GETSOCK:
		case SOCK_DIAG_BY_FAMILY:
			failed = (dump->tcp ? add_tcp_socket : add_record)(
				dump, at + sizeof(header), header.nlmsg_len - sizeof(header));
			if (failed)
				return failed;
			break;
		case NLMSG_ERROR:
		case NLMSG_DONE:
			/* Both carry 0 or -errno. An error of 0 is an acknowledgement, which does not belong
			 * in a dump. */
			error = 1;
			if (header.nlmsg_len >= sizeof(header) + sizeof(error))
				memcpy(&error, at + sizeof(header), sizeof(error));
			if (error < 0)
				return error >= -MOST_ERRNO ? error : -EPROTO;
			return error == 0 && header.nlmsg_type == NLMSG_DONE ? 1 : -EPROTO;
		case NLMSG_OVERRUN:
			return -ENOBUFS;
		}
next:
		if (NETLINK_ALIGN(header.nlmsg_len) >= left)
			break;
		at += NETLINK_ALIGN(header.nlmsg_len);
		left -= NETLINK_ALIGN(header.nlmsg_len);
	}
	return 0;
}

/* As mptcp_diag_receive(), for one datagram. */
static int receive_one(int fd, struct mptcp_diag_dump *dump)
{
	struct sockaddr_nl sender;
	struct iovec part = {(uint8_t *)dump->records + dump->used, MPTCP_DIAG_DATAGRAM};
	struct msghdr datagram = {
		.msg_name = &sender, .msg_namelen = sizeof(sender), .msg_iov = &part, .msg_iovlen = 1};
	ssize_t length = recvmsg(fd, &datagram, MSG_DONTWAIT);

	if (length < 0) {
		const int failed = refused(length);

		return failed == -EINTR ? 0 : failed;
	}
	if (datagram.msg_namelen != sizeof(sender) || sender.nl_family != AF_NETLINK)
		return -EPROTO;
	/* Root can write to other processes' netlink sockets. */
	if (sender.nl_pid != 0)
		return 0;
	if (datagram.msg_flags & MSG_TRUNC)
		return -ENOBUFS;
	if (length > MPTCP_DIAG_DATAGRAM)
		return -EPROTO;
	return mptcp_diag_parse(dump, (uint64_t)length);
}

int mptcp_diag_receive(int fd, struct mptcp_diag_dump *dump)
{
	int left, done = 0;

	for (left = BATCH; left && !done; left--) {
		const uint64_t used = dump->used;

		if (used > dump->size || dump->size - used < MPTCP_DIAG_DATAGRAM)
			return 0;
		done = receive_one(fd, dump);
		if (!done && dump->used == used) {
			if (++dump->barren > MOST_BARREN)
				return -EPROTO;
			/* This may have been a signal. */
			return 0;
		}
	}
	return done;
}
