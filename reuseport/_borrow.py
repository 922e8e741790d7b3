# SPDX-License-Identifier: MIT
"""Sockets of other processes: a descriptor is duplicated (pidfd_getfd), asked, and closed at once.

That takes ptrace rights on the process: its uid, or CAP_SYS_PTRACE.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import _net
from ._diag import Owner

_SYS_PIDFD_GETFD = 438  # Linux 5.6; the same number on every architecture but alpha
_IPPROTO_MPTCP = 262


class Options(NamedTuple):
    """Socket options that sock_diag does not tell, or not to everybody."""

    reuseaddr: bool
    reuseport: bool
    incoming_cpu: int | None
    defer_accept: int
    """Seconds; a connection stays in SYN_RECV until its client has spoken."""
    mptcp: bool
    """Of a listener SO_PROTOCOL is the truth: what falls back is a connection."""


def read_options(inode: int, owners: Sequence[Owner]) -> Options:
    """Options of a socket, from the first owner whose descriptor may be duplicated.

    OSError, that of the last one, if there is none.
    """
    refused = OSError("it has no owner")
    for owner in owners:
        try:
            return borrow(owner, lambda twin: _options_of(twin, inode))
        except OSError as error:
            refused = error  # not allowed, or it is another socket by now
    raise refused


def _options_of(sock: socket.socket, inode: int) -> Options:
    if os.fstat(sock.fileno()).st_ino != inode:
        raise OSError("the descriptor is another socket's by now")

    def value(option: int, level: int = socket.SOL_SOCKET) -> int:
        return sock.getsockopt(level, option)

    cpu = value(_net.SO_INCOMING_CPU)
    return Options(
        reuseaddr=bool(value(socket.SO_REUSEADDR)),
        reuseport=bool(value(socket.SO_REUSEPORT)),
        incoming_cpu=None if cpu < 0 else cpu,
        defer_accept=value(socket.TCP_DEFER_ACCEPT, socket.IPPROTO_TCP),
        mptcp=value(socket.SO_PROTOCOL) == _IPPROTO_MPTCP,
    )


def borrow(owner: Owner, use: Callable[[socket.socket], Options]) -> Options:
    """Call use with a duplicate of another process's socket, which is closed at once, whatever happens."""
    pidfd = os.pidfd_open(owner.pid)
    try:
        number = _pidfd_getfd(pidfd, owner.fd)
    finally:
        os.close(pidfd)
    try:
        twin = socket.socket(fileno=number)
    except BaseException:
        os.close(number)
        raise
    with twin:
        return use(twin)


def _pidfd_getfd(pidfd: int, fd: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number: int = libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    if number < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return number
