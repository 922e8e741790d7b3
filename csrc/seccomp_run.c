/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "seccomp_run.h"

#include "mptcp_sockopt.h"
#include "seccomp_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The supervisor's descriptors; 0, 1 and 2 are /dev/null. */
#define PAIR 3
#define REPORT 4
#define FIRST_FREE 5

/* The probe's exit code where it got its filter, and more is missing: no errno is that large. */
#define TOO_OLD 255

static int failed(int what, int error)
{
	return -(what << 12 | error);
}

/* fork(2) without a signal at the child's end: wait(-1) in the program does not see it. */
static pid_t fork_unseen(void)
{
	return (pid_t)syscall(__NR_clone, 0UL, 0UL, 0UL, 0UL, 0UL);
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

/* ioctl(2), whose number is an int in some C libraries. */
static int control(int fd, unsigned long number, void *argument)
{
	return (int)syscall(__NR_ioctl, fd, number, argument);
}

/* ---------------------------------------------------------------------------------------------- the filter */

#define ARGUMENT(n) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n)) + LOW_HALF)

/* Filter this thread, and what it starts. Returns a listener, or -1 with errno. */
static int filter(void)
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

/* Whether this kernel can do it all, tried in a process of its own: a filter cannot be removed. Returns 0 or -errno,
 * or -TOO_OLD. */
static int probe(void)
{
	pid_t pid = fork_unseen();
	int status = 0;

	if (pid < 0)
		return -errno;
	if (!pid) {
		int fd = filter();
		struct seccomp_notif_addfd nobody = {.id = 1, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd};

		if (fd < 0)
			_exit(errno);
		_exit(control(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &nobody) && errno == ENOENT ? 0 : TOO_OLD);
	}
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM; /* killed: by a filter that was there before */
}

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

/* ------------------------------------------------------------------------------------------ the supervisor */

struct supervisor {
	int listener;
	int strict;
	uid_t uid;
	struct stat network; /* of /proc/self/net/dev */
	unsigned long made, refused, elsewhere, unreadable, gone;
};

/* Who calls. Returns NULL, or the counter of what is against an MPTCP socket.
 *
 * The files of another network namespace have other inodes. That of ns/net itself can be read only by who may
 * trace the process. */
static unsigned long *against(struct supervisor *self, uint32_t thread, uid_t *uid)
{
	struct stat network, process;
	char path[32];

	snprintf(path, sizeof(path), "%u/net/dev", thread);
	if (!thread || stat(path, &network))
		return &self->unreadable;
	if (network.st_ino != self->network.st_ino || network.st_dev != self->network.st_dev)
		return &self->elsewhere;
	snprintf(path, sizeof(path), "%u", thread);
	if (stat(path, &process))
		return &self->unreadable;
	*uid = process.st_uid;
	return NULL;
}

/* A socket of this user. The kernel lets listeners share a port only if their user is the same. */
static int socket_of(const struct supervisor *self, uid_t uid, int family, int type)
{
	int fd;

	if (uid != self->uid)
		setfsuid(uid);
	fd = socket(family, type | SOCK_CLOEXEC, IPPROTO_MPTCP);
	if (uid != self->uid) {
		int error = errno;

		setfsuid(self->uid);
		errno = error;
	}
	return fd;
}

/* Give the caller a socket. Returns 0, or an errno. */
static int give(const struct supervisor *self, const struct seccomp_notif *call, int fd)
{
	struct seccomp_notif_addfd gift = {
		.id = call->id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)fd,
		.newfd_flags = call->data.args[1] & SOCK_CLOEXEC ? O_CLOEXEC : 0,
	};
	int error = control(self->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &gift) < 0 ? errno : 0;

	close(fd);
	return error;
}

static void answer(struct supervisor *self, const struct seccomp_notif *call)
{
	struct seccomp_notif_resp reply = {.id = call->id};
	uid_t uid = self->uid;
	unsigned long *counter = against(self, call->pid, &uid);
	int error = EPROTONOSUPPORT;

	if (!counter) {
		int fd = socket_of(self, uid, (int)call->data.args[0], (int)call->data.args[1]);

		error = fd < 0 ? errno : give(self, call, fd);
		counter = !error ? &self->made : fd >= 0 && error == ENOENT ? &self->gone : &self->refused;
		if (counter != &self->refused) {
			++*counter;
			return;
		}
		/* The program's own limit of descriptors is no reason for another attempt. */
		if (fd >= 0 && error == EMFILE)
			reply.error = -error;
	}
	if (self->strict)
		reply.error = -error;
	if (!reply.error)
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (control(self->listener, SECCOMP_IOCTL_NOTIF_SEND, &reply))
		counter = &self->gone;
	++*counter;
}

