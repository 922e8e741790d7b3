# SPDX-License-Identifier: MIT
"""A server for the tests of the audit: toy.py MODE [MARK]. It listens on port 8000 of 127.0.0.1.

careful   on SIGHUP a new worker takes over the same listener, and the old one ends after its connection
careless  on SIGHUP it closes the listener, queue and all, and opens another a little later
deaf      ignores SIGHUP
mortal    dies of SIGHUP, as most programs do
hasty     ends before it listens
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 8000), backlog=1000)


def serve(server: socket.socket, connections: int) -> None:
    """Answer so many; the client closes first."""
    for _ in range(connections):
        with server.accept()[0] as sock:
            if sock.recv(1000).startswith(b"GET"):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def worker(server: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()  # as a daemon would, to be found all the same
    last: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: last.append(1))
    signal.siginterrupt(signal.SIGTERM, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    server.settimeout(0.05)
    while not last:
        try:
            serve(server, 1)
        except OSError:
            continue
    os._exit(0)


def careful() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    with listener() as server:
        old = worker(server)
        while signal.sigwait({signal.SIGHUP}):
            new = worker(server)
            os.kill(old, signal.SIGTERM)
            os.waitpid(old, 0)
            old = new


def careless() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    while True:
        with listener() as server:
            while signal.SIGHUP not in signal.sigpending():
                serve(server, 10)
            signal.sigwait({signal.SIGHUP})
        time.sleep(0.03)  # and nobody listens meanwhile


def deaf() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve(listener(), 10**6)


def mortal() -> None:
    serve(listener(), 10**6)


def hasty() -> None:
    sys.exit("no configuration")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
