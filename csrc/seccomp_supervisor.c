/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "seccomp_parts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* The supervisor's descriptors; 0, 1 and 2 are /dev/null. */
#define PAIR 3
#define REPORT 4
#define FIRST_FREE 5

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
	}
	if (self->strict)
		reply.error = -error;
	else
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
		else
			return; /* it would be the same next time: better no answers than this loop for ever */
	}
}

/* What ps shows. With the words of the command, pkill -f would find this process in the program's place. */
static void name(pid_t program)
{
	char *title = program_invocation_name, words[4096];
	int fd = open("self/cmdline", O_RDONLY), same = 1;
	ssize_t length;
	size_t size = 0;

	while (same && (length = read(fd, words, sizeof(words))) > 0) {
		same = !memcmp(title + size, words, (size_t)length);
		size += (size_t)length;
	}
	close(fd);
	prctl(PR_SET_NAME, "mptcp-run");
	if (!same || !size)
		return; /* it was not started with these words */
	memset(title, 0, size);
	snprintf(title, size, "mptcp-run %d", (int)program);
}

/* Leave everything of the caller's: session, signals, descriptors, folder. *pair gets another number. Returns 0 or as
 * seccomp_run_begin(). */
static int settle(struct supervisor *self, int *pair, pid_t program, int report)
{
	char number[16] = "";
	int i, high, null = open("/dev/null", O_RDWR);

	if (null < 0)
		return failed(RUN_SETTLE, errno);
	setsid();
	for (i = 1; i < NSIG; i++)
		signal(i, SIG_IGN);
	/* Any of them may have the number of another. */
	high = fcntl(*pair, F_DUPFD, FIRST_FREE);
	report = fcntl(report < 0 ? null : report, F_DUPFD, FIRST_FREE);
	if (high < 0 || report < 0)
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
	name(program);
	self->uid = geteuid();
	return 0;
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

_Noreturn void seccomp_supervise(int pair, pid_t program, int strict, int report)
{
	struct supervisor self = {.strict = strict};
	int problem = settle(&self, &pair, program, report);

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
