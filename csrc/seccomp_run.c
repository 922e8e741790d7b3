/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "seccomp_run.h"

#include "mptcp_sockopt.h"
#include "seccomp_parts.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Whether an ancestor's supervisor makes MPTCP sockets for this process; or would, if there were MPTCP here. */
static int is_nested(int strict)
{
	int mptcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	int plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int nested = mptcp < 0 ? !strict : tcp_protocol(plain) == IPPROTO_MPTCP;

	close(mptcp);
	close(plain);
	return nested;
}

static int send_descriptor(int to, int fd)
{
	struct letter it;
	struct msghdr *message = blank(&it);
	struct cmsghdr *head = CMSG_FIRSTHDR(message);

	head->cmsg_len = CMSG_LEN(sizeof(fd));
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	return sendmsg(to, message, MSG_NOSIGNAL) == 1 ? 0 : errno;
}

/* Whether a process whose parent ends becomes a child of this one: it is an init, or a subreaper. */
static int adopts(void)
{
	int subreaper = 0;

	prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0UL, 0UL, 0UL);
	return subreaper || getpid() == 1;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

/* The child's part. A supervisor that stayed a child would keep who waits with __WALL until there is none, as strace
 * does, for ever. But as an orphan of an init, wait() would return it. */
static _Noreturn void start(int pair, pid_t program, int is_child, int strict, int report)
{
	pid_t pid = is_child ? 0 : fork_unseen();
	int problem = failed(RUN_CLONE, errno);

	if (!pid)
		seccomp_supervise(pair, program, strict, report);
	_exit(pid > 0 || write(pair, &problem, sizeof(problem)) < 0);
}

/* Start a supervisor and give it the listener of this thread's new filter. */
static int begin(int pair[2], int strict, int report)
{
	const pid_t program = getpid();
	const int is_child = adopts();
	pid_t pid = fork_unseen();
	int problem, listener;
	ssize_t length;

	if (!pid)
		start(pair[0], program, is_child, strict, report);
	close(pair[0]);
	if (pid < 0)
		return failed(RUN_CLONE, errno);
	if (!is_child)
		reap(pid);
	do
		length = read(pair[1], &problem, sizeof(problem));
	while (length < 0 && errno == EINTR);
	if (length != sizeof(problem))
		problem = failed(RUN_CLONE, ECHILD);
	if (!problem) {
		listener = seccomp_filter();
		if (listener < 0)
			problem = failed(RUN_FILTER, errno);
		else if (send_descriptor(pair[1], listener))
			problem = failed(RUN_LOST, errno);
		close(listener);
	}
	if (problem) {
		shutdown(pair[1], SHUT_RDWR);
		if (is_child)
			reap(pid);
	}
	return problem;
}

int seccomp_run_begin(int strict, int report)
{
	int pair[2], problem;

	problem = seccomp_probe();
	if (problem == failed(RUN_LISTENER, EBUSY) && is_nested(strict))
		return RUN_NESTED;
	if (problem)
		return problem;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return failed(RUN_CLONE, errno);
	problem = begin(pair, strict, report);
	close(pair[1]);
	return problem;
}

int seccomp_run_exec(char **argv)
{
	static const int ignored[] = {SIGPIPE, SIGXFSZ};
	void (*before[2])(int);
	int i, error;

	for (i = 0; i < 2; i++)
		before[i] = signal(ignored[i], SIG_DFL);
	execvp(argv[0], argv);
	error = errno;
	for (i = 0; i < 2; i++)
		signal(ignored[i], before[i]);
	return -error;
}
