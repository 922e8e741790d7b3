# SPDX-License-Identifier: MIT
"""A server's answer that names the server, and clients that wait for it."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from reuseport._net import open_socket

from ..support import DEADLINE

NUMBER = struct.Struct("=I")


def answer_as(number: int) -> Callable[[socket.socket], None]:
    """For a server: read a request, and answer with a number."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if sock.recv(1):
                sock.sendall(NUMBER.pack(number))

    return serve


def clients(
    address: tuple[str, int], count: int, *, family: int = socket.AF_INET, mptcp: bool = False
) -> list[socket.socket]:
    """Connections that wait in the queue, their request sent."""
    found = []
    for _ in range(count):
        found.append(open_socket(family, mptcp=mptcp))
        found[-1].settimeout(DEADLINE)
        found[-1].connect(address)
        found[-1].sendall(b"?")
    return found


def answers(waiting: list[socket.socket]) -> list[int | str]:
    """What each got, a number or the name of an error; they are closed."""
    found: list[int | str] = []
    for sock in waiting:
        with sock:
            try:
                data = sock.recv(4)
            except OSError as error:
                found.append(type(error).__name__)
            else:
                found.append(NUMBER.unpack(data)[0] if data else "nothing")
    return found


def ask(address: tuple[str, int]) -> int | str:
    """What a new connection gets."""
    return answers(clients(address, 1))[0]
