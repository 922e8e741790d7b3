/* SPDX-License-Identifier: MIT */
/* What the calls cost in C: each function makes n of them on one socket and returns the last result.
 * Compiled and loaded by benchmarks/calls.py, so that both sides run in one process on one socket. */
#include "mptcp_abi.h"

#include <string.h>
#include <sys/socket.h>

#define SUBFLOWS 16

int floor_info(int fd, int n)
{
	struct mptcp_info info;
	socklen_t length;
	int result = 0;

	while (n--) {
		length = sizeof(info);
		result = getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &info, &length);
	}
	return result ? -1 : (int)length;
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
