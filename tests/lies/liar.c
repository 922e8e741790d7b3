/* SPDX-License-Identifier: MIT */
/*
 * A kernel that lies: preloaded by the package tests.lies, it stands between our C functions and libc.
 *
 * It passes everything on until freeze() is called. From then on the ages in an answer are zero, so that two
 * answers about a quiet connection are equal, and what tell() was told is done to every answer, in that order.
 * Which lies there are is written in told.py; here is only how an answer is bent. Not for threads.
 */
#define _GNU_SOURCE
#include "inet_diag_abi.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Which call, where it is not getsockopt: in place of the level. */
enum call { NAME = -1, PEER = -2, SEND = -3, RECEIVE = -4, SOCKET = -5 };

enum kind {
	FAIL,     /* -1 with errno a; nobody is asked */
	ANSWER,   /* of getsockopt: returns a; of sendmsg and recvmsg besides: nobody is asked */
	LENGTH,   /* the length of the answer is a */
	LONGER,   /* the length is what was offered, plus a */
	WORD,     /* the 32-bit word at a is b */
	ROOM,     /* num_subflows is the number of elements that have room, plus a */
	ELEMENT,  /* the word at a of the first mptcp_subflow_info in MPTCP_FULL_INFO is b */
	STALE,    /* STALE_BYTE wherever there is room, as in the answer of another connection */
	MESSAGE,  /* of recvmsg: a message of type a with the payload b (an error, 0 or -errno) */
	SENDER,   /* of recvmsg: it came from the port id a */
	ORIGIN,   /* of recvmsg: the length of its address is a */
	SEQUENCE, /* of recvmsg: the sequence number of each message is larger by a */
	FLAGS,    /* of recvmsg: flags of the datagram (a), and of each message (b) */
	REPEAT,   /* of recvmsg: the first datagram for ever, as often as there is room */
	ENDLESS,  /* of recvmsg: EAGAIN where the end of the dump was */
	INFO,     /* of recvmsg: a bytes of mptcp_info in row b, or in all rows if b is negative */
};

#define STALE_BYTE 0xA5
#define DATAGRAM 32768

static struct lie {
	int level, option;
	enum kind kind;
	long a, b, left;
} lies[8];
static int count, frozen;
static int asked[64][2], askings;
static uint32_t sequence;
static char saved[DATAGRAM];
static size_t saved_length;

#define PUBLIC __attribute__((visibility("default")))

/* No lies any more. */
PUBLIC void freeze(void)
{
	frozen = 1;
	count = 0;
	saved_length = 0;
	askings = 0;
}

/* Whether that was asked since freeze(). */
PUBLIC int was_asked(int level, int option)
{
	int i;

	for (i = 0; i < askings; i++)
		if (asked[i][0] == level && (asked[i][1] == option || option == -1))
			return 1;
	return 0;
}

static void note(int level, int option)
{
	if (askings < (int)(sizeof(asked) / sizeof(asked[0])) && !was_asked(level, option)) {
		asked[askings][0] = level;
		asked[askings++][1] = option;
	}
}

/* One more lie, told that many times; for ever if times is negative. An option of -1 is every option. */
PUBLIC int tell(int level, int option, int kind, long a, long b, long times)
{
	if (count == (int)(sizeof(lies) / sizeof(lies[0])))
		return -1;
	lies[count++] = (struct lie){level, option, (enum kind)kind, a, b, times};
	return 0;
}

static int is_told(struct lie *lie, int level, int option)
{
	if (lie->level != level || (lie->option != option && lie->option != -1) || !lie->left)
		return 0;
	if (lie->left > 0)
		lie->left--;
	return 1;
}

/* The first lie of this kind that is due. Every call asks for FAIL first. */
static struct lie *told(int level, int option, enum kind kind)
{
	int i;

