# SPDX-License-Identifier: MIT
"""Every socket that has a port: listening, bound only, connected, or closed and not yet forgotten."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Sequence
from typing import NamedTuple

from mptcp_sockopt import TCPState, processes

from . import reading, unseen
from .reading import SocketOptions
from .rule import Holder, Place, State

_STUB_TIMER = 3  # of what the kernel keeps of a closed connection, whatever its state is called


class Socket(NamedTuple):
    """A socket that has the port, and what was found out about it."""

    kernel: processes.TCPSocket
    state: State
    owners: Sequence[processes.Owner]
    options: SocketOptions | None
    """None if they cannot be read."""
    v6only: bool | None
    """None for IPv4, and if it is not known."""
    unseen: str | None
    """Why owners or options are missing."""

    @property
    def facts(self) -> Holder:
        """What the rule of bind() asks."""
        sock, options = self.kernel, self.options
        place = Place(family_of(sock), sock.local[0].partition("%")[0], self.v6only, sock.ifindex)
        uid = None if self.state is State.STUB or sock.uid == unmapped() else sock.uid
        flags = (options.reuseaddr, options.reuseport) if options else (None, None)
        return Holder(place, self.state, uid, *flags)


def look(port: int) -> list[Socket]:
    """All of them but handshakes, which hold no port."""
    found = [sock for sock in processes.tcp_sockets(port) if sock.state != TCPState.SYN_RECV]
    owners = processes.owners(sock.inode for sock in found)
    return without_the_kernel_s_own_paths([_socket(sock, owners) for sock in found], port)


def family_of(sock: processes.TCPSocket) -> int:
    return int(socket.AF_INET if len(sock.local) == 2 else socket.AF_INET6)


def _state_of(sock: processes.TCPSocket) -> State:
    if sock.timer == _STUB_TIMER or sock.state == TCPState.TIME_WAIT:
        return State.STUB
    return {int(TCPState.LISTEN): State.LISTEN, int(TCPState.CLOSE): State.BOUND}.get(
        sock.state, State.CONNECTED
    )


def _socket(sock: processes.TCPSocket, owners: processes.Owners) -> Socket:
    state, seen = _state_of(sock), owners[sock.inode] or ()
    options, v6only, why = None, sock.v6only, None
    if seen:
        try:
            options, v6only = reading.from_owners(seen, lambda fd: _both(fd, sock))
        except OSError as error:
            why = f"options not seen: {error.strerror}"
    elif not sock.inode:
        why = "options not seen: no process has it"
    else:
        why = f"owner not seen: {unseen.why(owners)}"
    return Socket(sock, state, seen, options, v6only, why)


def _both(fd: int, sock: processes.TCPSocket) -> tuple[SocketOptions, bool | None]:
    v6only = sock.v6only
    if v6only is None and family_of(sock) == socket.AF_INET6:
        with contextlib.suppress(OSError):  # an MPTCP socket before Linux 6.9
            v6only = reading.is_v6only(fd)
    return reading.options_of(fd), v6only


def without_the_kernel_s_own_paths(found: Sequence[Socket], port: int) -> list[Socket]:
    """The kernel opens further paths of an MPTCP connection from other ports, with no option set. What the
    connection says of its options is true of its first path only."""
    doubtful = {
        held.kernel.inode
        for held in found
        if held.state is State.CONNECTED
        and held.options
        and held.options.mptcp
        and (held.options.reuseaddr or held.options.reuseport)
    }
    if doubtful:
        doubtful &= {sock.inode for sock in processes.tcp_sockets(0) if sock.local[1] != port}
    why = "options not seen: it may be a path that the kernel opened"
    return [
        held._replace(options=None, unseen=why) if held.kernel.inode in doubtful else held for held in found
    ]


def bound_only_are_told() -> bool:
    """Whether this kernel lists sockets that are bound only (Linux 6.8)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return bool(processes.tcp_sockets(sock.getsockname()[1], TCPState.CLOSE))


@functools.cache
def unmapped() -> int | None:
    """The uid that the kernel reports in the place of those that this user namespace does not know."""
    with open("/proc/self/uid_map") as map_file:
        if map_file.read().split() == ["0", "0", str(2**32 - 1)]:
            return None
    with open("/proc/sys/kernel/overflowuid") as file:
        return int(file.read())
