# SPDX-License-Identifier: MIT
"""Who accepts: a process beside the load connects again and again, and looks who holds the other end.

A probe sends a part of a request, so that a listener which defers (TCP_DEFER_ACCEPT) accepts it, and the
server waits for the rest; then its end is looked up, and the process that holds it. Then it sends the rest.
A server that accepts in one process and answers in another (a cluster of node) still holds it after the
answer; that process counts.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mptcp_sockopt import Address, processes, testing

from .._net import drop_tcp_sockets
from ..load import Request, Target
from . import family
from .family import Identity
from .guard import Guard

WITHIN = 1.0  # seconds for each step of a probe
SETTLE = 0.05  # seconds for a connection to be passed to another process
_CREDENTIALS = struct.Struct("=iII")


class Probe(NamedTuple):
    """One connection, and who accepted it. Times are of time.monotonic_ns()."""

    begun: int
    ended: int
    chain: tuple[Identity, ...] | None
    """The process and its ancestors. None if the connection was not accepted."""
    unseen: bool = False
    """Accepted, but it ended before its holder could be seen."""


class Prober:
    """A process that makes a probe every so many milliseconds, in turn to each target, until the block ends.

    Thread rule: for one thread.
    """

    def __init__(
        self, targets: Sequence[Target], guard: Guard, request: Request, *, silent: bool = False
    ) -> None:
        """silent: the server speaks first."""
        wire = b"" if silent else request.wire(close=False)
        self._pace = mmap.mmap(-1, 1)
        self.set_pace(50)
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._buffer = b""
        try:
            self._child = testing.Child(lambda: self._work(write, targets, guard, wire))
        finally:
            os.close(write)

    def set_pace(self, milliseconds: int) -> None:
        """From one probe to the next: at most 255."""
        self._pace[0] = milliseconds

    def read(self) -> Iterator[Probe]:
        """The probes that have ended since the last call."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read, 1 << 16):
                self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "little")
            if len(self._buffer) < end:
                break
            packet, self._buffer = self._buffer[4:end], self._buffer[end:]
            yield pickle.loads(packet)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()
        os.close(self._read)

    # ------------------------------------------------------------------------------- in its own process

    def _work(self, write: int, targets: Sequence[Target], guard: Guard, wire: bytes) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        drop_tcp_sockets()
        looker, number = _Looker(guard), 0
        while True:
            begun = time.monotonic_ns()
            target = targets[number % len(targets)]
            number += 1
            pid, unseen, people = looker.ask(target, wire)
            seen = None if pid is None else family.chain(people, pid)
            packet = pickle.dumps(Probe(begun, time.monotonic_ns(), seen or None, unseen or seen == ()))
            os.write(write, len(packet).to_bytes(4, "little") + packet)
            time.sleep(max(0.0, self._pace[0] / 1000 - (time.monotonic_ns() - begun) / 1e9))


class _Looker:
    """Makes probes, and remembers who accepted before: it is likely to do so again."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._likely: list[int] = []

    def ask(self, target: Target, wire: bytes) -> tuple[int | None, bool, dict[int, family.Member]]:
        """Who accepts, or None; whether it was accepted by somebody unseen; and all processes."""
        with socket.socket(target.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(WITHIN)
            try:
                if target.family == socket.AF_UNIX:
                    return self._ask_unix(sock, target, wire)
                return self._ask_tcp(sock, target, wire)
            except OSError:
                return None, False, {}

    def _ask_tcp(
        self, sock: socket.socket, target: Target, wire: bytes
    ) -> tuple[int | None, bool, dict[int, family.Member]]:
        sock.connect(target.address)
        if target.tls:
            wire = _client_hello()
        sock.sendall(wire[: len(wire) // 2])
        ends = sock.getpeername(), sock.getsockname()
        inode = self._accepted(*ends)
        if not inode:
            return None, inode is None, {}
        pid, people = self._settled(inode), self._people()
        with contextlib.suppress(OSError):  # it was accepted, whether it is answered or not
            sock.sendall(wire[len(wire) // 2 :])
            sock.recv(1 << 16)  # a server that keeps it holds it until this end is closed
        if last := self._holder(inode):
            pid, people = last, {**people, **self._people()}
        if pid not in people:  # it has ended meanwhile
            pid = None
        return pid, pid is None, people

    def _people(self) -> dict[int, family.Member]:
        return family.members(self._guard.proc, self._guard.processes())

    @staticmethod
    def _accepted(local: Address, remote: Address) -> int | None:
        """The inode of the server's end, 0 if nobody accepts it, or None if it has ended already."""
        deadline = time.monotonic() + WITHIN
        while True:
            found = processes.tcp_lookup(local, remote)
            if found is None:
                return None
            if found.inode or time.monotonic() > deadline:
                return found.inode
            time.sleep(0.0005)

    def _settled(self, inode: int) -> int | None:
        """Its holder, once that is the same at two looks."""
        deadline, before = time.monotonic() + SETTLE, -1
        while (now := self._holder(inode) or -1) != before or now < 0:
            if time.monotonic() > deadline:
                break
            before = now
            time.sleep(0.001)
        return now if now > 0 else None

    def _holder(self, inode: int) -> int | None:
        pids = self._guard.processes()
        likely = [pid for pid in self._likely if pid in pids]
        others = [pid for pid in reversed(pids) if pid not in likely]
        found = family.holder(self._guard.proc, [*likely, *others], inode)
        if found:
            self._likely = [found, *(pid for pid in likely if pid != found)][:16]
        return found

    def _ask_unix(
        self, sock: socket.socket, target: Target, wire: bytes
    ) -> tuple[int | None, bool, dict[int, family.Member]]:
        """Who answers: the kernel says who sent each message."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.connect(target.address)
        sock.sendall(wire)
        _, messages, _, _ = sock.recvmsg(1 << 16, socket.CMSG_SPACE(_CREDENTIALS.size))
        people = self._people()
        for level, kind, data in messages:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, _, _ = _CREDENTIALS.unpack(data)
                with contextlib.suppress(OSError):
                    pid = family.inside(pid) if self._guard.protection.protected else pid
                    return pid, pid not in people, people
        return None, True, people


@functools.cache
def _client_hello() -> bytes:
    """What a TLS client says first."""
    import ssl  # not every Python has it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(inward, outward).do_handshake()
    return outward.read()
