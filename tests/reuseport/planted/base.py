# SPDX-License-Identifier: MIT
"""What planted servers have in common.

Most are a master that has a listener and a worker. At SIGHUP the master forks another worker, waits until
that one serves, and tells the old one to end. Each fault is what a class changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LINGER = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """End a connection by RST."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    transport.abort()


class Client(asyncio.Protocol):
    """A connection: answers whole requests, and ends in order."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.asked, self.transport = worker, b"", asyncio.Transport()
        self.since = time.monotonic()
        self.served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.worker.clients.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.worker.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            head, _, self.asked = self.asked.partition(b"\r\n\r\n")
            keeps = b"connection: close" not in head.lower() and not self.worker.leaving
            self.since = time.monotonic()
            self.worker.answer(self, keeps)

    def finish(self, answer: bytes, keeps: bool) -> None:
        self.served += 1
        self.transport.write(answer)
        if not keeps:
            self.transport.close()


class Worker:
    """Serves one listener in a process of its own."""

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self.server, self.listener = server, listener
        self.clients: set[Client] = set()
        self.adopting: set[asyncio.Task[None]] = set()
        self.leaving = False
        self.begun = time.monotonic()

    def answer(self, client: Client, keeps: bool) -> None:
        self.server.answer(self, client, keeps)

    def accept(self) -> None:
        """All that wait."""
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                task = asyncio.get_running_loop().create_task(self.adopt(sock))
                self.adopting.add(task)
                task.add_done_callback(self.adopting.discard)

    async def adopt(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Client(self), sock)

    async def work(self, ready: Callable[[], None], told: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        self.listener.setblocking(False)
        loop.add_reader(self.listener, self.accept)
        ready()
        await told.wait()
        loop.remove_reader(self.listener)
        self.leaving = True
        while self.adopting:
            await asyncio.sleep(0)
        self.server.leave(self)
        self.listener.close()
        for client in [*self.clients]:
            if not client.asked:
                self.server.dismiss(client)
        deadline = time.monotonic() + 3
        while (self.clients or self.adopting) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)


class Server:
    """careful: loses nobody."""

    name = "careful"
    hosts: tuple[str, ...] = ("127.0.0.1",)
    delay = 0.0

    def __init__(self, port: int) -> None:
        self.port = port
        self.restarted = 0.0  # when the last signal came
        self.restarts = 0
        self.old: int = 0

    # -- what a fault changes

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        """Answer one request."""
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, client.finish, OK, keeps)
        else:
            client.finish(OK, keeps)

    def leave(self, worker: Worker) -> None:
        """The worker was told to end."""

    def dismiss(self, client: Client) -> None:
        """A connection that has asked nothing yet when its worker ends. It may be about to ask."""

    def hear(self) -> None:
        """The master got the signal."""
        self.replace()

    # -- what all do

    def listen(self) -> list[socket.socket]:
        found = []
        for host in self.hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            found.append(socket.create_server((host, self.port), family=family, backlog=1024))
        return found

    def fork(self) -> int:
        """A worker, which serves when this returns."""
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            os.read(read, 1)
            os.close(read)
            return pid
        try:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            asyncio.run(self.work(lambda: os.close(write)))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(0)

    async def work(self, ready: Callable[[], None]) -> None:
        told, left = asyncio.Event(), len(self.listeners)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)

        def one_is_ready() -> None:
            nonlocal left
            left -= 1
            if not left:
                ready()

        await asyncio.gather(*[Worker(self, one).work(one_is_ready, told) for one in self.listeners])

    def replace(self) -> None:
        new = self.fork()
        os.kill(self.old, signal.SIGTERM)
        self.old = new

    def run(self) -> None:
        told = {signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, told)
        self.listeners = self.listen()
        self.old = self.fork()
        while (number := signal.sigwait(told)) != signal.SIGTERM:
            if number == signal.SIGHUP:
                self.restarted, self.restarts = time.monotonic(), self.restarts + 1
                self.hear()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        for listener in self.listeners:
            listener.close()
        os.kill(self.old, signal.SIGTERM)
        os.waitpid(self.old, 0)
