/* SPDX-License-Identifier: MIT */
/*
 * The C functions against a kernel that answers anything: fuzz SEED ANSWERS DUMPS.
 *
 * The calls of libc are made here, at random; memory is in heap blocks of its exact size, so a sanitizer sees one
 * byte too many. What no sanitizer sees is checked: results are within their bounds, and nothing of an earlier
 * answer is in a later one. For that every second answer is a right one, full of STALE_BYTE, which the others
 * never write. Built by tests/test_fuzz.py.
 */
#define _GNU_SOURCE
#include "mptcp_diag.h"
#include "mptcp_sockopt.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STALE_BYTE 0xA5
#define CHECK(truth) \
	do { \
		if (!(truth)) { \
			fprintf(stderr, "BAD at %lld: line %d: %s\n", round_number, __LINE__, #truth); \
			abort(); \
		} \
	} while (0)

static uint64_t state;
static long long round_number, answers, good, refusals, records, ended, broken;
static int marked; /* this answer is full of STALE_BYTE, and right unless bent */
static int bent;
static uint32_t written; /* elements in the last answer of MPTCP_FULL_INFO */
static int sparse; /* this one leaves most bytes as they are */
static socklen_t told; /* the length of the last small value, or name */

/* ----------------------------------------------------------------------------------------------- chance */

static uint32_t chance(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

static int one_in(uint32_t n)
{
	return chance() % n == 0;
}

/* Sizes and counts that are near to some limit; also any number. */
static uint32_t odd(void)
{
	static const uint32_t likely[] = {
		0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 20, 39, 40, 41, 72, 76, 95, 96, 97, 100, 104, 231, 232, 248,
		255, 256, 257, 260, 264, 280, 296, 319, 320, 321, 511, 512, 513, 4095, 4096, 4097, 8192, 32768,
		8388608, 0x7ffffff7, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff,
	};

	return one_in(4) ? chance() >> chance() % 32 : likely[chance() % (sizeof(likely) / sizeof(likely[0]))];
}

static int never_stale(int byte)
{
	return byte == STALE_BYTE ? 0 : byte;
}

static void scatter(void *at, size_t size, uint32_t step)
{
	size_t i;

	for (i = 0; i < size; i += 1 + chance() % step)
		((uint8_t *)at)[i] = (uint8_t)never_stale((uint8_t)chance());
}

static void clean(void *at, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		((uint8_t *)at)[i] = (uint8_t)never_stale(((uint8_t *)at)[i]);
}

static void put16(void *base, size_t at, uint16_t value)
{
	memcpy((char *)base + at, &value, sizeof(value));
}

/* ------------------------------------------------------------------------------------- what libc answers */

static void make_info(void *info, size_t size)
{
	if (!sparse)
		memset(info, marked ? STALE_BYTE : 0, size);
	if (!marked)
		scatter(info, size, 24);
	if (size > offsetof(struct mptcp_info, mptcpi_csum_enabled))
		((struct mptcp_info *)info)->mptcpi_csum_enabled = one_in(50) && !marked ? (uint8_t)(chance() % 128) : chance() % 2;
}

static void make_tcp(void *info, size_t size)
{
	if (!sparse)
		memset(info, marked ? STALE_BYTE : 0, size);
	if (!marked)
		scatter(info, size, 64);
	if (size)
		*(uint8_t *)info = (uint8_t)(one_in(50) && !marked ? chance() % 128 : 1 + chance() % 12);
}

static void make_addrs(void *addrs, size_t size)
{
	const uint16_t family = one_in(100) && !marked ? (uint16_t)(odd() & 0x7f7f) : one_in(2) ? AF_INET : AF_INET6;

	if (!sparse)
		memset(addrs, marked ? STALE_BYTE : 0, size);
	if (!marked)
		scatter(addrs, size, 64);
	if (size < sizeof(struct mptcp_subflow_addrs))
		return;
	put16(addrs, offsetof(struct mptcp_subflow_addrs, sa_family), family);
	put16(addrs, offsetof(struct mptcp_subflow_addrs, sa_family_remote), one_in(100) && !marked ? (uint16_t)(odd() & 0x7f7f) : family);
}

/* Of a struct in this kernel: usual, or any. */
static uint32_t size_or(uint32_t usual)
{
	return one_in(16) && !marked ? odd() : usual;
}

static void answer_arrays(int option, void *value, uint32_t size, socklen_t *length)
{
	struct mptcp_subflow_data *header = value;
	const uint32_t kernel = size_or(option == MPTCP_TCPINFO ? 280 : 256);
	const uint32_t user = header->size_user < kernel ? header->size_user : kernel;
	uint32_t fit, n, i;

	if (size < sizeof(*header) || !user)
		return;
	CHECK(!header->num_subflows && !header->size_kernel);
	fit = (size - (uint32_t)sizeof(*header)) / user;
	header->num_subflows = marked ? fit : chance() % (fit + 3);
	header->size_kernel = kernel;
	header->size_user = user;
	n = header->num_subflows < fit ? header->num_subflows : fit;
	for (i = 0; i < n; i++)
		(option == MPTCP_TCPINFO ? make_tcp : make_addrs)((char *)(header + 1) + i * user, user);
	*length = (socklen_t)(sizeof(*header) + n * user);
}

static void answer_full(struct mptcp_full_info *full, uint32_t size, socklen_t *length)
{
	const uint32_t slots = full->size_arrays_user, sf = one_in(8) ? 260 : 264, tcp = size_or(280);
	const uint32_t step = tcp < full->size_tcpinfo_user ? tcp : full->size_tcpinfo_user;
	char *elements = (char *)(uintptr_t)full->subflow_info, *infos = (char *)(uintptr_t)full->tcp_info;
	uint32_t n, i;

	CHECK(!full->num_subflows && !full->size_tcpinfo_kernel && !full->size_sfinfo_kernel);
	full->size_tcpinfo_kernel = tcp;
	full->size_tcpinfo_user = step;
	full->size_sfinfo_kernel = full->size_sfinfo_user = sf;
	full->num_subflows = marked ? slots : chance() % (slots + 3);
	n = full->num_subflows < slots ? full->num_subflows : slots;
	written = n;
	for (i = 0; i < n; i++) {
		if (!sparse)
			memset(elements + i * sf, marked ? STALE_BYTE : 0, 8);
		make_addrs(elements + i * sf + (sf == 260 ? 4 : 8), 256);
		make_tcp(infos + i * step, step);
	}
	*length = (socklen_t)(offsetof(struct mptcp_full_info, mptcp_info) + 96);
	if (*length > size)
		*length = size;
	make_info(&full->mptcp_info, *length - offsetof(struct mptcp_full_info, mptcp_info));
}

/* An answer of the kernel's, bent. Pointers stay what they are: the kernel gives them back. */
static void bend(int level, int option, void *value, uint32_t size, socklen_t *length)
{
	const uint32_t words = (level == SOL_MPTCP && option == MPTCP_FULL_INFO ? 24 : 16) / 4;
	uint32_t *word = value;

	if (one_in(3))
		*length = odd();
	if (level == SOL_MPTCP && option != MPTCP_INFO && size >= words * 4 && one_in(2)) {
		word[chance() % words] = odd();
		clean(value, words * 4);
	}
	if (one_in(4) && size > words * 4 + 16)
		scatter((char *)value + words * 4 + 16, size - words * 4 - 16, 64);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	const uint32_t size = *length;

	CHECK(fd >= 0);
	answers++;
	sparse = !marked && one_in(4);
	if (!marked && one_in(12)) {
		errno = one_in(4) ? (int)odd() : one_in(2) ? EOPNOTSUPP : 1 + (int)(chance() % 133);
		return one_in(16) ? (int)odd() : -1;
	}
	if (!value)
		return 0;
	if (level == SOL_MPTCP && option == MPTCP_INFO) {
		*length = size < 96 ? size : 96;
		make_info(value, *length);
	} else if (level == SOL_MPTCP && option == MPTCP_FULL_INFO) {
		answer_full(value, size, length);
	} else if (level == SOL_MPTCP) {
		answer_arrays(option, value, size, length);
	} else if (level == IPPROTO_TCP && option == TCP_INFO) {
		*length = size < 280 ? size : 280;
		make_tcp(value, *length);
	} else {
		static const int likely[] = {0, 1, AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_MPTCP};
		const int small = one_in(4) ? (int)odd() : likely[chance() % 6];

		memcpy(value, &small, sizeof(small));
		if (one_in(16))
			*length = odd();
		told = *length;
		return 0;
	}
	bent = one_in(marked ? 4 : 2);
	if (bent)
		bend(level, option, value, size, length);
	return 0;
}

static int name(void *at, socklen_t *length)
{
	const uint32_t size = *length;

	if (one_in(8)) {
		errno = one_in(2) ? ENOTCONN : (int)odd();
		return one_in(8) ? (int)odd() : -1;
	}
	told = *length = one_in(4) ? odd() : one_in(2) ? 16 : 28;
	scatter(at, size, 16);
	put16(at, 0, one_in(4) ? (uint16_t)odd() : *length == 16 ? AF_INET : AF_INET6);
	return 0;
}

int getsockname(int fd, struct sockaddr *restrict at, socklen_t *restrict length)
{
	(void)fd;
	return name(at, length);
}

int getpeername(int fd, struct sockaddr *restrict at, socklen_t *restrict length)
{
	(void)fd;
	return name(at, length);
}

/* ------------------------------------------------------------------------------------------------- reads */

static void check_bytes(const void *at, int length)
{
	CHECK(marked || !memchr(at, STALE_BYTE, (size_t)length));
}

static void check_result(int result, int size)
{
	CHECK(result <= size && result >= -MOST_ERRNO);
	CHECK(!marked || bent || result >= 0 || result == -EINVAL); /* for what is too small */
	if (result > 0)
		good++;
	else
		refusals++;
}

/* The elements of one array: their sizes, and what stands in each, a state or at addrs_at two families. */
static void check_elements(const char *at, uint32_t count, uint32_t kernel, uint32_t user, uint32_t least,
			   uint32_t room, int addrs_at)
{
	CHECK(kernel % 4 == 0 && kernel >= least && kernel <= MOST_STRUCT);
	CHECK(user == (kernel < room ? kernel : room));
	for (; count--; at += user) {
		const char *addrs = at + addrs_at;
		uint16_t local, remote;

		if (addrs_at < 0) {
			CHECK(*at > 0 && *at <= MOST_STATE);
			continue;
		}
		memcpy(&local, addrs + offsetof(struct mptcp_subflow_addrs, sa_family), sizeof(local));
		memcpy(&remote, addrs + offsetof(struct mptcp_subflow_addrs, sa_family_remote), sizeof(remote));
		CHECK(local == remote && (local == AF_INET || local == AF_INET6));
	}
}

static void check_arrays(const struct mptcp_subflow_data *header, int option, int result, int size)
{
	check_result(result, size);
	if (result > 0)
		CHECK(header->num_subflows <= MOST_SUBFLOWS &&
		      result == (int)(sizeof(*header) + header->num_subflows * header->size_user));
	if (result == 0)
		CHECK(header->num_subflows <= MOST_SUBFLOWS &&
		      sizeof(*header) + header->num_subflows * header->size_user > (uint32_t)size);
	if (result <= 0)
		return;
	if (option == MPTCP_SUBFLOW_ADDRS)
		check_elements((const char *)(header + 1), header->num_subflows, header->size_kernel,
			       header->size_user, LEAST_SUBFLOW_ADDRS, SUBFLOW_ADDRS_ROOM, 0);
	else
		check_elements((const char *)(header + 1), header->num_subflows, header->size_kernel,
			       header->size_user, LEAST_SUBFLOW_TCP_INFO, TCP_INFO_ROOM, -1);
	check_bytes(header, result);
}

static void check_full(const struct mptcp_full_info *full, int result, int size)
{
	const int head = (int)offsetof(struct mptcp_full_info, mptcp_info);
	const char *end;

	check_result(result, size);
	CHECK(result < 0 || full->num_subflows <= MOST_SUBFLOWS);
	if (result == 0)
		CHECK(mptcp_full_info_room((int)full->num_subflows) > size);
	if (result <= 0)
		return;
	CHECK(!full->subflow_info && !full->tcp_info);
	CHECK(!marked || full->num_subflows == written);
	CHECK(result >= head + LEAST_MPTCP_INFO +
			 (int)(full->num_subflows * (full->size_sfinfo_user + full->size_tcpinfo_user)));
	end = (const char *)full + result - full->num_subflows * full->size_tcpinfo_user;
	check_elements(end, full->num_subflows, full->size_tcpinfo_kernel, full->size_tcpinfo_user,
		       LEAST_SUBFLOW_TCP_INFO, TCP_INFO_ROOM, -1);
	check_elements(end - full->num_subflows * full->size_sfinfo_user, full->num_subflows,
		       full->size_sfinfo_kernel, full->size_sfinfo_user, LEAST_SUBFLOW_INFO, SUBFLOW_INFO_ROOM,
		       full->size_sfinfo_kernel == LEAST_SUBFLOW_INFO ? 4 : 8);
	check_bytes(full, result);
}

/* The same block again, as the callers do: a marked answer, and then any. Also of a marked one
 * that is refused nothing may be left. */
static void read_one(void)
{
	const int subflows = (int)(chance() % 5);
	const int which = (int)(chance() % 4);
	const int option = one_in(2) ? MPTCP_TCPINFO : MPTCP_SUBFLOW_ADDRS;
	int size = which == 0 ? MPTCP_INFO_ROOM : which == 1 ? TCP_INFO_ROOM
		 : which == 2 ? 16 + (int)(chance() % 1400) : mptcp_full_info_room(subflows);
	uint64_t *block;
	int result;

	if (which == 3 && one_in(4))
		size = (int)(chance() % 2500);
	block = calloc(1, size ? (size_t)size : 1);
	for (marked = 1; marked >= 0; marked--) {
		switch (which) {
		case 0:
			result = mptcp_get_info(3, block);
			check_result(result, size);
			CHECK(result < 0 || (result >= LEAST_MPTCP_INFO && result % 4 == 0));
			if (result > 0)
				check_bytes(block, result);
			break;
		case 1:
			result = tcp_get_info(3, block);
			check_result(result, size);
			CHECK(result < 0 || (result >= LEAST_TCP_INFO && result % 4 == 0));
			CHECK(result < 0 || (*(char *)block > 0 && *(char *)block <= MOST_STATE));
			if (result > 0)
				check_bytes(block, result);
			break;
		case 2:
			check_arrays((void *)block, option, mptcp_get_subflow_data(3, option, block, size), size);
			break;
		default:
			check_full((void *)block, mptcp_get_full_info(3, block, size), size);
		}
	}
	free(block);
}

static void ask_one(void)
{
	struct mptcp_subflow_addrs *names = calloc(1, sizeof(*names));
	uint64_t info[MPTCP_INFO_ROOM / 8];
	int result, question;

	marked = 0;
	CHECK(mptcp_get_info(-1, info) == -EBADF);
	question = (int)(chance() % 7) + ASK_SO_DOMAIN - 1;
	result = socket_ask(3, question);
	CHECK(result <= MOST_PROTOCOL && result >= -(question << 12 | MOST_ERRNO));
	CHECK(result < 0 || told == sizeof(int));
	result = tcp_protocol(3);
	CHECK(result == 0 || result == IPPROTO_TCP || result == IPPROTO_MPTCP || result < -MOST_ERRNO);
	result = speaks_mptcp(3);
	CHECK(result == 0 || result == 1 || result < -MOST_ERRNO);
	result = mptcp_refusal(3);
	CHECK((result >= REFUSED_OTHER && result <= REFUSED_OPTION) || result < -MOST_ERRNO);
	result = socket_name(3, 0, names);
	CHECK(result <= 0 && result >= -MOST_ERRNO);
	CHECK(result || (names->sa_family == AF_INET && told == 16) || (names->sa_family == AF_INET6 && told == 28));
	result = socket_name(3, 1, names);
	CHECK(result <= 0 && result >= -MOST_ERRNO);
	free(names);
}

static void read_rows(void)
{
	static const int fds[] = {3, 4, 5, 6};
	uint64_t tokens[4];
	const int count = (int)(chance() % 5), stride = 8 * (int)(chance() % 100);
	const int option = one_in(2) ? MPTCP_INFO : MPTCP_FULL_INFO;
	const int room = option == MPTCP_INFO ? MPTCP_INFO_ROOM : mptcp_full_info_room((int)(chance() % 4));
	const size_t size = (size_t)count * ((size_t)stride + 3 * sizeof(int));
	struct socket_rows rows = {
		.fds = fds, .tokens = tokens, .count = count, .option = option, .stride = stride, .scratch_size = room};
	int i, longest;

	for (i = 0; i < 4; i++)
		tokens[i] = one_in(2) ? 0 : one_in(4) ? TOKEN_GONE : chance();
	rows.block = malloc(size ? size : 1);
	rows.scratch = calloc(1, (size_t)room);
	memset(rows.block, STALE_BYTE, size);
	for (marked = 1; marked >= 0; marked--) {
		const int *lengths = (const int *)((char *)rows.block + (size_t)count * (size_t)stride);

		longest = mptcp_get_rows(&rows);
		CHECK(longest >= 0 && longest <= mptcp_full_info_room(MOST_SUBFLOWS));
		for (i = 0; i < count; i++) {
			const int length = lengths[i], number = lengths[count + i];

			CHECK(length >= 0 && length <= longest);
			CHECK(number >= 0 && number <= MOST_ERRNO && !length == !!number);
			CHECK(!length || length >= LEAST_MPTCP_INFO);
			if (length <= stride && length <= room)
				check_bytes((char *)rows.block + (size_t)i * (size_t)stride, length);
		}
	}
	free(rows.block);
	free(rows.scratch);
}

/* ------------------------------------------------------------------------------------------------- dumps */

#define ALIGN(length) (((length) + 3) & ~(size_t)3)

/* An attribute, sound or not, of a value that it leaves as it is. */
static size_t put(uint8_t *at, size_t length, uint16_t type)
{
	struct nlattr attribute = {(uint16_t)(sizeof(attribute) + length), type};

	if (one_in(60))
		attribute.nla_len = (uint16_t)odd();
	if (one_in(60))
		attribute.nla_type = (uint16_t)odd();
	memcpy(at, &attribute, sizeof(attribute));
	return ALIGN(sizeof(attribute) + length);
}

/* What a kernel says of a ULP, which is a subflow's in most cases. at has 160 bytes. Returns the length. */
static size_t make_ulp(uint8_t *at)
{
	static const uint8_t sizes[] = {0, 4, 4, 4, 8, 4, 4, 2, 4, 1, 1};
	const size_t name = sizeof("mptcp"), head = sizeof(struct nlattr);
	size_t length = head, nest;
	uint16_t type;

	memcpy(at + length + head, one_in(8) ? "mptcq" : "mptcp", name);
	length += put(at + length, name, INET_ULP_INFO_NAME);
	nest = length;
	if (!one_in(6)) {
		length += head;
		for (type = 1; type < sizeof(sizes); type++)
			if (!one_in(10))
				length += put(at + length, one_in(60) ? chance() % 9 : sizes[type], type);
		put(at + nest, length - nest - head, INET_ULP_INFO_MPTCP);
	}
	put(at, length - head, INET_DIAG_ULP_INFO);
	return length;
}

/* One message, sound or not, where there is room. Returns its length. */
static size_t make_message(uint8_t *at, size_t room, uint32_t sequence, uint32_t usual)
{
	static const uint16_t types[] = {1, 2, 4, 99, TCPDIAG_GETSOCK, NLMSG_DONE, NLMSG_DONE, NLMSG_DONE};
	const size_t head = sizeof(struct nlmsghdr), msg = sizeof(struct inet_diag_msg);
	struct nlmsghdr header = {.nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_seq = sequence};
	const uint32_t info = one_in(12) ? odd() % 5000 : usual;
	struct nlattr before = {(uint16_t)(4 + chance() % 8), one_in(4) ? INET_DIAG_SKV6ONLY : 8};
	struct nlattr attribute = {(uint16_t)(4 + info), INET_DIAG_INFO};
	size_t length = head + msg, i;

	if (one_in(10)) {
		int32_t error = one_in(2) ? 0 : one_in(2) ? -(int32_t)(chance() % 200) : (int32_t)odd();

		header.nlmsg_type = types[chance() % 8];
		length = head + (one_in(4) ? chance() % 8 : sizeof(error));
		if (length > room)
			return 0;
		memcpy(at + head, &error, length - head < sizeof(error) ? length - head : sizeof(error));
	} else {
		if (one_in(2))
			length += ALIGN(before.nla_len);
		length += sizeof(attribute) + info;
		if (ALIGN(length) + 160 > room)
			return 0;
		for (i = head; i < length; i += 1 + chance() % 32)
			at[i] = (uint8_t)chance();
		at[head] = one_in(40) ? (uint8_t)chance() : one_in(2) ? AF_INET : AF_INET6;
		at[head + 1] = one_in(40) ? (uint8_t)chance() : (uint8_t)(1 + chance() % 12);
		i = length - info - sizeof(attribute);
		if (one_in(40))
			attribute.nla_len = (uint16_t)odd();
		if (one_in(60))
			attribute.nla_type = (uint16_t)odd();
		memcpy(at + i, &attribute, sizeof(attribute));
		if (i > head + msg)
			memcpy(at + head + msg, &before, sizeof(before));
		if (info > offsetof(struct mptcp_info, mptcpi_csum_enabled))
			at[length - info + offsetof(struct mptcp_info, mptcpi_csum_enabled)] = one_in(60) ? (uint8_t)chance() : 0;
		if (one_in(2)) {
			length = ALIGN(length);
			length += make_ulp(at + length);
		}
	}
	header.nlmsg_len = one_in(60) ? odd() : (uint32_t)length;
	header.nlmsg_flags = one_in(60) ? NLM_F_DUMP_INTR : 0;
	if (one_in(30))
		header.nlmsg_seq = chance();
	memcpy(at, &header, head);
	return ALIGN(length) < room ? ALIGN(length) : room;
}

/* A record of a subflow is what a kernel may have said, and nothing else. */
static void check_subflows(const struct mptcp_diag_dump *dump)
{
	const uint8_t *at = dump->records, *end = at + dump->used;
	const size_t whole = sizeof(struct diag_subflow) + dump->info_length;

	CHECK(dump->info_length >= LEAST_SUBFLOW_TCP_INFO && dump->info_length <= TCP_INFO_ROOM);
	CHECK(dump->stride >= whole && dump->stride < whole + 8);
	for (; at < end; at += dump->stride) {
		struct diag_subflow found;
		size_t i;

		memcpy(&found, at, sizeof(found));
		CHECK(found.msg.idiag_state && found.msg.idiag_state <= MOST_STATE && !found.pad && found.privileged < 2);
		CHECK(found.told == 0 || found.told & SUBFLOW_TOLD_MPTCP);
		if (!(found.told >> MPTCP_SUBFLOW_ATTR_TOKEN_LOC & 1))
			CHECK(!found.token_loc);
		if (!(found.told >> MPTCP_SUBFLOW_ATTR_MAP_SEQ & 1))
			CHECK(!found.map_seq);
		if (dump->sets && found.told && found.msg.idiag_state == TCP_LISTEN)
			CHECK(dump->sets[found.msg.id.idiag_sport[0] << 5 | found.msg.id.idiag_sport[1] >> 3]);
		for (i = whole; i < dump->stride; i++)
			CHECK(!at[i]);
	}
}

static void check_dump(const struct mptcp_diag_dump *dump, int result)
{
	CHECK(result == 0 || result == 1 || (result < 0 && result >= -MOST_ERRNO));
	CHECK(dump->used <= dump->size);
	if (!dump->stride) {
		CHECK(!dump->used && !dump->info_length);
		return;
	}
	CHECK(dump->used % dump->stride == 0 && dump->stride % 8 == 0);
	CHECK(dump->met >= dump->used / dump->stride);
	if (dump->datagram) {
		check_subflows(dump);
		return;
	}
	if (dump->tcp) {
		const struct tcp_socket *found = dump->records;
		const uint64_t count = dump->used / sizeof(*found);
		uint64_t i;

		CHECK(dump->stride == sizeof(*found) && !dump->info_length);
		for (i = 0; i < count; i++)
			CHECK(found[i].v6only <= V6ONLY_NOT_TOLD && dump->tcp >> found[i].msg.idiag_state & 1);
		return;
	}
	CHECK(dump->info_length >= LEAST_MPTCP_INFO && dump->info_length <= MPTCP_INFO_ROOM);
	CHECK(dump->stride >= sizeof(struct inet_diag_msg) + dump->info_length);
}

/* A datagram, or two, each in a block that ends where it does, behind the records of the first. */
static void parse_one(void)
{
	static uint8_t made[2][4096];
	const uint32_t usual = one_in(8) ? 4 * (chance() % 80) : 96;
	struct mptcp_diag_dump dump = {.sequence = chance(), .tcp = one_in(4) ? chance() : 0};
	size_t lengths[2];
	int i, result = 0;

	for (i = 0; i < 2 && !result; i++) {
		const size_t room = one_in(4) ? chance() % 4096 : chance() % 700;
		size_t length = 0, more;
		uint8_t *block;

		memset(made[i], 0, room);
		while (!one_in(12) && (more = make_message(made[i] + length, room - length, dump.sequence, usual)))
			length += more;
		if (one_in(12) && length)
			length -= chance() % (length < 24 ? length + 1 : 24);
		if (one_in(30) && length)
			made[i][chance() % length] = (uint8_t)chance();
		lengths[i] = length;
		block = malloc(dump.used + length ? dump.used + length : 1);
		if (i)
			memcpy(block, dump.records, dump.used);
		memcpy(block + dump.used, made[i], length);
		free(dump.records);
		dump.records = block;
		dump.size = dump.used + length;
		result = mptcp_diag_parse(&dump, lengths[i]);
		check_dump(&dump, result);
	}
	CHECK(mptcp_diag_parse(&dump, dump.size - dump.used + 1) == -EINVAL);
	if (dump.stride)
		records += (long long)(dump.used / dump.stride);
	ended += result == 1;
	broken += result < 0;
	free(dump.records);
}

/* The same for subflows: what arrives is in a block that ends where it does, and so are the records. */
static void parse_subflows(void)
{
	static uint8_t made[4096], sets[DIAG_SETS / 8];
	const uint32_t usual = one_in(8) ? 4 * (chance() % 160) : 280;
	struct mptcp_diag_dump dump = {
		.sequence = chance(), .sets = one_in(4) ? NULL : sets, .single = one_in(8), .size = 8 * (chance() % 2000)};
	size_t length = 0, more;
	int result;

	memset(made, 0, sizeof(made));
	memset(sets, one_in(2) ? 0 : 0x11, sizeof(sets));
	while (!one_in(12) && (more = make_message(made + length, sizeof(made) - length, dump.sequence, usual)))
		length += more;
	if (one_in(12) && length)
		length -= chance() % (length < 24 ? length + 1 : 24);
	if (one_in(30) && length)
		made[chance() % length] = (uint8_t)chance();
	dump.datagram = malloc(length ? length : 1);
	memcpy(dump.datagram, made, length);
	dump.records = calloc(1, dump.size ? dump.size : 1);
	result = mptcp_diag_parse(&dump, length);
	check_dump(&dump, result);
	CHECK(mptcp_diag_parse(&dump, MPTCP_DIAG_DATAGRAM + 1) == -EINVAL);
	if (dump.stride)
		records += (long long)(dump.used / dump.stride);
	ended += result == 1;
	broken += result < 0;
	free(dump.datagram);
	free(dump.records);
}

/* sendmsg(2): it sends all, and nothing is sent. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	size_t i, length = 0;

	(void)fd;
	(void)flags;
	for (i = 0; i < message->msg_iovlen; i++)
		length += message->msg_iov[i].iov_len;
	return (ssize_t)length;
}

/* recvmsg(2), for mptcp_diag_receive(). */
static struct mptcp_diag_dump *received;

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct sockaddr_nl *sender = message->msg_name;
	const size_t room = message->msg_iov[0].iov_len;
	uint8_t *at = message->msg_iov[0].iov_base;
	size_t length = 0, more;

	(void)fd;
	(void)flags;
	CHECK(received->datagram ? room == MPTCP_DIAG_DATAGRAM : room <= received->size - received->used);
	if (one_in(6)) {
		errno = one_in(2) ? EINTR : (int)odd();
		return -1;
	}
	*sender = (struct sockaddr_nl){.nl_family = one_in(20) ? (uint16_t)odd() : AF_NETLINK, .nl_pid = one_in(8) ? 77 : 0};
	message->msg_namelen = one_in(20) ? odd() : sizeof(*sender);
	message->msg_flags = one_in(20) ? MSG_TRUNC : 0;
	while (!one_in(6) && (more = make_message(at + length, 2000 - length, received->sequence, 96)))
		length += more;
	return (ssize_t)(one_in(20) ? odd() & 0x7fffffff : length);
}

static void receive_one(void)
{
	const uint64_t room = one_in(2) ? MPTCP_DIAG_ROOM : MPTCP_DIAG_DATAGRAM;
	struct mptcp_diag_dump dump = {.sequence = chance(), .size = room + 8 * (chance() % 200)};
	int result = 0, calls;

	dump.records = calloc(1, dump.size);
	if (room == MPTCP_DIAG_ROOM)
		dump.datagram = malloc(MPTCP_DIAG_DATAGRAM);
	received = &dump;
	for (calls = 0; !result && dump.size - dump.used >= room; calls++) {
		result = mptcp_diag_receive(3, &dump);
		check_dump(&dump, result);
		CHECK(calls < 1000);
	}
	free(dump.datagram);
	free(dump.records);
}

/* One socket is looked up: there is an answer, or there is an error. */
static void look_up(void)
{
	const struct inet_diag_sockid id = {.idiag_if = chance()};
	struct mptcp_diag_dump dump = {.sequence = chance(), .single = 1, .size = MPTCP_DIAG_ROOM};
	int result;

	dump.records = calloc(1, dump.size);
	if (one_in(2))
		dump.datagram = malloc(MPTCP_DIAG_DATAGRAM);
	received = &dump;
	result = diag_lookup(3, &dump, one_in(2) ? AF_INET : AF_INET6, &id);
	check_dump(&dump, result);
	CHECK(result && dump.used <= dump.stride);
	dump.size = MPTCP_DIAG_ROOM - 8;
	CHECK(diag_lookup(3, &dump, AF_INET, &id) == -EINVAL);
	free(dump.datagram);
	free(dump.records);
}

/* A subflow and its connection are looked up: each has a record at most. */
static void look_up_both(void)
{
	const struct inet_diag_sockid id = {.idiag_if = chance()};
	struct mptcp_diag_dump path = {.sequence = chance(), .single = 1, .size = MPTCP_DIAG_ROOM};
	struct mptcp_diag_dump row = path;
	int result;

	path.records = calloc(1, path.size);
	path.datagram = malloc(MPTCP_DIAG_DATAGRAM);
	row.records = calloc(1, row.size);
	row.used = 8;
	received = &path;
	result = diag_lookup_both(3, &path, &row, one_in(2) ? AF_INET : AF_INET6, &id);
	CHECK(result && path.used <= path.stride && (!row.used || row.used == row.stride));
	CHECK(path.used || !row.used);
	free(path.datagram);
	free(path.records);
	free(row.records);
}

int main(int argc, char **argv)
{
	long long wanted, dumps;

	if (argc != 4) {
		fprintf(stderr, "usage: fuzz SEED ANSWERS DUMPS\n");
		return 2;
	}
	state = 0x9e3779b97f4a7c15ull ^ (strtoull(argv[1], NULL, 0) + 1) * 0xbf58476d1ce4e5b9ull;
	wanted = atoll(argv[2]);
	dumps = atoll(argv[3]);
	for (round_number = 0; answers < wanted; round_number++) {
		read_one();
		if (round_number % 4 == 0)
			ask_one();
		if (round_number % 4 == 1)
			read_rows();
	}
	for (round_number = 0; round_number < dumps; round_number++) {
		parse_one();
		parse_subflows();
		if (round_number % 64 == 0)
			receive_one();
		if (round_number % 16 == 0)
			look_up();
		if (round_number % 16 == 8)
			look_up_both();
	}
	printf("seed %s: %lld answers, %lld read, %lld refused; %lld dumps, %lld records, %lld ended, %lld refused\n",
	       argv[1], answers, good, refusals, dumps, records, ended, broken);
	return 0;
}