	if (kind == FAIL)
		note(level, option);
	for (i = 0; frozen && i < count; i++)
		if (lies[i].kind == kind && is_told(&lies[i], level, option))
			return &lies[i];
	return NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ZERO(base, size, type, field) \
	zero(base, size, offsetof(type, field), sizeof(((type *)0)->field))

static void zero(void *base, size_t size, size_t at, size_t length)
{
	if (at + length <= size)
		memset((char *)base + at, 0, length);
}

static void put(void *base, size_t size, size_t at, uint32_t word)
{
	if (at + sizeof(word) <= size)
		memcpy((char *)base + at, &word, sizeof(word));
}

static void freeze_info(void *info, size_t size)
{
	ZERO(info, size, struct mptcp_info, mptcpi_last_data_sent);
	ZERO(info, size, struct mptcp_info, mptcpi_last_data_recv);
	ZERO(info, size, struct mptcp_info, mptcpi_last_ack_recv);
}

static void freeze_tcp(void *info, size_t size)
{
	ZERO(info, size, struct tcp_info, tcpi_last_data_sent);
	ZERO(info, size, struct tcp_info, tcpi_last_data_recv);
	ZERO(info, size, struct tcp_info, tcpi_last_ack_recv);
}

static void freeze_answer(int level, int option, void *value, size_t size)
{
	const struct mptcp_subflow_data *data = value;
	struct mptcp_full_info *full = value;
	uint32_t i;

	if (level == IPPROTO_TCP && option == 11)
		freeze_tcp(value, size);
	if (level != SOL_MPTCP)
		return;
	if (option == MPTCP_INFO)
		freeze_info(value, size);
	if (option == MPTCP_TCPINFO && size >= sizeof(*data))
		for (i = 0; sizeof(*data) + (i + 1) * data->size_user <= size && data->size_user; i++)
			freeze_tcp((char *)value + sizeof(*data) + i * data->size_user, data->size_user);
	if (option == MPTCP_FULL_INFO && size > offsetof(struct mptcp_full_info, mptcp_info)) {
		freeze_info(&full->mptcp_info, size - offsetof(struct mptcp_full_info, mptcp_info));
		for (i = 0; i < full->num_subflows && i < full->size_arrays_user; i++)
			freeze_tcp((char *)(uintptr_t)full->tcp_info + i * full->size_tcpinfo_user, full->size_tcpinfo_user);
	}
}

/* More elements than there is room for. Those that have room are there. */
static socklen_t ahead(struct mptcp_subflow_data *data, socklen_t asked, uint32_t more)
{
	const uint32_t fit = (uint32_t)((asked - sizeof(*data)) / data->size_user);

	data->num_subflows = fit + more;
	return (socklen_t)(sizeof(*data) + fit * data->size_user);
}

/* All of the offered room is the answer, and what the kernel did not write of it is another connection's. */
static void fill(int level, int option, void *value, socklen_t asked, socklen_t *length, uint32_t element)
{
	struct mptcp_subflow_data *data = value;
	struct mptcp_full_info *full = value;

	memset((char *)value + *length, STALE_BYTE, asked - *length);
	if (level == SOL_MPTCP && option == MPTCP_FULL_INFO) {
		const uint32_t n = full->size_arrays_user;

		memset((char *)(uintptr_t)full->subflow_info, STALE_BYTE, (size_t)n * full->size_sfinfo_user);
		memset((char *)(uintptr_t)full->tcp_info, STALE_BYTE, (size_t)n * full->size_tcpinfo_user);
		full->num_subflows = n;
	} else if (level == SOL_MPTCP && option != MPTCP_INFO) {
		data->num_subflows = (uint32_t)((asked - sizeof(*data)) / element);
		*length = (socklen_t)(sizeof(*data) + data->num_subflows * data->size_user);
	} else {
		*length = asked;
	}
}

PUBLIC int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	const socklen_t asked = *length;
	struct mptcp_full_info *full = value;
	struct lie *lie = told(level, option, FAIL);
	uint32_t element = 1;
	int result, i;

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	if (level == SOL_MPTCP && value && asked >= sizeof(struct mptcp_subflow_data))
		element = ((struct mptcp_subflow_data *)value)->size_user;
	result = REAL(getsockopt)(fd, level, option, value, length);
	if (result || !frozen || !value)
		return result;
	freeze_answer(level, option, value, *length);
	for (i = 0; i < count; i++) {
		lie = &lies[i];
		if (!is_told(lie, level, option))
			continue;
		if (lie->kind == ANSWER)
			result = (int)lie->a;
		else if (lie->kind == LENGTH)
			*length = (socklen_t)lie->a;
		else if (lie->kind == LONGER)
			*length = asked + (socklen_t)lie->a;
		else if (lie->kind == WORD)
			put(value, asked, (size_t)lie->a, (uint32_t)lie->b);
		else if (lie->kind == ROOM && option == MPTCP_FULL_INFO)
			full->num_subflows = full->size_arrays_user + (uint32_t)lie->a;
		else if (lie->kind == ROOM)
			*length = ahead(value, asked, (uint32_t)lie->a);
		else if (lie->kind == ELEMENT && full->size_arrays_user)
			put((void *)(uintptr_t)full->subflow_info, full->size_sfinfo_user, (size_t)lie->a, (uint32_t)lie->b);
		else if (lie->kind == STALE)
			fill(level, option, value, asked, length, element);
	}
	return result;
}

