# SPDX-License-Identifier: MIT
"""Test this kernel's MPTCP socket-option layer: every check of the kernel's own mptcp_sockopt.c
(tools/testing/selftests/net/mptcp, as of Linux 6.17), and those that it lacks.

A server process and a client process over loopback, and on the side sockets that are not connected,
plain, or fallen back, and connections of several subflows in a private network namespace, where one can
be made.
"""

from __future__ import annotations

import argparse
import errno
import functools
import random
import socket
import struct
import sys

import mptcp_sockopt as mp

from . import _cases, _ktap, _sandbox
from ._cases import End, eventually
from ._ktap import Skip, check

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    Case: TypeAlias = tuple[str, Callable[..., None]]
    Numbered: TypeAlias = list[tuple[int, Callable[..., None]]]

SECONDS = 15  # for everything; who has not answered then has failed
LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


# ---------------------------------------------------------------------- cases: sockets of other kinds


def fresh(family: int) -> None:
    """fresh MPTCP socket: answers, UNCONNECTED"""
    with mp.create_socket(family, fallback=False) as sock:
        info = mp.mptcp_info(sock)
        check(info.token == info.flags == 0, f"token {info.token}, flags {info.flags}")
        expect(sock, mp.Status.UNCONNECTED, is_mptcp=True)
        # Bound, or before 6.5, it has a first subflow, in state CLOSE.
        check(not any(path.live for path in mp.snapshot(sock).subflows), "it has a live subflow")


def listener(family: int) -> None:
    """MPTCP listener: answers, LISTENING"""
    with mp.create_server((LOOPBACK[family], 0), family=family, fallback=False) as sock:
        check(mp.mptcp_info(sock).token == 0, "it has a token")
        expect(sock, mp.Status.LISTENING, is_mptcp=True)
        names = [path.local for path in mp.mptcp_subflow_addrs(sock)]
        check(names == [sock.getsockname()], f"it listens on {names}, not {sock.getsockname()}")


def plain_tcp(family: int) -> None:
    """plain TCP: TCP at both ends"""
    with socket.create_server((LOOPBACK[family], 0), family=family) as server:
        check(mp.status(server) is mp.Status.LISTENING, f"the listener is {mp.status(server)}")
        with socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0] as accepted:
            for sock in (client, accepted):
                expect_plain(sock, mp.Status.TCP)


def fallen_back(family: int) -> None:
    """MPTCP to a TCP listener: FALLBACK at the client, TCP at the server"""
    with (
        socket.create_server((LOOPBACK[family], 0), family=family) as server,
        mp.create_connection(server.getsockname()[:2], timeout=5, fallback=False) as client,
        server.accept()[0] as accepted,
    ):
        expect_plain(client, mp.Status.FALLBACK)
        expect_plain(accepted, mp.Status.TCP)


def plain_client(family: int) -> None:
    """TCP to an MPTCP listener: TCP at both ends"""
    with (
        mp.create_server((LOOPBACK[family], 0), family=family, fallback=False) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
        server.accept()[0] as accepted,
    ):
        expect_plain(client, mp.Status.TCP)
        expect_plain(accepted, mp.Status.TCP)


def expect(sock: socket.socket, status: mp.Status, *, is_mptcp: bool) -> None:
    check(mp.status(sock) is status, f"its status is {mp.status(sock).name}, not {status.name}")
    check(mp.is_mptcp(sock) is is_mptcp, f"is_mptcp() says {not is_mptcp}")
    check(mp.snapshot(sock).status is status, f"its snapshot is {mp.snapshot(sock).status.name}")


