# SPDX-License-Identifier: MIT
"""Addresses, options and listeners, for every other room here; a network with all ports."""

from __future__ import annotations

import array
import contextlib
import enum
import functools
import os
import socket
import stat
from pathlib import Path

import mptcp_sockopt
from mptcp_sockopt import testing

LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

SO_INCOMING_CPU = 49  # the socket module has it from Python 3.11


def enter_private_network() -> None:
    """Move this process to a private network, with every port from 1024 on."""
    testing.enter_private_network()
    allow_all_ports()


def allow_all_ports() -> None:
    """For connect(), in the network of this thread."""
    with contextlib.suppress(OSError):  # not vital: clients run out of ports sooner
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("1024 65535")


def drop_tcp_sockets() -> None:
    """In a forked child: a listener that stays open there accepts nobody. /dev/null takes their numbers,
    because socket objects that the child inherited may still close these."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of that listing
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    inet = sock.family in (socket.AF_INET, socket.AF_INET6)
                if inet:
                    os.dup2(null, int(name), inheritable=False)
    os.close(null)


def receive_fds(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """A message, and the descriptors that come with it. No program that is started gets these.

    (socket.recv_fds() ignores its flags, and what it returns is inherited.)
    """
    fds = array.array("i")
    room = socket.CMSG_LEN(most * fds.itemsize)
    data, messages, _, _ = sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, sent in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(sent[: len(sent) - len(sent) % fds.itemsize])
    return data, fds.tolist()


class Reuse(enum.Flag):
    """The two options that let sockets share a port (socket(7)). Set before bind(), on *every* socket."""

    NONE = 0
    ADDR = enum.auto()
    PORT = enum.auto()


def open_socket(family: int, *, mptcp: bool) -> socket.socket:
    """A TCP socket or, with mptcp, an MPTCP one; never one in place of the other."""
    if mptcp:
        return mptcp_sockopt.create_socket(family, fallback=False, nodelay=False)
    try:
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        words = f"socket({socket.AddressFamily(family).name}): {error.strerror}"
        raise OSError(error.errno, words) from None


def bind(
    address: tuple[str, int],
    reuse: Reuse = Reuse.NONE,
    *,
    family: int = socket.AF_INET,
    mptcp: bool = False,
    v6only: bool = True,
    incoming_cpu: int | None = None,
    backlog: int | None = None,
) -> socket.socket:
    """A bound socket. With a backlog it listens."""
    sock = open_socket(family, mptcp=mptcp)
    try:
        if reuse & Reuse.ADDR:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse & Reuse.PORT:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        if incoming_cpu is not None:
            # Before listen(): later, MPTCP accepts the option and ignores it.
            sock.setsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU, incoming_cpu)
        sock.bind(address)
        if backlog is not None:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


#: A listening socket.
listen = functools.partial(bind, backlog=4096)


def name(sock: socket.socket) -> tuple[str, int]:
    """The (host, port) that a socket is bound to, of either family."""
    host, port = sock.getsockname()[:2]
    return host, port


def url(host: str, port: int) -> str:
    """An address as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
