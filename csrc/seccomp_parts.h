/* SPDX-License-Identifier: MIT */
/* What the files of seccomp_run.h share. */
#ifndef SECCOMP_PARTS_H
#define SECCOMP_PARTS_H

#include "mptcp_abi.h"
#include "seccomp_abi.h"
#include "seccomp_run.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static inline int failed(int what, int error)
{
	return -(what << 12 | error);
}

/* fork(2) without a signal at the child's end: wait(-1) in the program does not see it. */
static inline pid_t fork_unseen(void)
{
	return (pid_t)syscall(__NR_clone, 0UL, 0UL, 0UL, 0UL, 0UL);
}

/* ioctl(2), whose number is an int in some C libraries. One that was interrupted has done nothing. */
static inline int control(int fd, unsigned long number, void *argument)
{
	long result;

	do
		result = syscall(__NR_ioctl, fd, number, argument);
	while (result < 0 && errno == EINTR);
	return (int)result;
}

/* Filter this thread, and what it starts. Returns a listener, or -1 with errno. */
int seccomp_filter(void);

/* Whether that works here, tried in a process of its own: a filter cannot be removed. Returns 0, or as
 * seccomp_run_begin(): RUN_LISTENER also if this is a nested run. */
int seccomp_probe(void);

/* Become the supervisor of this program. pair is an end of a socket pair: the result goes out, 0 or as
 * seccomp_run_begin(), and then the listener comes in. */
_Noreturn void seccomp_supervise(int pair, pid_t program, int strict, int report);

/* A descriptor in a message on a socket pair. */
struct letter {
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec part;
	struct msghdr message;
};

static inline struct msghdr *blank(struct letter *it)
{
	memset(it, 0, sizeof(*it));
	it->part = (struct iovec){&it->byte, 1};
	it->message.msg_iov = &it->part;
	it->message.msg_iovlen = 1;
	it->message.msg_control = it->control;
	it->message.msg_controllen = sizeof(it->control);
	return &it->message;
}

#endif
