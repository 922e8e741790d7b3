# SPDX-License-Identifier: MIT
"""Servers of a few lines, which do one thing to each connection."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reuseport._net import LOOPBACK, listen, name
from reuseport.load import Client, Outcome, Plan, PlanReport, Report, Target, Where, run_here

from ..support import DEADLINE, at_work

Serve = Callable[[socket.socket], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def reset_at_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


def hear(sock: socket.socket) -> bytes:
    """A request without a body, or the end."""
    heard = b""
    while not heard.endswith(b"\r\n\r\n"):
        data = sock.recv(1 << 16)
        if not data:
            break
        heard += data
    return heard


def saying(data: bytes) -> Serve:
    """Read the request, say that, close in order."""

    def serve(sock: socket.socket) -> None:
        hear(sock)
        sock.sendall(data)

    return serve


def answering(times: int) -> Serve:
    """Answer so many requests, then close in order."""

    def serve(sock: socket.socket) -> None:
        for _ in range(times):
            hear(sock)
            sock.sendall(OK)

    return serve


def then(times: int, after: Serve) -> Serve:
    """Answer so many requests, and then do this."""

    def serve(sock: socket.socket) -> None:
        answering(times)(sock)
        after(sock)

    return serve


def cases(found: PlanReport) -> list[tuple[Outcome, Where | None, bool | None, bool]]:
    return [(loss.outcome, loss.where, loss.retried, loss.lost) for loss in found.losses]


def drop(sock: socket.socket) -> None:
    """Read the request, close in order."""
    hear(sock)


def leave_unread(sock: socket.socket) -> None:
    """Close while the request lies there."""
    select.select([sock], [], [], DEADLINE)


def queues(port: int, family: int = socket.AF_INET) -> list[tuple[int, int]]:
    """Of the two established ends of the connections of a server: bytes to be acknowledged, and to be read.
    The server's end is first. By /proc/net/tcp."""
    table = Path("/proc/self/net/tcp6" if family == socket.AF_INET6 else "/proc/self/net/tcp")
    server: list[tuple[int, int]] = []
    client: list[tuple[int, int]] = []
    for row in table.read_text().splitlines()[1:]:
        _, local, remote, state, waiting, *_ = row.split()
        sending, receiving = (int(word, 16) for word in waiting.split(":"))
        if state == "01":
            for end, found in ((local, server), (remote, client)):
                if int(end.split(":")[1], 16) == port:
                    found.append((sending, receiving))
    return server + client


@contextlib.contextmanager
def served(listener: socket.socket, serves: Sequence[Serve]) -> Iterator[None]:
    """Accept one connection after the other beside the block, a thing done to each."""

    def serve_all() -> None:
        listener.settimeout(DEADLINE)
        for serve in serves:
            sock, _ = listener.accept()
            sock.settimeout(DEADLINE)
            with sock, contextlib.suppress(ConnectionError):
                serve(sock)

    with at_work(serve_all):
        yield


def outcome(plan: Plan, *serves: Serve, family: int = socket.AF_INET, mptcp: bool = False) -> Report:
    """What clients make of these, one connection after the other. The plan's targets are filled in."""
    with listen((LOOPBACK[family], 0), family=family, mptcp=mptcp) as listener, served(listener, serves):
        return ask(Target(name(listener), family, mptcp), plan._replace(total=plan.total or len(serves)))


def ask(target: Target, plan: Plan, *, patience: float = 5.0) -> Report:
    """In this process, to the end."""
    return run_here([plan._replace(targets=(target,))], patience=patience)


def one(client: Client) -> Plan:
    """A connection after the other."""
    return Plan(client, (), None, at_once=1)
