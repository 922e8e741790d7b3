/* SPDX-License-Identifier: MIT */
/* A server and a load in C, one process each, with epoll: what loads.py is held against. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 4096, BATCH = 64 };

/* Accept, read a request, answer, close; for ever, or -1. */
int load_serve(int listener, const char *answer, int length)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[BATCH];
	int waiting = epoll_create1(EPOLL_CLOEXEC);
	char room[ROOM];

	if (waiting < 0 || epoll_ctl(waiting, EPOLL_CTL_ADD, listener, &event))
		return -1;
	for (;;) {
		int ready = epoll_wait(waiting, events, BATCH, -1);

		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;

			if (fd == listener) {
				fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				event.data.fd = fd;
				if (fd >= 0 && epoll_ctl(waiting, EPOLL_CTL_ADD, fd, &event))
					return -1;
			} else {
				if (recv(fd, room, sizeof(room), 0) > 0)
					(void)!send(fd, answer, length, MSG_NOSIGNAL);
				close(fd);
			}
		}
	}
}

static int ask(int waiting, const struct sockaddr_in *address, const char *request, int length)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) && errno != EINPROGRESS)
		return -1;
	event.data.fd = fd;
	/* On loopback the connection is there when connect(2) returns. */
	if (send(fd, request, length, MSG_NOSIGNAL) != length || epoll_ctl(waiting, EPOLL_CTL_ADD, fd, &event))
		return -1;
	return fd;
}

/* So many connections to a port of loopback, a number of them at the same time; how many got the whole answer. */
int load_run(int port, int at_once, int count, const char *request, int asked, int answer)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct epoll_event events[BATCH];
	int begun = 0, ended = 0, served = 0, waiting = epoll_create1(EPOLL_CLOEXEC);
	char room[ROOM];

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (; begun < at_once && begun < count; begun++)
		if (ask(waiting, &address, request, asked) < 0)
			return -1;
	while (ended < count) {
		int ready = epoll_wait(waiting, events, BATCH, 5000);

		if (ready <= 0)
			break;
		for (int i = 0; i < ready; i++) {
			served += recv(events[i].data.fd, room, sizeof(room), 0) == answer;
			close(events[i].data.fd);
			ended++;
			if (begun < count && ask(waiting, &address, request, asked) < 0)
				return -1;
			begun += begun < count;
		}
	}
	close(waiting);
	return served;
}
