/* SPDX-License-Identifier: MIT */
/*
 * What mptcp_diag.c and mptcp_diag_tcp.c share: how a message about one socket is read.
 */
#ifndef MPTCP_DIAG_TCP_H
#define MPTCP_DIAG_TCP_H

#include "mptcp_diag.h"

#include <stddef.h>

/* The payload follows each kind of header without padding; the next header follows at a multiple of 4. */
#define NETLINK_ALIGN(length) (((length) + 3) & ~(size_t)3)
#define RECORD_ALIGN(length) (((length) + 7) & ~(size_t)7)

/* Find an attribute. Returns its payload; or NULL, with *length 0 if it is not there, -1 if attributes are
 * malformed. */
const uint8_t *find_attribute(const uint8_t *at, size_t left, uint16_t type, int *length);

/* Whether a message of at least struct inet_diag_msg has a family and a state that TCP has. */
int is_of_tcp(const uint8_t *message);

/* Turn a message about one TCP socket (without its header) into a record after the others: struct tcp_socket, or
 * struct diag_subflow. Return 0, also if it is left out, or -errno. */
int add_tcp_socket(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length);
int add_subflow(struct mptcp_diag_dump *dump, const uint8_t *message, size_t length);

#endif
