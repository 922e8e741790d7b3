# SPDX-License-Identifier: MIT
"""Servers with a known fault: ``python server.py NAME [PORT]``. What each does is said by its class.

Most are a master that has a listener and a worker. At SIGHUP the master forks another worker, waits until
that one serves, and tells the old one to end. Each fault is what a class changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
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


# --------------------------------------------------------------------------------- what restarts may lose


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
    """At a restart, idle keep-alive connections are closed in order, once they are known to be idle."""

    name = "idle_closed"

    def dismiss(self, client: Client) -> None:
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


# --------------------------------------------------------------------------- what no audit can say yes of


class Never(Server):
    """Accepts, and never answers."""

    name = "never"

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        pass


class Missing(Server):
    """careful, and answers 404 to everything."""

    name = "missing_404"

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        client.finish(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", keeps)


class Unavailable(Server):
    """Answers 503 to everything."""

    name = "unavailable_503"

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        client.finish(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", keeps)


class SpeaksTLS(Server):
    """Speaks TLS: what is asked in clear is answered with an alert."""

    name = "tls_in_clear"

    async def work(self, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        class Alert(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                assert isinstance(self.transport, asyncio.Transport)
                kind = 70 if data[:1] == b"\x16" else 40
                self.transport.write(bytes((0x15, 3, 3, 0, 2, 2, kind)))
                self.transport.close()

        await loop.create_server(Alert, sock=self.listeners[0])
        ready()
        await asyncio.Event().wait()


class DeafIdle(Server):
    """Ignores the signal."""

    name = "deaf_idle"

    def hear(self) -> None:
        pass


class DeafRecycling(Server):
    """Ignores the signal, but replaces its worker every 0.4 s."""

    name = "deaf_recycling"

    def run(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.listeners = self.listen()
        self.old = self.fork()
        while True:
            time.sleep(0.4)
            old = self.old
            self.replace()
            os.waitpid(old, 0)


class DeafForking(Server):
    """Ignores the signal, but forks a child for every connection."""

    name = "deaf_forking"

    def run(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        (listener,) = self.listen()
        while True:
            sock, _ = listener.accept()
            if os.fork() == 0:
                asked = b""
                while b"\r\n\r\n" not in asked and (data := sock.recv(1000)):
                    asked += data
                with contextlib.suppress(OSError):
                    sock.sendall(OK)
                os._exit(0)
            sock.close()


class Sick(Server):
    """Restarts with care, but from 3 s on every answer takes longer, and soon for ever."""

    name = "sick"

    def run(self) -> None:
        self.since = time.monotonic()
        super().run()

    def answer(self, worker: Worker, client: Client, keeps: bool) -> None:
        age = time.monotonic() - self.since - 3
        if age > 0:
            asyncio.get_running_loop().call_later(4 * age, client.finish, OK, keeps)
        else:
            client.finish(OK, keeps)

    def leave(self, worker: Worker) -> None:
        """It waits for them."""


class Mortal(Server):
    """Dies in its third restart."""

    name = "mortal"

    def hear(self) -> None:
        if self.restarts == 3:
            print("configuration error: line 7", file=sys.stderr, flush=True)
            os.kill(self.old, signal.SIGKILL)
            sys.exit(1)
        self.replace()


class Hasty(Server):
    """Ends before it listens."""

    name = "hasty"

    def run(self) -> None:
        sys.exit("no configuration")


def servers(base: type[Server] = Server) -> dict[str, type[Server]]:
    """All of them, by name."""
    found = {base.name: base}
    for one in base.__subclasses__():
        found |= servers(one)
    return found


if __name__ == "__main__":
    servers()[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 8000).run()
