/* SPDX-License-Identifier: MIT */
/* The calls about one socket, and what is told. See liar.h. */
#include "liar.h"

struct lie lies[8];
int count, frozen;
int asked_for, dumps;
static int asked[64][2], askings;

/* No lies any more. */
PUBLIC void freeze(void)
{
	frozen = 1;
	count = 0;
	askings = dumps = 0;
	forget_datagrams();
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

/* Which dump this is. Look-ups have no number. */
static int nth(void)
{
	return asked_for == MPTCP_LOOKUP || asked_for == TCP_LOOKUP ? ANY : NTH + dumps - 1;
}

/* Whether it is about this call. Requests are told apart by what they ask for and by their number. */
static int is_about(const struct lie *lie, int level, int option)
{
	if (lie->level != level)
		return 0;
	if (lie->option == option || lie->option == -1)
		return 1;
	return (level == SEND || level == RECEIVE) && (lie->option == asked_for || lie->option == nth());
}

int is_told(struct lie *lie, int level, int option)
{
	if (!is_about(lie, level, option) || !lie->left)
		return 0;
	if (lie->left > 0)
		lie->left--;
	return 1;
}

struct lie *told(int level, int option, enum kind kind)
{
	int i;

	if (kind == FAIL)
		note(level, option);
	if (kind == FAIL && (level == SEND || level == RECEIVE)) {
		note(level, asked_for);
		if (dumps < NTH)
			note(level, nth());
	}
	for (i = 0; frozen && i < count; i++)
		if (lies[i].kind == kind && is_told(&lies[i], level, option))
			return &lies[i];
	return NULL;
}

#define ZERO(base, size, type, field) \
	zero(base, size, offsetof(type, field), sizeof(((type *)0)->field))

static void zero(void *base, size_t size, size_t at, size_t length)
{
	if (at + length <= size)
		memset((char *)base + at, 0, length);
}

void put(void *base, size_t size, size_t at, uint32_t word)
{
	if (at + sizeof(word) <= size)
		memcpy((char *)base + at, &word, sizeof(word));
}

void freeze_info(void *info, size_t size)
{
	ZERO(info, size, struct mptcp_info, mptcpi_last_data_sent);
	ZERO(info, size, struct mptcp_info, mptcpi_last_data_recv);
	ZERO(info, size, struct mptcp_info, mptcpi_last_ack_recv);
}

void freeze_tcp(void *info, size_t size)
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
