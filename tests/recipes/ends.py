# SPDX-License-Identifier: MIT
"""The statuses of both ends of a connection of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import processes


def plain(address: Any) -> tuple[str, int]:
    """Of an IPv4 connection to a dual-stack listener, the address is IPv4's."""
    return address[0].removeprefix("::ffff:"), address[1]


def looked_up(one: Any, other: Any) -> str:
    """The status of the end at the address one, by asking the kernel for the connection."""
    found = mp.mptcp_lookup(plain(one), plain(other))
    return "TCP" if found is None else found.status.name


def answer(sock: Any) -> bytes:
    """What a server of ours answers: the client's end and its own, as JSON."""
    client, server = sock.getpeername(), sock.getsockname()
    return json.dumps({"client": looked_up(client, server), "server": mp.status(sock).name}).encode()


def own(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's sockets that are connected to this port."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(number))
        except OSError:  # no socket, or the descriptor of the listing
            continue
        with sock:
            try:
                found = _is_internet(sock) and sock.getpeername()[1] == port
            except OSError:  # a listener
                continue
            if found:
                yield sock


def held(pid: int, client: Any) -> Iterator[socket.socket]:
    """Duplicates of the sockets by which a process or its children are connected to a client."""
    for owner in processes.iter_sockets(pid):
        with contextlib.ExitStack() as stack:
            try:
                number = stack.enter_context(processes.borrow(owner))
                sock = stack.enter_context(socket.socket(fileno=os.dup(number)))
                found = _is_internet(sock) and plain(sock.getpeername()) == plain(client)
            except OSError:  # a listener, or closed meanwhile
                continue
            if found:
                yield sock
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from held(int(child), client)


def _is_internet(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)
