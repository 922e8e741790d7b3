/* SPDX-License-Identifier: MIT */
/* Netlink: sock_diag(7), which our C asks, and what Python receives. See liar.h. */
#include "liar.h"

#include <sys/uio.h>

static uint32_t sequence;
static char saved[DATAGRAM];
static size_t saved_length;
static int kept = -1, peeked;

void forget_datagrams(void)
{
	saved_length = 0;
	peeked = 0;
}

/* The table that a request is about, and whether it is a dump or a look-up: an attribute has the protocol that is not
 * TCP's. */
static int table_of(const struct msghdr *message)
{
	const struct nlmsghdr *header = message->msg_iov[0].iov_base;
	const struct nlattr *attribute = message->msg_iovlen > 2 ? message->msg_iov[2].iov_base : NULL;
	const int is_mptcp = attribute && attribute->nla_type == INET_DIAG_REQ_PROTOCOL;
	const struct inet_diag_req *dump = message->msg_iov[1].iov_base;

	if (!(header->nlmsg_flags & NLM_F_DUMP))
		return is_mptcp ? MPTCP_LOOKUP : TCP_LOOKUP;
	if (is_mptcp)
		return MPTCP_DUMP;
	return dump->idiag_ext && dump->idiag_states != 1 << TCP_LISTEN ? SUBFLOW_DUMP : TCP_DUMP;
}

/* A look-up of the other end. */
static ssize_t send_swapped(int fd, const struct msghdr *message, int flags)
{
	struct inet_diag_req_v2 *request = message->msg_iov[1].iov_base;
	const struct inet_diag_sockid asked = request->id;
	ssize_t sent;

	memcpy(request->id.idiag_sport, asked.idiag_dport, sizeof(asked.idiag_dport));
	memcpy(request->id.idiag_dport, asked.idiag_sport, sizeof(asked.idiag_sport));
	memcpy(request->id.idiag_src, asked.idiag_dst, sizeof(asked.idiag_dst));
	memcpy(request->id.idiag_dst, asked.idiag_src, sizeof(asked.idiag_src));
	sent = REAL(sendmsg)(fd, message, flags);
	request->id = asked;
	return sent;
}

PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct lie *lie;

	if (frozen && message->msg_name && ((struct sockaddr_nl *)message->msg_name)->nl_family == AF_NETLINK) {
		sequence = ((struct nlmsghdr *)message->msg_iov[0].iov_base)->nlmsg_seq;
		saved_length = 0;
		asked_for = table_of(message);
		dumps += asked_for != MPTCP_LOOKUP && asked_for != TCP_LOOKUP;
		lie = told(SEND, 0, FAIL);
		if (lie) {
			errno = (int)lie->a;
			return -1;
		}
		lie = told(SEND, 0, ANSWER);
		if (lie)
			return (ssize_t)lie->a;
		if (told(SEND, 0, SWAP))
			return send_swapped(fd, message, flags);
	}
	return REAL(sendmsg)(fd, message, flags);
}

#define ALIGN(length) (((size_t)(length) + 3) & ~(size_t)3)

/* The message at `at` of a datagram, or NULL behind the last. */
static struct nlmsghdr *message_at(char *datagram, size_t length, size_t at)
{
	struct nlmsghdr *header = (void *)(datagram + at);

	if (at + sizeof(*header) > length || header->nlmsg_len < sizeof(*header) || header->nlmsg_len > length - at)
		return NULL;
	return header;
}

static int is_row(const struct nlmsghdr *header)
{
	return (header->nlmsg_type == TCPDIAG_GETSOCK || header->nlmsg_type == SOCK_DIAG_BY_FAMILY) &&
	       header->nlmsg_len >= sizeof(*header) + sizeof(struct inet_diag_msg);
}

static struct nlattr *info_of(struct nlmsghdr *header)
{
	size_t at = sizeof(*header) + sizeof(struct inet_diag_msg);

	while (at + sizeof(struct nlattr) <= header->nlmsg_len) {
		struct nlattr *attribute = (void *)((char *)header + at);

		if ((attribute->nla_type & NLA_TYPE_MASK) == INET_DIAG_INFO)
			return attribute;
		if (attribute->nla_len < sizeof(*attribute))
			break;
		at += ALIGN(attribute->nla_len);
	}
	return NULL;
}

static void freeze_rows(char *datagram, size_t length)
{
	struct nlmsghdr *header;
	size_t at;

	for (at = 0; (header = message_at(datagram, length, at)); at += ALIGN(header->nlmsg_len)) {
		struct nlattr *info;

		if (!is_row(header))
			continue;
		((struct inet_diag_msg *)(header + 1))->idiag_expires = 0;
		info = info_of(header);
		if (!info)
			continue;
		if (asked_for == MPTCP_DUMP || asked_for == MPTCP_LOOKUP)
			freeze_info(info + 1, info->nla_len - sizeof(*info));
		else
			freeze_tcp(info + 1, info->nla_len - sizeof(*info));
	}
}

