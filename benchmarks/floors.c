/* SPDX-License-Identifier: MIT */
/* What the calls cost in C: each function makes its call n times and returns the last result, or -1.
 * Compiled and loaded by fixtures.py, so that both sides run in one process on the same sockets. */
#define _GNU_SOURCE
#include "mptcp_abi.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SUBFLOWS 16

int floor_null(int fd, int n)
{
	int result = 0;

	(void)fd;
	while (n--)
		result = (int)syscall(SYS_getppid);
	return result;
}

int floor_so_type(int fd, int n)
{
	socklen_t length;
	int type, result = 0;

	while (n--) {
		length = sizeof(type);
		result = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
	}
	return result;
}

int floor_info(int fd, int n)
{
	struct mptcp_info info;
	socklen_t length = 0;
	int result = 0;

	while (n--) {
		length = sizeof(info);
		result = getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &info, &length);
	}
	return result ? -1 : (int)length;
}

static int subflow_data(int fd, int option, unsigned int element, int n)
{
	static struct {
		struct mptcp_subflow_data header;
		char elements[SUBFLOWS * sizeof(struct tcp_info)];
	} data;
	socklen_t length;
	int result = 0;

	while (n--) {
		memset(&data.header, 0, sizeof(data.header));
		data.header.size_subflow_data = sizeof(data.header);
		data.header.size_user = element;
		length = sizeof(data);
		result = getsockopt(fd, SOL_MPTCP, option, &data, &length);
	}
	return result ? -1 : (int)data.header.num_subflows;
}

int floor_tcpinfo(int fd, int n)
{
	return subflow_data(fd, MPTCP_TCPINFO, sizeof(struct tcp_info), n);
}

int floor_subflow_addrs(int fd, int n)
{
	return subflow_data(fd, MPTCP_SUBFLOW_ADDRS, sizeof(struct mptcp_subflow_addrs), n);
}

int floor_full_info(int fd, int n)
{
	static struct mptcp_subflow_info subflow_info[SUBFLOWS];
	static struct tcp_info tcp_info[SUBFLOWS];
	struct mptcp_full_info full;
	socklen_t length;
	int result = 0;

	while (n--) {
		memset(&full, 0, sizeof(full));
		full.size_tcpinfo_user = sizeof(tcp_info[0]);
		full.size_sfinfo_user = sizeof(subflow_info[0]);
		full.size_arrays_user = SUBFLOWS;
		full.subflow_info = (uintptr_t)subflow_info;
		full.tcp_info = (uintptr_t)tcp_info;
		length = sizeof(full);
		result = getsockopt(fd, SOL_MPTCP, MPTCP_FULL_INFO, &full, &length);
	}
	return result ? -1 : (int)full.num_subflows;
}

int floor_info_size(void)
{
	return (int)sizeof(struct mptcp_info);
}

/* MPTCP_INFO of count descriptors into count structs, n times over; how many answered the last time. */
int floor_loop(const int *fds, int count, struct mptcp_info *infos, int n)
{
	int answered = 0;

	while (n--) {
		answered = 0;
		for (int i = 0; i < count; i++) {
			socklen_t length = sizeof(infos[i]);

			answered += !getsockopt(fds[i], SOL_MPTCP, MPTCP_INFO, &infos[i], &length);
		}
	}
	return answered;
}