/* Answer until the last filtered process has ended. */
static void serve(struct supervisor *self)
{
	struct pollfd calls = {.fd = self->listener, .events = POLLIN};
	union {
		struct seccomp_notif call;
		char room[256]; /* a later kernel may append to it */
	} next;

	for (;;) {
		if (poll(&calls, 1, -1) < 0)
			continue;
		if (!(calls.revents & POLLIN))
			return;
		memset(&next, 0, sizeof(next)); /* or it is EINVAL */
		if (!control(self->listener, SECCOMP_IOCTL_NOTIF_RECV, &next))
			answer(self, &next.call);
		else if (errno == ENOENT)
			self->gone++;
	}
}

/* Leave everything of the caller's: session, signals, descriptors, folder. *pair gets another number. Returns 0 or as
 * seccomp_run_begin(). */
static int settle(struct supervisor *self, int *pair, int report)
{
	char number[16] = "";
	int i, high, null = open("/dev/null", O_RDWR);

	setsid();
	for (i = 1; i < NSIG; i++)
		signal(i, SIG_IGN);
	prctl(PR_SET_NAME, "mptcp-run");
	/* Any of them may have the number of another. */
	high = fcntl(*pair, F_DUPFD, FIRST_FREE);
	report = fcntl(report < 0 ? null : report, F_DUPFD, FIRST_FREE);
	if (null < 0 || high < 0 || report < 0)
		return failed(RUN_SETTLE, errno);
	for (i = 0; i < PAIR; i++)
		dup2(null, i);
	*pair = dup2(high, PAIR);
	dup2(report, REPORT);
	if (syscall(NR_CLOSE_RANGE, (unsigned)FIRST_FREE, ~0u, 0u))
		return failed(RUN_SETTLE, errno);
	if (chdir("/proc") || stat("self/net/dev", &self->network) || readlink("self", number, sizeof(number) - 1) < 0)
		return failed(RUN_PROC, errno);
	if (atoi(number) != syscall(__NR_getpid)) /* getpid() of an old glibc remembers the parent's */
		return failed(RUN_PROC, ESRCH);
	self->uid = geteuid();
	return 0;
}

/* A descriptor in a message on a socket pair. */
struct letter {
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec part;
	struct msghdr message;
};

static struct msghdr *blank(struct letter *it)
{
	memset(it, 0, sizeof(*it));
	it->part = (struct iovec){&it->byte, 1};
	it->message.msg_iov = &it->part;
	it->message.msg_iovlen = 1;
	it->message.msg_control = it->control;
	it->message.msg_controllen = sizeof(it->control);
	return &it->message;
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

/* -1 if the other end is closed. */
static int receive_descriptor(int from)
{
	struct letter it;
	struct msghdr *message = blank(&it);
	int fd;

	if (recvmsg(from, message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(message))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(message)), sizeof(fd));
	return fd;
}

static _Noreturn void supervise(int pair, int strict, int report)
{
	struct supervisor self = {.strict = strict};
	int problem = settle(&self, &pair, report);

	if (write(pair, &problem, sizeof(problem)) != sizeof(problem) || problem)
		_exit(1);
	self.listener = receive_descriptor(pair);
	if (self.listener < 0)
		_exit(1);
	close(pair);
	serve(&self);
	dprintf(REPORT,
		"mptcp-sockopt run: made %lu, passed on %lu (refused %lu,\n"
		"  other namespace %lu, unreadable %lu), caller gone %lu\n",
		self.made, self.refused + self.elsewhere + self.unreadable, self.refused, self.elsewhere,
		self.unreadable, self.gone);
	_exit(0);
}

/* ---------------------------------------------------------------------------------------------- the program */

/* Start a supervisor and give it the listener of this thread's new filter. */
static int begin(int pair[2], int strict, int report)
{
	pid_t pid = fork_unseen();
	int problem, listener;
	ssize_t length;

	if (!pid)
		supervise(pair[0], strict, report);
	close(pair[0]);
	if (pid < 0)
		return failed(RUN_CLONE, errno);
	do
		length = read(pair[1], &problem, sizeof(problem));
	while (length < 0 && errno == EINTR);
	if (length != sizeof(problem))
		problem = failed(RUN_CLONE, ECHILD);
	if (!problem) {
		listener = filter();
		if (listener < 0)
			problem = failed(RUN_FILTER, errno);
		else if (send_descriptor(pair[1], listener))
			problem = failed(RUN_LOST, errno);
		close(listener);
	}
	if (problem) {
		shutdown(pair[1], SHUT_RDWR);
		reap(pid);
	}
	return problem;
}

int seccomp_run_begin(int strict, int report)
{
	int pair[2], problem;

	if (!RUN_WORKS)
		return failed(RUN_MACHINE, ENOSYS);
	problem = probe();
	if (problem == -EBUSY)
		return is_nested(strict) ? RUN_NESTED : failed(RUN_LISTENER, EBUSY);
	if (problem == -TOO_OLD)
		return failed(RUN_KERNEL, EINVAL);
	if (problem)
		return failed(RUN_FILTER, -problem);
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