static void put_number(void *at, size_t size, long number)
{
	const uint8_t byte = (uint8_t)number;
	const uint16_t half = (uint16_t)number;
	const uint32_t word = (uint32_t)number;

	memcpy(at, size == 1 ? (const void *)&byte : size == 2 ? (const void *)&half : (const void *)&word,
	       size < sizeof(word) ? size : sizeof(word));
}

/* Copy attributes, with the lie about the one that the path leads to. Returns their length. */
static size_t bend_attributes(char *made, const char *from, size_t left, long path, const struct lie *lie)
{
	size_t used = 0;

	while (left >= sizeof(struct nlattr)) {
		struct nlattr attribute;
		char *payload = made + used + sizeof(attribute);
		size_t size;

		memcpy(&attribute, from, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > left)
			break;
		size = attribute.nla_len - sizeof(attribute);
		memset(payload, 0, ALIGN(size));
		memcpy(payload, from + sizeof(attribute), size);
		if ((attribute.nla_type & NLA_TYPE_MASK) == (path & 0xff)) {
			const long on = path >> 8;

			if (lie->kind == VALUE && (path & 0xff) == INET_DIAG_INFO) {
				put(payload, size, (size_t)on * 4, (uint32_t)lie->b);
			} else if (on) {
				size = bend_attributes(payload, from + sizeof(attribute), size, on, lie);
			} else if (lie->kind == SIZE && lie->b < 0) {
				goto next;
			} else if (lie->kind == SIZE) {
				if ((size_t)lie->b > size)
					memset(payload + size, 0, ALIGN(lie->b) - size);
				size = (size_t)lie->b;
			} else if (lie->kind == VALUE) {
				put_number(payload, size, lie->b);
			} else if (lie->kind == EXTRA) {
				const struct nlattr extra = {(uint16_t)(sizeof(extra) + (size_t)lie->b), 99};

				size = ALIGN(size);
				memcpy(payload + size, &extra, sizeof(extra));
				memset(payload + size + sizeof(extra), STALE_BYTE, ALIGN(lie->b));
				size += extra.nla_len;
			}
			attribute.nla_len = (uint16_t)(sizeof(attribute) + size);
			if (!on && lie->kind == SAID)
				attribute.nla_len = (uint16_t)lie->b;
		}
		memcpy(made + used, &attribute, sizeof(attribute));
		used += sizeof(attribute) + ALIGN(size);
next:
		memcpy(&attribute, from, sizeof(attribute));
		if (ALIGN(attribute.nla_len) >= left)
			break;
		from += ALIGN(attribute.nla_len);
		left -= ALIGN(attribute.nla_len);
	}
	return used;
}

/* A lie about rows. Rows that have no room any more are left out. */
static size_t bend_rows(char *datagram, size_t length, const struct lie *lie)
{
	static char made[2 * DATAGRAM];
	const size_t head = sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg);
	const long which = lie->a >> ROW_SHIFT, path = lie->a & ((1L << ROW_SHIFT) - 1);
	struct nlmsghdr *header;
	size_t at, to = 0;
	long row = 0;

	for (at = 0; (header = message_at(datagram, length, at)); at += ALIGN(header->nlmsg_len)) {
		struct nlmsghdr *copy = (void *)(made + to);

		memset(copy, 0, ALIGN(header->nlmsg_len));
		memcpy(copy, header, header->nlmsg_len);
		if (is_row(header) && (++row == which || !which)) {
			if (lie->kind == IN_ROW)
				put(copy + 1, sizeof(struct inet_diag_msg), (size_t)path, (uint32_t)lie->b);
			else
				copy->nlmsg_len = (uint32_t)(head + bend_attributes((char *)copy + head, (char *)header + head,
										    header->nlmsg_len - head, path, lie));
		}
		if (to + ALIGN(copy->nlmsg_len) > DATAGRAM)
			break;
		to += ALIGN(copy->nlmsg_len);
	}
	memcpy(datagram, made, to);
	return to;
}

static size_t make_message(char *datagram, long type, long payload)
{
	struct nlmsghdr header = {.nlmsg_type = (uint16_t)type, .nlmsg_seq = sequence};
	const int32_t word = (int32_t)payload;

	header.nlmsg_len = sizeof(header) + sizeof(word);
	memcpy(datagram, &header, sizeof(header));
	memcpy(datagram + sizeof(header), &word, sizeof(word));
	return header.nlmsg_len;
}