def expect_plain(sock: socket.socket, status: mp.Status) -> None:
    expect(sock, status, is_mptcp=False)
    for read in (mp.mptcp_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs, mp.mptcp_full_info):
        try:
            read(sock)
        except mp.NotMPTCPError as error:
            refusals = (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
            check(error.errno in refusals, f"{read.__name__}() raises {error!r}")
        else:
            check(False, f"{read.__name__}() answered")
    (path,) = mp.snapshot(sock).subflows
    names = (sock.getsockname(), sock.getpeername())
    check((path.local, path.remote) == names, f"its snapshot has {path.local} and {path.remote}, not {names}")


# ------------------------------------------------------------- cases: several subflows, in a namespace


def several_subflows(family: int) -> None:
    """4 subflows, all listed and live"""
    with _Paths(family) as paths:
        shot = mp.snapshot(paths.client)
        check(
            len(shot.subflows) == shot.live_count == 4, f"{len(shot.subflows)} listed, {shot.live_count} live"
        )
        hosts = {path.local[0] for path in shot.subflows if path.local}
        check(hosts == {paths.initial, *paths.others}, f"they start from {sorted(hosts)}")
        ids = [path.id for path in shot.subflows]
        check(None in ids or len(set(ids)) == 4, f"their ids are {ids}")
        check(eventually(lambda: mp.snapshot(paths.accepted).live_count == 4), "the server does not see 4")


def initial_removed(family: int) -> None:
    """4 subflows less the initial one, 3 live"""
    with _Paths(family) as paths:
        _sandbox.delete_initial_address(paths.initial)
        check(
            eventually(lambda: mp.snapshot(paths.client).live_count == 3),
            f"{mp.snapshot(paths.client).live_count} are live, not 3",
        )
        shot = mp.snapshot(paths.client)
        dead = [path.local[0] for path in shot.subflows if path.local and not path.live]
        check(dead in ([paths.initial], []), f"those that are not live are {dead}, not {paths.initial}")
        total = shot.info.subflows_total if shot.info else None
        check(total in (3, None), f"subflows_total is {total}, not 3")
        check(shot.status is mp.Status.MPTCP, f"its status is {shot.status.name}")


class _Paths:
    """A connection of four subflows, from four addresses of this private namespace."""

    def __init__(self, family: int) -> None:
        prefix = "127.0.9." if family == socket.AF_INET else "fd00:9::"
        self.initial, *self.others = [f"{prefix}{n}" for n in range(1, 5)]
        self._server = mp.create_server((LOOPBACK[family], 0), family=family, fallback=False)
        port = self._server.getsockname()[1]
        self.client = mp.create_connection(
            (LOOPBACK[family], port), timeout=5, source_address=(self.initial, 0), fallback=False
        )
        self.accepted, _ = self._server.accept()

    def __enter__(self) -> _Paths:
        # The path manager starts when the connection is fully established: data went both ways.
        for one, other in ((self.client, self.accepted), (self.accepted, self.client)):
            one.sendall(b"x")
            other.recv(1)
        check(
            eventually(lambda: mp.mptcp_info(self.client).subflows == 3),
            f"{mp.mptcp_info(self.client).subflows} additional subflows came, not 3",
        )
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.client, self.accepted, self._server):
            sock.close()


def enter_sandbox(family: int) -> None:
    """A private namespace whose path manager adds three subflows to every connection."""
    try:
        _sandbox.enter_private_network()
    except OSError as error:
        raise Skip(f"no private network namespace can be made here: {error}") from None
    _sandbox.set_limits(8, 8)
    for last in range(1, 5):
        if family == socket.AF_INET6:
            _sandbox.add_address(f"fd00:9::{last}")
        if last > 1:
            _sandbox.add_endpoint(f"127.0.9.{last}" if family == socket.AF_INET else f"fd00:9::{last}")


# -------------------------------------------------------------------------------------------- the plan


def named(prefix: str, functions: Iterable[Callable[..., None]]) -> list[Case]:
    return [(prefix + (function.__doc__ or "").splitlines()[0], function) for function in functions]


ONE_END = named("", (_cases.info, _cases.tcpinfo, _cases.addrs, _cases.family_only))
for _option, _name in (
    (mp.MPTCP_TCPINFO, "MPTCP_TCPINFO: "),
    (mp.MPTCP_SUBFLOW_ADDRS, "MPTCP_SUBFLOW_ADDRS: "),
):
    ONE_END += [(title, functools.partial(f, option=_option)) for title, f in named(_name, _cases.BOGUS)]
TOS = named("", (_cases.tos_round_trip, _cases.tos_no_length, _cases.tos_negative_length))
WITH_DATA = named("", (_cases.counters, _cases.full_info, _cases.full_info_bogus))
OTHERS = named("", (fresh, listener, plain_tcp, fallen_back, plain_client))
SANDBOX = named("", (several_subflows, initial_removed))


