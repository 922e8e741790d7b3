/* SPDX-License-Identifier: MIT */
#include "mptcp_diag_tcp.h"

#include "mptcp_abi_assert.h"
#include "mptcp_sockopt.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

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

/* Send a request: its header without the length, the body, and the attributes for protocol and port unless they
 * are 0. Returns 0 or -errno. */
static int ask(int fd, struct nlmsghdr *header, void *body, size_t length, uint32_t protocol, uint32_t port)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	/* sport == port || dport == port */
	struct inet_diag_bc_op test[] = {
		{INET_DIAG_BC_S_EQ, 8, 12}, {INET_DIAG_BC_NOP, 0, (uint16_t)port},
		{INET_DIAG_BC_JMP, 4, 12},
		{INET_DIAG_BC_D_EQ, 8, 12}, {INET_DIAG_BC_NOP, 0, (uint16_t)port},
	};
	struct nlattr of_protocol = {sizeof(of_protocol) + sizeof(protocol), INET_DIAG_REQ_PROTOCOL};
	struct nlattr of_test = {sizeof(of_test) + sizeof(test), INET_DIAG_REQ_BYTECODE};
	struct iovec parts[6] = {{header, sizeof(*header)}, {body, length}};
	struct msghdr request = {
		.msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = parts, .msg_iovlen = 2};
	size_t i, whole = 0;
	ssize_t sent;

	if (protocol) {
		parts[request.msg_iovlen++] = (struct iovec){&of_protocol, sizeof(of_protocol)};
		parts[request.msg_iovlen++] = (struct iovec){&protocol, sizeof(protocol)};
	}
	if (port) {
		parts[request.msg_iovlen++] = (struct iovec){&of_test, sizeof(of_test)};
		parts[request.msg_iovlen++] = (struct iovec){test, sizeof(test)};
	}
	/* The rest of them are empty. (msg_iovlen is a size_t or an int: it depends on the C library.) */
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		whole += parts[i].iov_len;
	header->nlmsg_len = (uint32_t)whole;
	sent = sendmsg(fd, &request, 0);
	return sent == (ssize_t)whole ? 0 : refused(sent);
}

static const uint8_t with_info = 1 << (INET_DIAG_INFO - 1);

int mptcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int family, uint32_t states)
{
	struct nlmsghdr header = {
		.nlmsg_type = family == AF_UNSPEC ? TCPDIAG_GETSOCK : SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.nlmsg_seq = dump->sequence,
	};
	struct inet_diag_req any_family = {.idiag_ext = with_info, .idiag_states = states};
	/* sdiag_protocol stays 0: a kernel that does not know the attribute must find nothing, rather than
	 * take the low byte of 262 for a protocol. */
	struct inet_diag_req_v2 one_family = {
		.sdiag_family = (uint8_t)family, .idiag_ext = with_info, .idiag_states = states};

	if (family == AF_UNSPEC)
		return ask(fd, &header, &any_family, sizeof(any_family), IPPROTO_MPTCP, dump->port);
	return ask(fd, &header, &one_family, sizeof(one_family), IPPROTO_MPTCP, dump->port);
}

int tcp_diag_request(int fd, const struct mptcp_diag_dump *dump, int port)
{
	struct nlmsghdr header = {
		.nlmsg_type = TCPDIAG_GETSOCK,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.nlmsg_seq = dump->sequence,
	};
	struct inet_diag_req of_tcp = {
		/* The name of the ULP comes only together with tcp_info. */
		.idiag_ext = dump->datagram || dump->tcp == 1u << TCP_LISTEN ? with_info : 0,
		.id.idiag_sport = {(uint8_t)(port >> 8), (uint8_t)port},
		.idiag_states = dump->tcp,
	};

	return ask(fd, &header, &of_tcp, sizeof(of_tcp), 0, dump->port);
}

const uint8_t *find_attribute(const uint8_t *at, size_t left, uint16_t type, int *length)
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

int is_of_tcp(const uint8_t *message)
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

typedef int add_function(struct mptcp_diag_dump *, const uint8_t *, size_t);

static add_function *adder(const struct mptcp_diag_dump *dump)
{
	return dump->datagram ? add_subflow : dump->tcp ? add_tcp_socket : add_record;
}

