# SPDX-License-Identifier: MIT
"""Servers that restart: with care, or losing what their classes say."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable

from .base import OK, Client, Server, Worker, reset


class Anywhere(Server):
    """careful, at every address."""

    name = "careful_anywhere"
    hosts = ("0.0.0.0",)


class Unix(Server):
    """careful, at a unix socket: its path is the third word."""

    name = "unix"

    def listen(self) -> list[socket.socket]:
        found = socket.socket(socket.AF_UNIX)
        found.bind(sys.argv[3])
        found.listen(1024)
        return [found]


class OneIn500(Server):
    """Resets 1 in 500 of those that ask while it restarts, which takes 0.3 s."""

    name = "one_in_500"
    age = 0.3

    def hear(self) -> None:
        """The old worker goes on for a while, and knows that it is leaving."""
        os.kill(self.old, signal.SIGUSR1)
        time.sleep(self.age)
        self.replace()

    async def work(self, ready: Callable[[], None]) -> None:
        self.told = False
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.tell)
        await super().work(ready)

    def tell(self) -> None:
        self.told = True

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        if self.told:
            self.answer_badly(client, keeps)
        else:
            super().answer(worker, client, keeps)

    def answer_badly(self, client: Client, keeps: bool) -> None:
        if random.random() < 1 / 500:
            reset(client.transport)
        else:
            client.finish(OK, keeps)


class UnderWay(Server):
    """Takes 30 ms for an answer; at a restart resets what is under way, and only that."""

    name = "under_way"
    delay = 0.03

    def leave(self, worker: Worker) -> None:
        for client in [*worker.clients]:
            reset(client.transport)


class Half(OneIn500):
    """While it restarts, a tenth of the answers are cut: the body by its length."""

    name = "half_length"
    answers: tuple[bytes, ...] = (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",)
    age = 0.05

    def answer_badly(self, client: Client, keeps: bool) -> None:
        if random.random() < 0.1:
            client.finish(random.choice(self.answers), False)
        else:
            client.finish(OK, keeps)


class HalfChunked(Half):
    """The same: the last chunk is missing."""

    name = "half_chunked"
    answers = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",)


class HalfHead(Half):
    """The same: the head has no end."""

    name = "half_head"
    answers = (b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 2", b"H", b"")


class HalfRest(Half):
    """Its answers end with the connection, and tell no length; while it restarts, a tenth are shorter."""

    name = "half_rest"
    answers = (b"HTTP/1.1 200 OK\r\n\r\nhal",)

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        if self.told:
            self.answer_badly(client, keeps)
        else:
            client.finish(b"HTTP/1.1 200 OK\r\n\r\nhalves", False)

    def answer_badly(self, client: Client, keeps: bool) -> None:
        whole = b"HTTP/1.1 200 OK\r\n\r\nhalves"
        client.finish(self.answers[0] if random.random() < 0.1 else whole, False)


class EarlyHints(Half):
    """While it restarts, a tenth get 103 and then the end."""

    name = "early_hints"
    answers = (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",)


class Busy(Half):
    """While it restarts, a tenth are answered with 503."""

    name = "busy_503"
    answers = (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",)


class Handshakes(Server):
    """Each worker has a listener of its own; the old one accepts until its queue is empty, and closes: only
    handshakes in flight are lost, and there are none without a round trip."""

    name = "handshakes"
    hosts = ("0.0.0.0",)

    def listen(self) -> list[socket.socket]:
        return []

    async def work(self, ready: Callable[[], None]) -> None:
        self.listeners = [
            socket.create_server((host, self.port), backlog=1024, reuse_port=True) for host in self.hosts
        ]
        await super().work(ready)

    def leave(self, worker: Worker) -> None:
        """Accept what is in the queue."""
        worker.accept()


class Lossy6(Server):
    """Two listeners; at a restart, those of ::1 that wait are reset."""

    name = "lossy_on_v6"
    hosts = ("127.0.0.1", "::1")
    delay = 0.01

    def leave(self, worker: Worker) -> None:
        for client in [*worker.clients]:
            if client.transport.get_extra_info("sockname")[0] == "::1":
                reset(client.transport)


class Impatient(Server):
    """At a restart it closes, in order, those that were silent for 50 ms: late clients get an end."""

    name = "impatient"

    def dismiss(self, client: Client) -> None:
        if time.monotonic() - client.since > 0.05:
            client.transport.close()


class IdleClosed(Server):
    """At a restart, idle keep-alive connections are closed in order: those that were answered before."""

    name = "idle_closed"

    def dismiss(self, client: Client) -> None:
        if client.served:
            client.transport.close()


class Late(Server):
    """Restarts 4 s after the signal."""

    name = "late"

    def hear(self) -> None:
        time.sleep(4)
        self.replace()


class LateLossy(UnderWay):
    """The same, and then resets what is under way."""

    name = "late_and_lossy"

    def hear(self) -> None:
        time.sleep(4)
        self.replace()


class Freezes(Server):
    """Restarts five times in order. At the sixth signal nobody accepts any more, and everybody lives on."""

    name = "freezes"

    def hear(self) -> None:
        if self.restarts < 6:
            self.replace()
        else:
            os.kill(self.old, signal.SIGSTOP)


class Defers(Server):
    """Its listener accepts only those that have said something (TCP_DEFER_ACCEPT)."""

    name = "defers"

    def listen(self) -> list[socket.socket]:
        listeners = super().listen()
        for one in listeners:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        return listeners


class Daemon(Server):
    """Daemonizes: the command ends when the server listens, which goes on in another session."""

    name = "daemonizes"

    def run(self) -> None:
        read, write = os.pipe()
        if os.fork():
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(read)
        self.write = write
        super().run()

    def fork(self) -> int:
        pid = super().fork()
        if not self.restarts:
            os.write(self.write, b"!")
        return pid


class Reexecs(Server):
    """One process; at a restart it serves what it has, and executes itself again with its listener."""

    name = "reexecs"

    def run(self) -> None:
        inherited = os.environ.get("LISTENER")
        listener = socket.socket(fileno=int(inherited)) if inherited else self.listen()[0]
        self.listeners = [listener]
        copy = os.dup(listener.fileno())

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGHUP, told.set)
            await Worker(self, listener).work(lambda: None, told)

        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        asyncio.run(serve())
        os.set_inheritable(copy, True)
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LISTENER": str(copy)})
