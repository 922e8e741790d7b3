# SPDX-License-Identifier: MIT
"""Whether connections over loopback can be tested: first TCP, then MPTCP. If not, the reason.

Each system call is made separately, so that the message can name the one that was refused (by seccomp, a
firewall ...). Uses only public names of mptcp_sockopt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket

import mptcp_sockopt as mp
from mptcp_sockopt import host

from ._cases import LOOPBACK
from ._ktap import is_shortage

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

# Seconds for each step. If SYNs with the MPTCP option are dropped, one without it follows after at most 7 s.
PATIENCE = 10


def why_not(family: int) -> str | None:
    """Why nothing can be tested in the caller's network namespace; None if it can."""
    support = mp.is_supported()
    if not support:
        return support.value
    host = LOOPBACK[family]
    try:
        with _connection(family, socket.IPPROTO_TCP):
            pass
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL and is_shortage(error):  # here: no such address, not: no port
            raise
        return f"not even plain TCP works over {host}: {error}"
    try:
        with mp.create_socket(family, fallback=False) as sock:
            mp.mptcp_info(sock)
    except mp.UnsupportedOptionError:
        return "this kernel has no SOL_MPTCP (before Linux 5.16, or user-mode emulation)"
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        return f"this kernel cannot create MPTCP sockets of this family: {error}"
    return why_no_mptcp(family)


def why_no_mptcp(family: int) -> str | None:
    """Why a connection between two MPTCP sockets does not use MPTCP here; None if it does.

    For kernels that have MPTCP. OSError if the machine runs out of something.
    """
    host = LOOPBACK[family]
    without = _connections_without_mptcp()
    try:
        with _connection(family, mp.IPPROTO_MPTCP) as ends:
            if all(map(mp.is_mptcp, ends)):
                return None
    except OSError as error:
        if is_shortage(error):
            raise
        return f"no MPTCP connection can be made over {host}: {error}"
    if _connections_without_mptcp() > without:
        return (
            "MPTCP connections fall back to TCP: blackhole detection is active in this network namespace "
            "(writing sysctl net.mptcp.blackhole_timeout ends it)"
        )
    return f"MPTCP connections fall back to TCP over {host}: a firewall or a small MTU blocks MPTCP options"


def _connections_without_mptcp() -> int:
    """How many connections blackhole detection (Linux 6.12) made without asking the peer for MPTCP."""
    try:
        return host.counters().get("MPCapableSYNTXDisabled", 0)
    except (OSError, ValueError):
        return 0


@contextlib.contextmanager
def _connection(family: int, protocol: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection that has carried a byte each way. Each step is limited to PATIENCE."""
    with contextlib.ExitStack() as stack:
        kind = family, socket.SOCK_STREAM, protocol
        server, client = (stack.enter_context(_call("socket()", socket.socket, *kind)) for _ in range(2))
        _call("bind()", server.bind, (LOOPBACK[family], 0))
        _call("listen()", server.listen)
        address = _call("getsockname()", server.getsockname)
        _call("ioctl(FIONBIO)", client.setblocking, False)
        with contextlib.suppress(BlockingIOError):
            _call("connect()", client.connect, address)
        _wait(client, select.POLLOUT, "connect()")
        number = _call("getsockopt(SO_ERROR)", client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, f"connect(): {os.strerror(number)}")
        _call("getpeername()", client.getpeername)
        _wait(server, select.POLLIN, "accept()")
        accepted = stack.enter_context(_call("accept()", server.accept)[0])
        for one, other in ((client, accepted), (accepted, client)):
            _call("sendto()", one.send, b"x")
            _wait(other, select.POLLIN, "recvfrom()")
            _call("recvfrom()", other.recv, 1)
        yield client, accepted


def _call(name: str, function: Callable[..., T], *arguments: object) -> T:
    """Call function; an OSError then names the system call."""
    try:
        return function(*arguments)
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}") from None


def _wait(sock: socket.socket, event: int, call: str) -> None:
    poll = select.poll()
    poll.register(sock, event)
    if not _call("poll()", poll.poll, PATIENCE * 1000):
        raise OSError(errno.ETIMEDOUT, f"{call}: {os.strerror(errno.ETIMEDOUT)}")
