# SPDX-License-Identifier: MIT
"""The self test: its plan, its processes, its command line.

A server process and a client process connect over loopback. A third process tests unconnected, plain TCP and
fallen-back sockets, and queue sizes. A fourth tests connections with several subflows in a private network
namespace, if one can be created. docs/selftest.md lists the kernel's own checks.
"""

from __future__ import annotations

import argparse
import contextlib
import encodings.idna  # noqa: F401  # getaddrinfo() would import it later, perhaps without a free descriptor
import functools
import random
import socket
import sys

import mptcp_sockopt as mp

from .._version import KERNEL
from . import _cases, _inq_cases, _ktap, _loopback, _path_cases, _socket_cases
from ._cases import LOOPBACK, End
from ._ktap import Skip, check

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    Case: TypeAlias = tuple[str, Callable[..., None]]
    Numbered: TypeAlias = list[tuple[int, Callable[..., None]]]

SECONDS = 15  # of running time for all cases of a family: the only time limit here
WORDS: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


# -------------------------------------------------------------------------------------------- the plan


def titled(prefix: str, functions: Iterable[Callable[..., None]]) -> list[Case]:
    return [(f"{prefix}{function.__doc__}", function) for function in functions]


ONE_END = titled("", (_cases.info, _cases.info_length, _cases.tcpinfo, _cases.addrs, _cases.family_only))
for _option, _name in (
    (mp.MPTCP_TCPINFO, "MPTCP_TCPINFO: "),
    (mp.MPTCP_SUBFLOW_ADDRS, "MPTCP_SUBFLOW_ADDRS: "),
):
    ONE_END += [(title, functools.partial(f, option=_option)) for title, f in titled(_name, _cases.BOGUS)]
TOS = titled("", (_cases.tos_round_trip, _cases.tos_no_length, _cases.tos_negative_length))
WITH_DATA = titled("", (_cases.counters, _cases.full_info, _cases.full_info_length, _cases.full_info_bogus))
OTHERS = titled("", _socket_cases.CASES)
for _kind in _inq_cases.KINDS:
    OTHERS += [
        (title, functools.partial(f, kind=_kind)) for title, f in titled(f"{_kind}: ", _inq_cases.CASES)
    ]
SANDBOX = titled("private namespace: ", _path_cases.CASES)


class Plan:
    """Names and numbers of a family's cases, in output order; "before" and "after" refer to the payload."""

    def __init__(self, prefix: str = "", start: int = 0) -> None:
        self.names: list[str] = []
        self._prefix, self._start = prefix, start
        self.client_before = self._number("client, before: ", TOS + ONE_END)
        self.client_after = self._number("client, after: ", ONE_END + WITH_DATA)
        self.server_before = self._number("server, before: ", ONE_END)
        self.server_after = self._number("server, after: ", ONE_END + WITH_DATA)
        self.others = self._number("", OTHERS)
        self.sandbox = self._number("", SANDBOX)

    def _number(self, where: str, cases: list[Case]) -> Numbered:
        first = self._start + len(self.names)
        self.names += [self._prefix + where + title for title, _ in cases]
        return [(first + n, function) for n, (_, function) in enumerate(cases)]

    def skip(self, reason: str, settle: _ktap.Settle) -> None:
        for number in range(self._start, self._start + len(self.names)):
            settle.result(number, "skip", reason)


# ------------------------------------------------------------------------------------------ the scripts


def run_cases(settle: _ktap.Settle, cases: Numbered, subject: Any) -> None:
    for number, function in cases:
        settle.case(number, functools.partial(function, subject))


def client_script(settle: _ktap.Settle, plan: Plan, server: socket.socket, word: socket.socket) -> None:
    with mp.create_connection(server.getsockname()[:2], fallback=False) as sock:
        size = _cases.size_within(_cases.room(sock), 128, 4096)
        payload = bytes(random.choices(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=size))
        server.close()
        end = End(sock)
        run_cases(settle, plan.client_before, end)
        hear(word, b"xmit")  # the server has run its cases before any data
        word.sendall(len(payload).to_bytes(4, "big"))
        sock.sendall(payload)
        end.sent = len(payload)
        echo = receive(sock, len(payload))
        end.received = len(echo)
        check(echo == payload, "the echo differs from what was sent")
        run_cases(settle, plan.client_after, end)


