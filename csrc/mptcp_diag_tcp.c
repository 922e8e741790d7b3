/* SPDX-License-Identifier: MIT */
#include "mptcp_diag_tcp.h"

#include "mptcp_sockopt.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(struct diag_subflow) == 112, "tcp_info starts aligned, without padding before it");
_Static_assert(TCP_INFO_ROOM % 8 == 0, "and ends aligned");
/* A record of a subflow is longer than its message by what is in it once more, at most. */
_Static_assert(
	sizeof(struct diag_subflow) + 7 <= 2 * (sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg)) &&
		MPTCP_DIAG_ROOM >= 2 * MPTCP_DIAG_DATAGRAM,
	"the records of a datagram have room");

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

int add_tcp_socket(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length)
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

/* ---------------------------------------------------------------------------------------------- subflows */

/* Where the value of an attribute of a subflow goes in struct diag_subflow, and how long it is. */
static const struct {
	uint8_t at, size;
} places[] = {
	[MPTCP_SUBFLOW_ATTR_TOKEN_REM] = {offsetof(struct diag_subflow, token_rem), 4},
	[MPTCP_SUBFLOW_ATTR_TOKEN_LOC] = {offsetof(struct diag_subflow, token_loc), 4},
	[MPTCP_SUBFLOW_ATTR_RELWRITE_SEQ] = {offsetof(struct diag_subflow, relwrite_seq), 4},
	[MPTCP_SUBFLOW_ATTR_MAP_SEQ] = {offsetof(struct diag_subflow, map_seq), 8},
	[MPTCP_SUBFLOW_ATTR_MAP_SFSEQ] = {offsetof(struct diag_subflow, map_sfseq), 4},
	[MPTCP_SUBFLOW_ATTR_SSN_OFFSET] = {offsetof(struct diag_subflow, ssn_offset), 4},
	[MPTCP_SUBFLOW_ATTR_MAP_DATALEN] = {offsetof(struct diag_subflow, map_datalen), 2},
	[MPTCP_SUBFLOW_ATTR_FLAGS] = {offsetof(struct diag_subflow, flags), 4},
	[MPTCP_SUBFLOW_ATTR_ID_REM] = {offsetof(struct diag_subflow, id_rem), 1},
	[MPTCP_SUBFLOW_ATTR_ID_LOC] = {offsetof(struct diag_subflow, id_loc), 1},
};
#define PLACES (sizeof(places) / sizeof(places[0]))
_Static_assert(PLACES <= 16, "told has a bit for each");

/* Copy what the nest at INET_ULP_INFO_MPTCP says. An attribute that we do not know is left out. */
static int tell(struct diag_subflow *found, const uint8_t *at, size_t left)
{
	struct nlattr attribute;

	while (left >= sizeof(attribute)) {
		size_t type, length;

		memcpy(&attribute, at, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > left)
			return -EPROTO;
		type = attribute.nla_type & NLA_TYPE_MASK;
		length = attribute.nla_len - sizeof(attribute);
		if (type < PLACES && places[type].size) {
			if (length != places[type].size)
				return -EPROTO;
			memcpy((uint8_t *)found + places[type].at, at + sizeof(attribute), length);
			found->told |= (uint16_t)(1u << type);
		}
		if (NETLINK_ALIGN(attribute.nla_len) >= left)
			break;
		at += NETLINK_ALIGN(attribute.nla_len);
		left -= NETLINK_ALIGN(attribute.nla_len);
	}
	return 0;
}

/* What the kernel says about the MPTCP side of a TCP socket; nothing if there is none. */
static int tell_ulp(struct diag_subflow *found, const uint8_t *ulp, size_t length)
{
	const int named = is_named_mptcp(ulp, length);
	const uint8_t *nest;
	int nest_length;

	if (named <= 0)
		return named;
	found->told = SUBFLOW_TOLD_MPTCP;
	nest = find_attribute(ulp, length, INET_ULP_INFO_MPTCP, &nest_length);
	if (nest_length < 0)
		return -EPROTO;
	return nest ? tell(found, nest, (size_t)nest_length) : 0;
}

/* Whether a socket that the kernel does not call MPTCP is kept: a listener, or one in the caller's sets. */
static int is_kept(const struct mptcp_diag_dump *dump, const struct inet_diag_msg *msg)
{
	const size_t port = (size_t)msg->id.idiag_sport[0] << 8 | msg->id.idiag_sport[1];
	const size_t inode = DIAG_SET_INODES + (msg->idiag_inode & 0xffff);
	const uint8_t *sets = dump->sets;

	if (!sets || msg->idiag_state == TCP_LISTEN)
		return 1;
	return sets[port / 8] >> port % 8 & 1 || (msg->idiag_inode && sets[inode / 8] >> inode % 8 & 1);
}

int add_subflow(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length)
{
	const size_t msg = sizeof(struct inet_diag_msg);
	uint8_t *record = (uint8_t *)dump->records + dump->used;
	struct diag_subflow found = {.told = 0};
	const uint8_t *ulp, *info;
	int ulp_length, info_length, mark_length, failed;

	if (length < msg)
		return -EPROTO;
	if (!is_of_tcp(message))
		return -EPROTO;
	ulp = find_attribute(message + msg, length - msg, INET_DIAG_ULP_INFO, &ulp_length);
	info = find_attribute(message + msg, length - msg, INET_DIAG_INFO, &info_length);
	if (ulp_length < 0 || info_length < 0)
		return -EPROTO;
	/* A handshake that is not completed, or TIME_WAIT. */
	if (!info)
		return 0;
	memcpy(&found.msg, message, msg);
	failed = ulp ? tell_ulp(&found, ulp, (size_t)ulp_length) : 0;
	if (failed)
		return failed;
	if (dump->sets && found.told && found.msg.idiag_state == TCP_LISTEN) {
		const size_t port = (size_t)found.msg.id.idiag_sport[0] << 8 | found.msg.id.idiag_sport[1];

		dump->sets[port / 8] |= (uint8_t)(1u << port % 8);
	}
	if (!found.told && !is_kept(dump, &found.msg))
		return 0;
	if (find_attribute(message + msg, length - msg, INET_DIAG_MARK, &mark_length))
		found.privileged = 1;
	if (info_length < LEAST_SUBFLOW_TCP_INFO || info_length > MOST_STRUCT || info_length % 4)
		return -EPROTO;
	if (info_length > TCP_INFO_ROOM)
		info_length = TCP_INFO_ROOM;
	if (!dump->stride) {
		dump->info_length = (uint32_t)info_length;
		dump->stride = (uint32_t)(sizeof(found) + RECORD_ALIGN((size_t)info_length));
	}
	/* A kernel has only one struct tcp_info. */
	if ((uint32_t)info_length != dump->info_length)
		return -EPROTO;
	if (dump->size - dump->used < dump->stride)
		return -EINVAL;
	memcpy(record, &found, sizeof(found));
	memcpy(record + sizeof(found), info, dump->info_length);
	memset(record + sizeof(found) + dump->info_length, 0, dump->stride - sizeof(found) - dump->info_length);
	dump->used += dump->stride;
	return 0;
}
