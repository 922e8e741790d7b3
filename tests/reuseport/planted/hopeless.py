# SPDX-License-Identifier: MIT
"""Servers whose restarts cannot be judged, or that end: what no audit can say yes of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

from .base import OK, Client, Server, Worker


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