def server_script(settle: _ktap.Settle, plan: Plan, server: socket.socket, word: socket.socket) -> None:
    sock, _ = server.accept()
    with sock:
        end = End(sock)
        run_cases(settle, plan.server_before, end)
        word.sendall(b"xmit")
        size = int.from_bytes(receive(word, 4), "big")
        sock.sendall(receive(sock, size))
        end.sent = end.received = size
        check(sock.recv(1) == b"", "received more than was announced")
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
    check(found == expected, f"the other process said {found!r}")


def sandbox_script(settle: _ktap.Settle, plan: Plan, family: int) -> None:
    try:
        _path_cases.enter_sandbox(family)
    except Skip as reason:
        for number, _ in plan.sandbox:
            settle.result(number, "skip", str(reason))
        return
    run_cases(settle, plan.sandbox, family)


# --------------------------------------------------------------------------------------------------- entry


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mptcp-sockopt selftest",
        description=f"Test this kernel's MPTCP socket options with every check of the kernel's own "
        f"mptcp_sockopt.c, mptcp_inq.c and lookup by token (tools/testing/selftests/net/mptcp, as of "
        f"Linux {KERNEL}), and with further cases.",
        epilog="Prints TAP 13, like the kernel's self tests. Exit status: 0 pass, 1 fail, 2 usage, 4 skip "
        '(nothing can be tested here; the plan says why), 3 no result ("Bail out!" says what the machine '
        "ran out of).",
    )
    for flag, family, words in (
        ("-4", socket.AF_INET, "test over 127.0.0.1 (default)"),
        ("-6", socket.AF_INET6, "test over ::1; with -4, over both"),
    ):
        parser.add_argument(flag, dest="families", action="append_const", const=family, help=words)
    parser.add_argument(
        "--strict", action="store_true", help="a case that cannot run counts as a failure, not a skip"
    )
    parser.add_argument(
        "--exit-zero-on-skip", action="store_true", help="exit status 0 instead of 4, for prove(1)"
    )
    parser.add_argument("--list", action="store_true", help="list the cases and exit")
    parser.add_argument(
        "--version",
        action="version",
        version=f"mptcp-sockopt {mp.__version__}, self test as of Linux {KERNEL}",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the self test; returns its exit code, no matter how it ends."""
    return _ktap.guard(lambda: run(argv))


def run(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    families = sorted(set(options.families or [socket.AF_INET]))
    plans: dict[int, Plan] = {}
    names: list[str] = []
    for family in families:
        plans[family] = Plan(f"{WORDS[family]}, " if len(families) > 1 else "", len(names))
        names += plans[family].names
    if options.list:
        print(*names, sep="\n")
        return _ktap.PASS
    reasons = {family: _loopback.why_not(family) for family in families}
    if all(reasons.values()):
        code = _ktap.PASS if options.exit_zero_on_skip else _ktap.SKIP
        return _ktap.skip_all(str(reasons[families[0]]), strict=options.strict, code=code)
    scripts: dict[str, _ktap.Script] = {}
    with contextlib.ExitStack() as stack:
        for family, plan in plans.items():
            scripts |= scripts_of(plan, family, reasons[family], stack)
        return _ktap.run(names, scripts, strict=options.strict, seconds=SECONDS * len(families))


def scripts_of(
    plan: Plan, family: int, reason: str | None, stack: contextlib.ExitStack
) -> dict[str, _ktap.Script]:
    """The scripts of a family, by name; the stack closes what they share."""
    if reason:
        return {f"{WORDS[family]}": lambda settle: plan.skip(reason, settle)}
    server = mp.create_server((LOOPBACK[family], 0), family=family, fallback=False)
    stack.enter_context(server)
    one, other = map(stack.enter_context, socket.socketpair())
    return {
        f"{WORDS[family]} client": lambda settle: client_script(settle, plan, server, one),
        f"{WORDS[family]} server": lambda settle: server_script(settle, plan, server, other),
        f"{WORDS[family]} others": lambda settle: run_cases(settle, plan.others, family),
        f"{WORDS[family]} private namespace": lambda settle: sandbox_script(settle, plan, family),
    }


if __name__ == "__main__":
    sys.exit(main())