int mptcp_diag_parse(struct mptcp_diag_dump *dump, uint64_t length)
{
	const uint8_t *at = dump->datagram ? dump->datagram : (const uint8_t *)dump->records + dump->used;
	size_t left = (size_t)length;
	struct nlmsghdr header;
	int32_t error;
	int failed;

	if (dump->used > dump->size || length > (dump->datagram ? MPTCP_DIAG_DATAGRAM : dump->size - dump->used))
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
			if (++dump->met > MOST_SOCKETS)
				return -EPROTO;
			failed = adder(dump)(dump, at + sizeof(header), header.nlmsg_len - sizeof(header));
			if (failed)
				return failed;
			if (dump->single)
				return 1;
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
	struct iovec part = {
		dump->datagram ? dump->datagram : (uint8_t *)dump->records + dump->used, MPTCP_DIAG_DATAGRAM};
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
	const uint64_t room = dump->datagram ? MPTCP_DIAG_ROOM : MPTCP_DIAG_DATAGRAM;
	int left, done = 0;

	for (left = BATCH; left && !done; left--) {
		const uint64_t met = dump->met;

		if (dump->used > dump->size || dump->size - dump->used < room)
			return 0;
		done = receive_one(fd, dump);
		if (!done && dump->met == met) {
			if (++dump->barren > MOST_BARREN)
				return -EPROTO;
			/* This may have been a signal. */
			return 0;
		}
	}
	return done;
}

/* An address as one of IPv6. A socket of either family can have an IPv4 one. */
static void map_address(uint8_t *mapped, int family, const uint8_t *address)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	memcpy(mapped, family == AF_INET ? prefix : address, sizeof(prefix));
	memcpy(mapped + sizeof(prefix), family == AF_INET ? address : address + sizeof(prefix), 4);
}

static int is_address(int family, const uint8_t *address, int asked_family, const uint8_t *asked)
{
	uint8_t mapped[2][16];

	map_address(mapped[0], family, address);
	map_address(mapped[1], asked_family, asked);
	return !memcmp(mapped[0], mapped[1], sizeof(mapped[0]));
}

/* Whether a TCP socket has the ends that were asked for, or listens. */
static int has_ends(const struct inet_diag_msg *found, int family, const struct inet_diag_sockid *asked)
{
	const struct inet_diag_sockid *id = &found->id;

	return found->idiag_state == TCP_LISTEN ||
	       (!memcmp(id->idiag_sport, asked->idiag_sport, sizeof(id->idiag_sport)) &&
		!memcmp(id->idiag_dport, asked->idiag_dport, sizeof(id->idiag_dport)) &&
		is_address(found->idiag_family, id->idiag_src, family, asked->idiag_src) &&
		is_address(found->idiag_family, id->idiag_dst, family, asked->idiag_dst));
}

int diag_lookup(int fd, struct mptcp_diag_dump *dump, int family, const struct inet_diag_sockid *id)
{
	struct nlmsghdr header = {
		.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST,
		.nlmsg_seq = ++dump->sequence,
	};
	struct inet_diag_req_v2 one = {
		.sdiag_family = (uint8_t)family,
		.sdiag_protocol = dump->datagram ? IPPROTO_TCP : 0,
		.idiag_ext = with_info,
		.idiag_states = UINT32_MAX,
		.id = *id,
	};
	const uint64_t met = dump->met;
	int result;

	if (dump->size < MPTCP_DIAG_ROOM)
		return -EINVAL;
	dump->used = 0;
	dump->stride = dump->barren = 0;
	result = ask(fd, &header, &one, sizeof(one), dump->datagram ? 0 : IPPROTO_MPTCP, 0);
	/* What brings nothing is counted, so this ends. */
	while (!result)
		result = mptcp_diag_receive(fd, dump);
	/* The end of a dump. */
	if (result == 1 && dump->met == met)
		return -EPROTO;
	/* It was connected to another peer between the kernel's look-up and its report. */
	if (dump->used && dump->datagram && !has_ends((const void *)dump->records, family, id)) {
		dump->used = 0;
		return -ENOENT;
	}
	if (dump->used && !dump->datagram) {
		uint32_t token;

		memcpy(&token, (uint8_t *)dump->records + sizeof(struct inet_diag_msg) +
			       offsetof(struct mptcp_info, mptcpi_token), sizeof(token));
		/* One that ends meanwhile has no token any more. */
		if (token != id->idiag_cookie[0])
			dump->used = 0;
	}
	return result;
}

int diag_lookup_both(int fd, struct mptcp_diag_dump *path, struct mptcp_diag_dump *row, int family,
                     const struct inet_diag_sockid *id)
{
	int result = diag_lookup(fd, path, family, id), second;
	struct diag_subflow subflow;
	struct inet_diag_sockid token = {.idiag_if = 0};

	row->used = 0;
	if (result < 0 || !path->used)
		return result;
	memcpy(&subflow, path->records, sizeof(subflow));
	if (!(subflow.told & 1 << MPTCP_SUBFLOW_ATTR_TOKEN_LOC) || !subflow.token_loc)
		return result;
	token.idiag_cookie[0] = subflow.token_loc;
	second = diag_lookup(fd, row, AF_INET, &token);
	return second < 0 && second != -ENOENT ? second : result;
}