static int bend_name(int call, int result, void *name, socklen_t asked, socklen_t *length)
{
	int i;

	for (i = 0; frozen && !result && i < count; i++) {
		if (!is_told(&lies[i], call, 0))
			continue;
		if (lies[i].kind == LENGTH)
			*length = (socklen_t)lies[i].a;
		else if (lies[i].kind == WORD)
			put(name, asked, (size_t)lies[i].a, (uint32_t)lies[i].b);
		else if (lies[i].kind == ANSWER)
			return (int)lies[i].a;
	}
	return result;
}

PUBLIC int getsockname(int fd, struct sockaddr *restrict name, socklen_t *restrict length)
{
	const socklen_t asked = *length;
	struct lie *lie = told(NAME, 0, FAIL);

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	return bend_name(NAME, REAL(getsockname)(fd, name, length), name, asked, length);
}

PUBLIC int getpeername(int fd, struct sockaddr *restrict name, socklen_t *restrict length)
{
	const socklen_t asked = *length;
	struct lie *lie = told(PEER, 0, FAIL);

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	return bend_name(PEER, REAL(getpeername)(fd, name, length), name, asked, length);
}

PUBLIC int socket(int domain, int type, int protocol)
{
	struct lie *lie = told(SOCKET, 0, FAIL);

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	return REAL(socket)(domain, type, protocol);
}

PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct lie *lie;

	if (frozen && message->msg_name && ((struct sockaddr_nl *)message->msg_name)->nl_family == AF_NETLINK) {
		sequence = ((struct nlmsghdr *)message->msg_iov[0].iov_base)->nlmsg_seq;
		lie = told(SEND, 0, FAIL);
		if (lie) {
			errno = (int)lie->a;
			return -1;
		}
		lie = told(SEND, 0, ANSWER);
		if (lie)
			return (ssize_t)lie->a;
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
		if (info)
			freeze_info(info + 1, info->nla_len - sizeof(*info));
	}
}

/* Rows with so many bytes of mptcp_info, or without any if that is negative. */
static size_t resize_info(char *datagram, size_t length, long size, long which)
{
	static char made[DATAGRAM];
	const size_t head = sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg);
	struct nlmsghdr *header;
	size_t at, to = 0;
	long row = 0;

	memset(made, 0, sizeof(made));
	for (at = 0; (header = message_at(datagram, length, at)); at += ALIGN(header->nlmsg_len)) {
		struct nlmsghdr *copy = (void *)(made + to);
		struct nlattr *info = is_row(header) ? info_of(header) : NULL;
		struct nlattr *attribute = (void *)(made + to + head);
		size_t old;

		if (!info || (which >= 0 && row++ != which)) {
			memcpy(copy, header, header->nlmsg_len);
		} else {
			if (to + head + sizeof(*attribute) + (size_t)(size < 0 ? 0 : size) > sizeof(made))
				break;
			memcpy(copy, header, head);
			copy->nlmsg_len = (uint32_t)head;
			if (size >= 0) {
				old = info->nla_len - sizeof(*info);
				*attribute = (struct nlattr){(uint16_t)(sizeof(*attribute) + (size_t)size), INET_DIAG_INFO};
				memcpy(attribute + 1, info + 1, old < (size_t)size ? old : (size_t)size);
				copy->nlmsg_len += attribute->nla_len;
			}
		}
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
	case INFO:
		return (ssize_t)resize_info(datagram, length, lie->a, lie->b);
	default:
		break;
	}
	return (ssize_t)length;
}

PUBLIC ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct lie *lie = told(RECEIVE, 0, FAIL);
	struct lie *made = NULL, *empty = NULL;
	ssize_t length;
	int i;

	if (lie) {
		errno = (int)lie->a;
		return -1;
	}
	if (!frozen || !message->msg_name)
		return REAL(recvmsg)(fd, message, flags);
	made = told(RECEIVE, 0, MESSAGE);
	empty = made ? NULL : told(RECEIVE, 0, ANSWER);
	if (made || empty || saved_length) {
		*(struct sockaddr_nl *)message->msg_name = (struct sockaddr_nl){.nl_family = AF_NETLINK};
		message->msg_namelen = sizeof(struct sockaddr_nl);
		message->msg_flags = 0;
		length = made ? (ssize_t)make_message(message->msg_iov[0].iov_base, made->a, made->b)
			      : empty ? (ssize_t)empty->a : 0;
	} else {
		length = REAL(recvmsg)(fd, message, flags);
		if (length > 0)
			freeze_rows(message->msg_iov[0].iov_base, (size_t)length);
	}
	for (i = 0; i < count && length >= 0; i++)
		if (lies[i].kind != MESSAGE && lies[i].kind != ANSWER && is_told(&lies[i], RECEIVE, 0))
			length = bend_datagram(&lies[i], message, (size_t)length);
	return length;
}
