# SPDX-License-Identifier: MIT
"""Messages of sockets and their options."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..cli.commands import outcome
from ..support import fallback_pair, in_private_network, mptcp_pair, tcp_pair, where_refused
from .page import joined, raised, says, shows

INET, INET6, STREAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM
MPTCP_FULL_INFO, TCP_MD5SIG = 4, 14


def new_socket(family: int = INET, kind: int = STREAM) -> None:
    socket.socket(family, kind, mp.IPPROTO_MPTCP).close()


def test_mptcp_is_switched_off(mptcp: None) -> None:
    """In this network namespace; check names the sysctl."""

    def look() -> None:
        Path("/proc/sys/net/mptcp/enabled").write_text("0")
        shows("socket-92", raised(new_socket), raised(lambda: mp.create_socket(fallback=False)))
        found = outcome("check")
        says("socket-92", "MPTCP is disabled in this network namespace")
        assert "MPTCP is disabled in this network namespace" in joined(found.out)
        assert found.code == 1
        assert "#socket-92\n" in found.out
        assert "#socket-92\n" in outcome("doctor").out
        with mp.create_socket() as sock:
            assert mp.status(sock) is mp.Status.TCP

    in_private_network(look)


def test_another_kind_of_socket(mptcp: None) -> None:
    """A kernel without MPTCP says the same."""
    shows("socket-93", raised(lambda: new_socket(kind=socket.SOCK_DGRAM)))
    says("socket-93", mp.Support.NOT_BUILT_IN.value.partition(" (")[0])
    says("socket-93", mp.Support.KERNEL_TOO_OLD.value.partition(" (")[0])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_policy_forbids_it(number: int, mptcp: None) -> None:
    """As a seccomp filter."""

    def look() -> None:
        shows("socket-13", raised(new_socket))
        sentence = "a policy forbids this process to create MPTCP sockets"
        found = outcome("check")
        says("socket-13", sentence)
        assert sentence in joined(found.out)
        assert found.code == 3
        assert "#socket-13\n" in found.out

    where_refused([("socket", {2: mp.IPPROTO_MPTCP}, number)], look)


def test_getaddrinfo_does_not_know_mptcp(mptcp: None) -> None:
    """asyncio asks it for the address of each MPTCP socket; as_tcp() spares it that."""

    async def connect(made: Callable[[], socket.socket]) -> mp.Status:
        with made() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, server.getsockname())
            return mp.status(sock)

    with mp.create_server(("127.0.0.1", 0)) as server:
        shows("ai-socktype", raised(lambda: asyncio.run(connect(mp.create_socket))))
        shows("ai-socktype", raised(lambda: socket.getaddrinfo("127.0.0.1", 80, proto=mp.IPPROTO_MPTCP)))
        assert asyncio.run(connect(lambda: mp.as_tcp(mp.create_socket()))) is mp.Status.MPTCP


def test_the_socket_is_not_mptcp(mptcp: None) -> None:
    """The kernel's message, and ours, whose traceback says where to read on."""
    with fallback_pair(INET) as (client, _):
        shows("errno-95", raised(lambda: client.getsockopt(mp.SOL_MPTCP, mp.MPTCP_INFO, 100)))
        shows("errno-95", raised(lambda: mp.mptcp_info(client)))
        with pytest.raises(mp.NotMPTCPError) as caught:
            mp.mptcp_info(client)
        (note,) = caught.value.__notes__
        assert note.rpartition("#")[2] == "errno-95"
    with tcp_pair(INET6) as (client, _):
        shows("errno-95", raised(lambda: mp.mptcp_info(client)))
        shows("socket-92", raised(lambda: client.getsockopt(mp.SOL_MPTCP, mp.MPTCP_INFO, 100)))


def test_the_kernel_is_older_than_the_option(mptcp: None) -> None:
    """snapshot() reads the older ones."""

    def look() -> None:
        with mptcp_pair(INET) as (client, _):
            with pytest.raises(mp.UnsupportedOptionError) as caught:
                mp.mptcp_full_info(client)
            shows("unsupported-option", f"mptcp_sockopt.UnsupportedOptionError: {caught.value}")
            assert caught.value.__notes__[0].endswith("#unsupported-option")
            assert len(mp.snapshot(client).subflows) == 1

    where_refused([("getsockopt", {1: mp.SOL_MPTCP, 2: MPTCP_FULL_INFO}, errno.EOPNOTSUPP)], look)


def test_options_that_mptcp_does_not_take(mptcp: None) -> None:
    """Those that the page names, and doctor."""
    tcp = socket.IPPROTO_TCP
    with mptcp_pair(INET) as (client, _):

        def refused(level: int, option: int, value: int | bytes = 1) -> str:
            return raised(lambda: client.setsockopt(level, option, value))

        for name in ("TCP_USER_TIMEOUT", "TCP_QUICKACK", "TCP_SYNCNT", "TCP_WINDOW_CLAMP", "TCP_LINGER2"):
            says("setsockopt-92", name)
            shows("setsockopt-92", refused(tcp, getattr(socket, name)))
        shows("setsockopt-92", refused(tcp, TCP_MD5SIG, bytes(216)))
        for level, option in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.SOL_SOCKET, socket.SO_REUSEADDR)):
            says("setsockopt-92", refused(level, option).partition(" ")[2])
        client.setsockopt(tcp, socket.TCP_KEEPIDLE, 1)
    in_private_network(lambda: _doctor_says("TCP_USER_TIMEOUT", "TCP_SYNCNT"))


def _doctor_says(*names: str) -> None:
    found = outcome("doctor").out
    assert [name for name in names if name not in found] == []


def test_what_a_listener_accepted_from_a_tcp_client(mptcp: None) -> None:
    """proto is the listener's; status() asks the kernel."""
    server = mp.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        assert (accepted.proto, mp.status(accepted)) == (mp.IPPROTO_MPTCP, mp.Status.TCP)
        # Python 3.10 has the names of the constants.
        line = repr(accepted).replace("AddressFamily.AF_INET", "2").replace("SocketKind.SOCK_STREAM", "1")
        shows("accepted", line)