static ssize_t bend_datagram(const struct lie *lie, struct msghdr *message, size_t length)
{
	char *datagram = message->msg_iov[0].iov_base;
	const size_t room = message->msg_iov[0].iov_len;
	struct sockaddr_nl *sender = message->msg_name;
	struct nlmsghdr *header;
	size_t at;

	switch (lie->kind) {
	case LENGTH:
		return (ssize_t)lie->a;
	case WORD:
		put(datagram, length, (size_t)lie->a, (uint32_t)lie->b);
		break;
	case SENDER:
		sender->nl_pid = (uint32_t)lie->a;
		break;
	case ORIGIN:
		message->msg_namelen = (socklen_t)lie->a;
		break;
	case SEQUENCE:
	case FLAGS:
		for (at = 0; (header = message_at(datagram, length, at)); at += ALIGN(header->nlmsg_len)) {
			if (lie->kind == SEQUENCE)
				header->nlmsg_seq += (uint32_t)lie->a;
			else
				header->nlmsg_flags |= (uint16_t)lie->b;
		}
		if (lie->kind == FLAGS)
			message->msg_flags |= (int)lie->a;
		break;
	case REPEAT:
		if (!saved_length) {
			memcpy(saved, datagram, length);
			saved_length = length;
		}
		for (at = 0; at + saved_length <= room; at += saved_length)
			memcpy(datagram + at, saved, saved_length);
		return (ssize_t)at;
	case STALE:
		memset(datagram + length, STALE_BYTE, room - length);
		break;
	case ENDLESS:
		if (((struct nlmsghdr *)datagram)->nlmsg_type == NLMSG_DONE) {
			errno = EAGAIN;
			return -1;
		}
		break;
	case SIZE:
	case SAID:
	case VALUE:
	case EXTRA:
	case IN_ROW:
		return (ssize_t)bend_rows(datagram, length, lie);
	default:
		break;
	}
	return (ssize_t)length;
}

/* A datagram for our C (RECEIVE) or for Python. */
static ssize_t receive(int level, int fd, struct msghdr *message, int flags)
{
	struct lie *lie = told(level, 0, FAIL);
	struct lie *made = NULL, *empty = NULL;
	ssize_t length;
	int i;

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	made = told(level, 0, MESSAGE);
	empty = made ? NULL : told(level, 0, ANSWER);
	if (made || empty || (level == RECEIVE && saved_length)) {
		*(struct sockaddr_nl *)message->msg_name = (struct sockaddr_nl){.nl_family = AF_NETLINK};
		message->msg_namelen = sizeof(struct sockaddr_nl);
		message->msg_flags = 0;
		length = made ? (ssize_t)make_message(message->msg_iov[0].iov_base, made->a, made->b)
			      : empty ? (ssize_t)empty->a : 0;
	} else if (fd == kept && peeked++) {
		errno = EAGAIN;
		return -1;
	} else {
		length = REAL(recvmsg)(fd, message, flags);
		if (length > 0 && level == RECEIVE)
			freeze_rows(message->msg_iov[0].iov_base, (size_t)length);
	}
	for (i = 0; i < count && length >= 0; i++)
		if (lies[i].kind != MESSAGE && lies[i].kind != ANSWER && is_told(&lies[i], level, 0))
			length = bend_datagram(&lies[i], message, (size_t)length);
	return length;
}

PUBLIC ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	if (!frozen || !message->msg_name)
		return REAL(recvmsg)(fd, message, flags);
	return receive(RECEIVE, fd, message, flags);
}

/* ----------------------------------------------------------------------------------------- what Python receives */

/* The first datagram that waits at fd is read again after each freeze(), and after it there is none. */
PUBLIC void keep(int fd)
{
	kept = fd;
}

PUBLIC ssize_t recvfrom(int fd, void *buffer, size_t room, int flags, struct sockaddr *restrict from,
			socklen_t *restrict length)
{
	struct sockaddr_nl sender = {.nl_family = AF_UNSPEC};
	struct iovec part = {buffer, room};
	struct msghdr message = {
		.msg_name = &sender, .msg_namelen = sizeof(sender), .msg_iov = &part, .msg_iovlen = 1};
	socklen_t size = sizeof(int);
	ssize_t result;
	int domain = 0;

	REAL(getsockopt)(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
	if (!frozen || domain != AF_NETLINK)
		return REAL(recvfrom)(fd, buffer, room, flags, from, length);
	result = receive(PYTHON, fd, &message, fd == kept ? flags | MSG_PEEK : flags);
	if (result >= 0 && from) {
		memcpy(from, &sender, *length < sizeof(sender) ? *length : sizeof(sender));
		*length = message.msg_namelen;
	}
	return result;
}

PUBLIC ssize_t recv(int fd, void *buffer, size_t room, int flags)
{
	return recvfrom(fd, buffer, room, flags, NULL, NULL);
}
