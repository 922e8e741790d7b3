/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "seccomp_parts.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* In the exit code of the probe: no errno of seccomp(2) is that large. */
#define MORE 0x80

#define ARGUMENT(n) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n)) + LOW_HALF)

int seccomp_filter(void)
{
	struct sock_filter steps[] = {
		{BPF_LOAD, 0, 0, offsetof(struct seccomp_data, arch)},
		{BPF_IF_EQUAL, 0, 12, ARCH}, /* calls of another kind, such as x32, go on */
		{BPF_LOAD, 0, 0, offsetof(struct seccomp_data, nr)},
		{BPF_IF_EQUAL, 0, 10, (uint32_t)__NR_socket},
		{BPF_LOAD, 0, 0, ARGUMENT(0)},
		{BPF_IF_EQUAL, 1, 0, AF_INET},
		{BPF_IF_EQUAL, 0, 7, AF_INET6},
		{BPF_LOAD, 0, 0, ARGUMENT(1)},
		{BPF_AND_WITH, 0, 0, ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK)},
		{BPF_IF_EQUAL, 0, 4, SOCK_STREAM},
		{BPF_LOAD, 0, 0, ARGUMENT(2)},
		{BPF_IF_EQUAL, 1, 0, 0},
		{BPF_IF_EQUAL, 0, 1, IPPROTO_TCP},
		{BPF_RETURN, 0, 0, SECCOMP_RET_USER_NOTIF},
		{BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog program = {sizeof(steps) / sizeof(steps[0]), steps};
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int attempt, fd = -1;

	for (attempt = 0; attempt < 3; attempt++) {
		fd = (int)syscall(NR_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, &program);
		if (fd < 0 && errno == EACCES && !prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL))
			continue;
		if (fd < 0 && errno == EINVAL && flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
			flags &= ~(unsigned long)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
		else
			break;
	}
	return fd;
}

/* Whether this C library makes sockets by a call that the filter cannot follow: socketcall(2), whose arguments are in
 * memory. It must be called in a process of its own. */
static int calls_otherwise(void)
{
#ifdef __NR_socketcall
	struct sock_filter steps[] = {
		{BPF_LOAD, 0, 0, offsetof(struct seccomp_data, nr)},
		{BPF_IF_EQUAL, 0, 1, (uint32_t)__NR_socket},
		{BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | EXDEV},
		{BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog program = {sizeof(steps) / sizeof(steps[0]), steps};

	prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
	syscall(NR_SECCOMP, SECCOMP_SET_MODE_FILTER, 0UL, &program);
	return socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EXDEV;
#else
	return 0;
#endif
}

/* The child's part. Its exit code is an errno of the filter, or, with MORE, what is missing beside it. */
static int tried(void)
{
	int fd = seccomp_filter();
	struct seccomp_notif_addfd nobody = {.id = 1, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd};

	if (fd < 0)
		return errno;
	if (!control(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &nobody) || errno != ENOENT)
		return MORE | RUN_KERNEL;
	return calls_otherwise() ? MORE | RUN_SOCKETCALL : 0;
}

int seccomp_probe(void)
{
	int status = 0, code;
	pid_t pid;

	if (!RUN_WORKS)
		return failed(RUN_MACHINE, ENOSYS);
	pid = fork_unseen();
	if (pid < 0)
		return failed(RUN_CLONE, errno);
	if (!pid)
		_exit(tried());
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return failed(RUN_CLONE, errno);
	if (!WIFEXITED(status)) /* killed by a filter that was there before */
		return failed(RUN_FILTER, EPERM);
	code = WEXITSTATUS(status);
	if (code & MORE)
		return failed(code & ~MORE, EINVAL);
	return code ? failed(code == EBUSY ? RUN_LISTENER : RUN_FILTER, code) : 0;
}
