/* SPDX-License-Identifier: MIT */
/* Both ends of a connection as a program in C has them: what cost.py measures. Sockets are blocking. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 64, LARGE = 1 << 18 };

static int64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int take(int fd, void *room, size_t size)
{
	return recv(fd, room, size, MSG_WAITALL) == (ssize_t)size ? 0 : -1;
}

static int give(int fd, const void *data, size_t size)
{
	return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

/* A small request and its answer, n times; how long each took, in ns. */
int end_ask(int fd, int n, int64_t *times)
{
	char data[SMALL] = { 0 };

	for (int i = 0; i < n; i++) {
		int64_t begun = now();

		if (give(fd, data, SMALL) || take(fd, data, SMALL))
			return -1;
		times[i] = now() - begun;
	}
	return 0;
}

int end_answer(int fd, int n)
{
	char data[SMALL];

	while (n--)
		if (take(fd, data, SMALL) || give(fd, data, SMALL))
			return -1;
	return 0;
}

/* So many bytes, and wait for the byte that says that all were read. */
int end_pour(int fd, int64_t bytes)
{
	static char data[LARGE];

	while (bytes > 0) {
		ssize_t sent = send(fd, data, bytes < LARGE ? (size_t)bytes : LARGE, MSG_NOSIGNAL);

		if (sent <= 0)
			return -1;
		bytes -= sent;
	}
	return take(fd, data, 1);
}

int end_drain(int fd, int64_t bytes)
{
	static char room[LARGE];

	while (bytes > 0) {
		ssize_t came = recv(fd, room, LARGE, 0);

		if (came <= 0)
			return -1;
		bytes -= came;
	}
	return give(fd, room, 1);
}

/* n connections, each of which has carried a byte each way. */
int end_open(const char *address, int port, int protocol, int n, int *fds)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int one = 1;
	char byte = 0;

	memcpy(&to.sin_addr, address, sizeof(to.sin_addr));
	for (int i = 0; i < n; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
		if (fds[i] < 0 || connect(fds[i], (const struct sockaddr *)&to, sizeof(to)))
			return -1;
		if (setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
			return -1;
		if (give(fds[i], &byte, 1) || take(fds[i], &byte, 1))
			return -1;
	}
	return 0;
}

int end_accept(int listener, int n, int *fds)
{
	char byte;

	for (int i = 0; i < n; i++) {
		fds[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fds[i] < 0 || take(fds[i], &byte, 1) || give(fds[i], &byte, 1))
			return -1;
	}
	return 0;
}

int end_close(int n, const int *fds)
{
	int result = 0;

	while (n--)
		result |= close(fds[n]);
	return result;
}