class Plan:
    """Names and numbers of all cases, in the order of the output. Before and after is the payload."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.client_before = self._number("client, before: ", TOS + ONE_END)
        self.client_after = self._number("client, after: ", ONE_END + WITH_DATA)
        self.server_before = self._number("server, before: ", ONE_END)
        self.server_after = self._number("server, after: ", ONE_END + WITH_DATA)
        self.others = self._number("", OTHERS)
        self.sandbox = self._number("private namespace: ", SANDBOX)

    def _number(self, prefix: str, cases: list[Case]) -> Numbered:
        start = len(self.names)
        self.names += [prefix + title for title, _ in cases]
        return [(start + n, function) for n, (_, function) in enumerate(cases)]


# ------------------------------------------------------------------------------------------ the scripts


def run_cases(settle: _ktap.Settle, cases: Numbered, subject: Any) -> None:
    for number, function in cases:
        settle.case(number, functools.partial(function, subject))


def client_script(
    settle: _ktap.Settle, plan: Plan, server: socket.socket, word: socket.socket, other: socket.socket
) -> None:
    other.close()  # so that the end of a process is the end of its word
    payload = bytes(random.choices(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=random.randrange(128, 4096)))
    with mp.create_connection(server.getsockname()[:2], timeout=SECONDS, fallback=False) as sock:
        server.close()
        end = End(sock)
        run_cases(settle, plan.client_before, end)
        hear(word, b"xmit")  # the server has run its cases without data
        word.sendall(struct.pack("=I", len(payload)))
        sock.sendall(payload)
        end.sent = len(payload)
        echo = receive(sock, len(payload))
        end.received = len(echo)
        check(echo == payload, "the echo is not what was sent")
        run_cases(settle, plan.client_after, end)


def server_script(
    settle: _ktap.Settle, plan: Plan, server: socket.socket, word: socket.socket, other: socket.socket
) -> None:
    other.close()
    server.settimeout(SECONDS)
    sock, _ = server.accept()
    with sock:
        sock.settimeout(SECONDS)
        end = End(sock)
        run_cases(settle, plan.server_before, end)
        word.sendall(b"xmit")
        (size,) = struct.unpack("=I", receive(word, 4))
        sock.sendall(receive(sock, size))
        end.sent = end.received = size
        check(sock.recv(1) == b"", "more came than was announced")
        end.fin = 1
        run_cases(settle, plan.server_after, end)


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        check(more, f"the stream ended after {len(data)} of {size} bytes")
        data += more
    return data


def hear(word: socket.socket, expected: bytes) -> None:
    found = receive(word, len(expected))
    check(found == expected, f"the other end said {found!r}")


def others_script(settle: _ktap.Settle, plan: Plan, family: int, words: Sequence[socket.socket]) -> None:
    for word in words:
        word.close()
    run_cases(settle, plan.others, family)


def sandbox_script(settle: _ktap.Settle, plan: Plan, family: int, words: Sequence[socket.socket]) -> None:
    for word in words:
        word.close()
    try:
        enter_sandbox(family)
    except Skip as reason:
        for number, _ in plan.sandbox:
            settle.result(number, "skip", str(reason))
        return
    run_cases(settle, plan.sandbox, family)


# --------------------------------------------------------------------------------------------- the door


def why_not(family: int) -> str | None:
    """Why nothing can be tested here, in the caller's own namespace; None if it can."""
    support = mp.is_supported()
    if not support:
        return support.value
    host = LOOPBACK[family]
    try:
        with socket.create_server((host, 0), family=family) as server:
            socket.create_connection(server.getsockname()[:2], timeout=5).close()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
            raise  # a shortage says nothing of the network
        return f"not even plain TCP works over {host}: {error}"
    try:
        with mp.create_socket(family, fallback=False) as sock:
            mp.mptcp_info(sock)
    except mp.UnsupportedOptionError:
        return "this kernel has no SOL_MPTCP (before Linux 5.16, or user-mode emulation)"
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        return f"this kernel makes no MPTCP sockets of this family: {error}"
    return None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mptcp_sockopt.selftest",
        description=f"{__doc__}".replace("\n\n", "\n"),
        epilog="Prints TAP 13 as the kernel's self tests do. Exit status: 0 pass, 1 fail, 2 usage, 4 skip "
        '(nothing can be tested here; the plan says why), 3 no verdict ("Bail out!" says what the machine '
        "ran out of).",
    )
    parser.add_argument("-6", dest="ipv6", action="store_true", help="over ::1 instead of 127.0.0.1")
    parser.add_argument(
        "--strict", action="store_true", help="a case that cannot run is a failure, not a skip"
    )
    parser.add_argument("--list", action="store_true", help="name the cases, and run none")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    family = socket.AF_INET6 if options.ipv6 else socket.AF_INET
    plan = Plan()
    if options.list:
        print(*plan.names, sep="\n")
        return _ktap.PASS
    reason = why_not(family)
    if reason:
        return _ktap.skip_all(reason, strict=options.strict)
    with mp.create_server((LOOPBACK[family], 0), family=family, fallback=False) as server:
        words = socket.socketpair()
        with words[0], words[1]:
            for word in words:
                word.settimeout(SECONDS)
            one, other = words
            scripts: dict[str, Callable[[_ktap.Settle], None]] = {
                "client": lambda settle: client_script(settle, plan, server, one, other),
                "server": lambda settle: server_script(settle, plan, server, other, one),
                "others": lambda settle: others_script(settle, plan, family, words),
                "private namespace": lambda settle: sandbox_script(settle, plan, family, words),
            }
            return _ktap.run(plan.names, scripts, strict=options.strict, seconds=SECONDS)


if __name__ == "__main__":
    sys.exit(_ktap.guard(main))
