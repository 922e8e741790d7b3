# SPDX-License-Identifier: MIT
"""Self test cases with sockets of every kind: fresh, listening, plain TCP, fallen back.

Uses only public names of mptcp_sockopt, and the border's netlink for the lookup by token.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

import mptcp_sockopt as mp

from .._border import netlink as _netlink
from . import _cases
from ._cases import LOOPBACK, End, eventually, pair, room
from ._ktap import Skip, check, is_shortage, named


@named("fresh MPTCP socket: answers, UNCONNECTED")
def fresh(family: int) -> None:
    with mp.create_socket(family, fallback=False) as sock:
        info = mp.mptcp_info(sock)
        check(info.token == info.flags == 0, f"token {info.token}, flags {info.flags}")
        expect(sock, mp.Status.UNCONNECTED, is_mptcp=True)
        # If bound, or before Linux 6.5, it has an initial subflow in state CLOSE.
        check(not any(path.live for path in mp.snapshot(sock).subflows), "it has a live subflow")


@named("MPTCP listener: answers, LISTENING")
def listener(family: int) -> None:
    with mp.create_server((LOOPBACK[family], 0), family=family, fallback=False) as sock:
        check(mp.mptcp_info(sock).token == 0, "it has a token")
        expect(sock, mp.Status.LISTENING, is_mptcp=True)
        names = [path.local for path in mp.mptcp_subflow_addrs(sock)]
        check(names == [sock.getsockname()], f"it listens on {names}, not {sock.getsockname()}")


@named("plain TCP: TCP at both ends")
def plain_tcp(family: int) -> None:
    with socket.create_server((LOOPBACK[family], 0), family=family) as server:
        check(mp.status(server) is mp.Status.LISTENING, f"the listener is {mp.status(server)}")
    with pair(family, client=False, server=False) as ends:
        for sock in ends:
            expect_plain(sock, mp.Status.TCP)


@named("MPTCP to a TCP listener: FALLBACK at the client, TCP at the server")
def fallen_back(family: int) -> None:
    with pair(family, server=False) as (client, accepted):
        expect_plain(client, mp.Status.FALLBACK)
        expect_plain(accepted, mp.Status.TCP)


@named("TCP to an MPTCP listener: TCP at both ends")
def plain_client(family: int) -> None:
    with pair(family, client=False) as ends:
        for sock in ends:
            expect_plain(sock, mp.Status.TCP)


def expect(sock: socket.socket, status: mp.Status, *, is_mptcp: bool) -> None:
    check(mp.status(sock) is status, f"its status is {mp.status(sock).name}, not {status.name}")
    check(mp.is_mptcp(sock) is is_mptcp, f"is_mptcp() returned {not is_mptcp}")
    check(mp.snapshot(sock).status is status, f"its snapshot is {mp.snapshot(sock).status.name}")


def expect_plain(sock: socket.socket, status: mp.Status) -> None:
    expect(sock, status, is_mptcp=False)
    for read in (mp.mptcp_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs, mp.mptcp_full_info):
        try:
            read(sock)
        except mp.NotMPTCPError as error:
            refusals = (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
            check(error.errno in refusals, f"{read.__name__}() raised {error!r}")
        else:
            check(False, f"{read.__name__}() answered")
    (path,) = mp.snapshot(sock).subflows
    names = (sock.getsockname(), sock.getpeername())
    check((path.local, path.remote) == names, f"its snapshot has {path.local} and {path.remote}, not {names}")


# ---------------------------------------------------------------------------------- a connection, and more


@named("unread data: counted once")
def unread(family: int) -> None:
    with pair(family) as (client, accepted):
        size = min(1000, room(accepted))
        end = End(accepted)
        client.sendall(bytes(size))

        def came() -> int:
            return sum(path.bytes_received or 0 for path in mp.mptcp_tcpinfo(accepted))

        check(eventually(lambda: came() >= size), f"subflows received {came()} bytes, {size} were sent")
        moved = (mp.mptcp_info(accepted).rcv_nxt - end.start.rcv_nxt) % 2**64
        check(moved <= size, f"rcv_nxt moved by {moved}, {size} bytes were sent")
        while end.received < size:
            end.received += len(accepted.recv(size))
        _cases.info(end)
        _cases.tcpinfo(end)


@named("sock_diag: a token finds its connection")
def look_up(family: int) -> None:
    with pair(family) as ends:
        try:
            mp.mptcp_diag()
        except mp.UnsupportedOptionError:
            raise Skip("this kernel has no mptcp_diag (CONFIG_INET_MPTCP_DIAG)") from None
        except OSError:
            needs_netlink()
            raise
        for sock in ends:
            info = mp.mptcp_info(sock)
            ports, found = by_token(info.token)
            names = (sock.getsockname()[1], sock.getpeername()[1])
            check(ports == names, f"the lookup found ports {ports}, not {names}")
            for name in ("token", "write_seq", "rcv_nxt"):
                one, other = getattr(found, name), getattr(info, name)
                check(one == other, f"{name} is {one}, and {other} in MPTCP_INFO")
        tokens = {mp.mptcp_info(sock).token for sock in ends}
        check(len(tokens) == 2, "both ends have the same token")
        try:
            by_token(next(number for number in range(1, 2**32) if number not in tokens))
        except FileNotFoundError:
            return
        check(False, "the lookup of an unused token found a connection")


def _sock_diag() -> contextlib.AbstractContextManager[socket.socket]:
    return _netlink.connected(4)  # NETLINK_SOCK_DIAG in linux/netlink.h


def needs_netlink() -> None:
    """Skip if a policy refuses netlink sockets: that says nothing about the kernel."""
    try:
        with _sock_diag():
            pass
    except _netlink.NoNetlinkError as error:
        if is_shortage(error):
            raise
        raise Skip(f"no netlink socket can be created here: {error}") from None


def by_token(token: int) -> tuple[tuple[int, int], mp.MPTCPInfo]:
    """The ports and the mptcp_info of the connection with that token (linux/inet_diag.h)."""
    by_family, req_protocol, info = 20, 3, 2
    request = struct.pack("=BBBxI40xII", socket.AF_INET, socket.IPPROTO_TCP, 1 << (info - 1), 0, token, 0)
    request += _netlink.attribute(req_protocol, struct.pack("=I", mp.IPPROTO_MPTCP))
    with _sock_diag() as netlink:
        answer = _netlink.call(netlink, by_family, request)
    (*_, local, remote) = _netlink.numbers(">4BHH", answer)
    return (local, remote), mp.MPTCPInfo(_netlink.attributes(answer[72:]).get(info, b""))


CASES = (fresh, listener, plain_tcp, fallen_back, plain_client, unread, look_up)
