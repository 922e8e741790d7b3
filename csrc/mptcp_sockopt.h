/* SPDX-License-Identifier: MIT */
/*
 * Our C functions. None allocates, prints or keeps state; every one returns what it says or -errno, and
 * never touches errno. build_ffi.py reads this file too, so the rules of mptcp_abi.h hold here.
 */
#ifndef MPTCP_SOCKOPT_H
#define MPTCP_SOCKOPT_H

#include "mptcp_abi.h"

/* Bytes that we offer the kernel for one struct: more than any kernel fills today, so that the tail of
 * a future one is kept. */
#define MPTCP_INFO_ROOM 256
#define TCP_INFO_ROOM 512
#define SUBFLOW_ADDRS_ROOM 320
#define SUBFLOW_INFO_ROOM 320

/* The package version that this module was compiled as. */
const char *mptcp_sockopt_version(void);

/* getsockopt(2), the only call of it. *length goes in and out, and is what the kernel left there on
 * failure too. A negative length is passed on with a NULL value, so that nothing can be written. A
 * negative descriptor is -EBADF without asking the kernel. Returns 0 or -errno. */
int sockopt_get(int fd, int level, int option, void *value, int *length);

/* MPTCP_INFO into info, which has MPTCP_INFO_ROOM bytes. Returns the length that the kernel filled, or
 * -errno. */
int mptcp_get_info(int fd, void *info);

/* MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS (option) with element bytes for each subflow. data is 8-byte
 * aligned, size >= 16: the header, then as many elements as fit, stepped by the header's size_user.
 * Returns the length that the kernel filled, header included, or -errno. */
int mptcp_get_subflow_data(int fd, int option, void *data, int size, int element);

/* MPTCP_FULL_INFO, compacted: struct mptcp_full_info as long as the kernel made it (the two pointers
 * zeroed), then num_subflows elements of size_sfinfo_user bytes, then as many of size_tcpinfo_user. full is
 * 8-byte aligned; mptcp_full_info_room(n) bytes have room for n subflows. Returns the compacted length, 0
 * if there are more subflows than room (the header says how many), or -errno. */
int mptcp_get_full_info(int fd, void *full, int size);
int mptcp_full_info_room(int subflows);

/* getsockname(2) and getpeername(2) of any socket, in the form of a subflow element. An unconnected
 * socket has a zero peer of its own family. Returns 0 or -errno. */
int socket_names(int fd, struct mptcp_subflow_addrs *names);

#endif
