# SPDX-License-Identifier: MIT
"""who: every flag planted with real sockets, and none raised on healthy ones."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mptcp_sockopt import processes
from reuseport import _net
from reuseport.__main__ import main
from reuseport.who import command, listeners, words

from ..support import DEADLINE, Missing, at_work, in_private_network, until

V4, V6 = socket.AF_INET, socket.AF_INET6
PORT = 5000
Reuse = _net.Reuse


def who(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser, "who")
    options = command.Options(command="who", **vars(parser.parse_args(arguments)))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = command.run(options)
    return code, out.getvalue()


def group(host: str = "127.0.0.1", family: int = V4, v6only: bool = True, **options: bool) -> socket.socket:
    return _net.listen((host, PORT), Reuse.PORT, family=family, v6only=v6only, **options)


def flags(window: float = 0.05) -> list[tuple[str, list[str]]]:
    return [(listeners.address(row.listener), sorted(row.flags)) for row in listeners.look(PORT, window)]


@contextlib.contextmanager
def clients(count: int, host: str = "127.0.0.1") -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((host, PORT), DEADLINE))
        yield


@contextlib.contextmanager
def another_process(listen: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[int]:
    """Another process, that has what listen() made; its pid."""
    ready, over = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with listen():
            os.close(over[1])
            os.write(ready[1], b"x")
            os.read(over[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        yield child
    finally:
        os.close(over[1])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")


def become_nobody() -> None:
    os.setresuid(65534, 65534, 65534)


def waiting() -> int:
    return sum(listener.queue for listener in processes.listeners(PORT))


def reset(client: socket.socket) -> None:
    """Close it with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.contextmanager
def accepting(listener: socket.socket, pause: float = 0) -> Iterator[None]:
    """Accept in a thread, one connection after another."""
    over = threading.Event()
    listener.settimeout(0.02)

    def work() -> None:
        while not over.wait(pause) if pause else not over.is_set():
            with contextlib.suppress(TimeoutError):
                listener.accept()[0].close()

    with at_work(work):
        try:
            yield
        finally:
            over.set()


@contextlib.contextmanager
def calling(*, resets: bool = False) -> Iterator[None]:
    """Connect in a thread, again and again, about 500 times a second; keep, or reset, what nobody accepts."""
    over, kept = threading.Event(), []

    def work() -> None:
        while not over.wait(0.002):
            kept.append(socket.create_connection(("127.0.0.1", PORT), DEADLINE))
            if resets:
                reset(kept.pop())

    with at_work(work):
        try:
            yield
        finally:
            over.set()
    for sock in kept:
        sock.close()


def test_nobody_listens() -> None:
    """Said in the verdict; exit status 1."""
    code, out = in_private_network(lambda: who(str(PORT)))
    assert (code, out) == (1, "WHO: FAIL: TCP port 5000: nobody listens\n")


def test_options_and_owners() -> None:
    """Of every process that has the socket; exit status 0; at most 80 columns."""

    def look() -> tuple[int, str, Any, list[int]]:
        with _net.listen(("127.0.0.1", PORT), Reuse.ADDR | Reuse.PORT, incoming_cpu=1, backlog=9) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            inward, outward = os.pipe()
            child = os.fork()
            if child == 0:  # it holds the listener until the parent closes the pipe
                os.close(outward)
                os.read(inward, 1)
                os._exit(0)
            code, text = who(str(PORT))
            _, data = who(str(PORT), "--json")
            os.close(outward)
            os.waitpid(child, 0)
            return code, text, json.loads(data), [os.getuid(), os.getpid(), child, server.fileno()]

    code, text, data, (uid, parent, child, fd) = in_private_network(look)
    assert code == 0
    head, mine, other, options, verdict = text.splitlines()
    assert head.split() == "address proto queue uid pid command fd".split()
    assert mine.split()[:5] == ["127.0.0.1:5000", "tcp", "0/9", str(uid), str(parent)]
    assert (other.split()[0], other.split()[-1]) == (str(child), str(fd))
    assert options.split() == ["REUSEADDR=1", "REUSEPORT=1", "INCOMING_CPU=1", "DEFER_ACCEPT=1"]
    assert verdict == "WHO: PASS: TCP port 5000: 1 listening, nothing wrong"
    assert max(map(len, text.splitlines())) <= 80
    assert data["verdict"] == verdict
    (listener,) = data["listeners"]
    assert listener["options"] == {
        "reuseaddr": True,
        "reuseport": True,
        "incoming_cpu": 1,
        "defer_accept": 1,
        "mptcp": False,
    }
    assert [owner["pid"] for owner in listener["owners"]] == [parent, child]


def test_mixed_proto(mptcp: None) -> None:
    """TCP and MPTCP listeners at one address; not beside each other at two."""

    def look() -> None:
        with group(), group(), group(mptcp=True), group("127.0.0.2", mptcp=True):
            assert flags() == [
                ("127.0.0.1:5000", ["MIXED-PROTO"]),
                ("127.0.0.1:5000", ["MIXED-PROTO"]),
                ("127.0.0.1:5000", ["MIXED-PROTO"]),
                ("127.0.0.2:5000", []),
            ]
            assert "MIXED-PROTO: 2 of the 3 listeners at this address are plain TCP" in who(str(PORT))[1]

    in_private_network(look)


@pytest.mark.parametrize(
    ("under", "over", "destination"),
    [
        (("0.0.0.0", V4), ("127.0.0.1", V4), "127.0.0.1"),
        (("::", V6), ("0.0.0.0", V4), "127.0.0.1"),
        (("::", V6), ("127.0.0.1", V4), "127.0.0.1"),
        (("::", V6), ("::1", V6), "::1"),
        (("::", V6), ("::ffff:127.0.0.1", V6), "127.0.0.1"),
        (("::ffff:127.0.0.1", V6), ("127.0.0.1", V4), "127.0.0.1"),
        (("0.0.0.0", V4), ("::ffff:127.0.0.1", V6), "127.0.0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
@pytest.mark.parametrize("order", ["first", "last"])
def test_shadowed(under: tuple[str, int], over: tuple[str, int], destination: str, order: str) -> None:
    """The flag, its reason, and the kernel agree, whoever came first."""

    def look() -> None:
        pair = (under, over) if order == "first" else (over, under)
        with group(*pair[0], v6only=False), group(*pair[1], v6only=False):
            rows = {row.listener.host: row for row in listeners.look(PORT, 0.05)}
            assert rows[under[0]].flags == {"SHADOWED": f"by {listeners.address(rows[over[0]].listener)}"}
            assert rows[over[0]].flags == {}
            with clients(20, destination):
                until(lambda: waiting() == 20, "20 connections in a queue")
                queues = {listener.host: listener.queue for listener in processes.listeners(PORT)}
                assert queues == {under[0]: 0, over[0]: 20}

    in_private_network(look)


@pytest.mark.parametrize("is_mptcp", [False, True])
@pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])
def test_one_of_two_groups_of_one_address(mptcp: None, family: int, is_mptcp: bool) -> None:
    """Of one family they differ in IPV6_V6ONLY or SO_BINDTODEVICE: who gets all, their order tells."""

    def look() -> None:
        wild = _net.ANY[family]
        dual = group(wild, family, v6only=False, mptcp=is_mptcp)
        with dual, _net.open_socket(family, mptcp=False) as other:  # old kernels bind no MPTCP socket to lo
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == V4:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            else:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind((wild, PORT))
            other.listen()
            raised = ["MIXED-PROTO", "SHADOWED"] if is_mptcp else ["SHADOWED"]
            assert [found for _, found in flags()] == [raised, raised]
            code, out = who(str(PORT))
            words = " ".join(out.split())
            for name in (
                ("0.0.0.0:5000%lo", "0.0.0.0:5000")
                if family == V4
                else (
                    "[::]:5000 (V6ONLY=1)",
                    "[::]:5000 (V6ONLY=0)",
                )
            ):
                assert (
                    f"SHADOWED: by {name}, or the other way round: one of them gets all that both could"
                    in words
                )
            mixed = "MIXED-PROTO: 1 of the 2 listeners at this address are plain TCP"
            assert (code, words.count(mixed)) == (1, 2 * is_mptcp)

    in_private_network(look)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("0.0.0.0", V4), ("::", V6)),
        (("127.0.0.1", V4), ("127.0.0.1", V4)),
        (("127.0.0.1", V4), ("127.0.0.2", V4)),
        (("127.0.0.1", V4), ("::1", V6)),
        (("::1", V6), ("::1", V6)),
    ],
    ids=lambda value: value[0],
)
def test_not_shadowed(one: tuple[str, int], other: tuple[str, int]) -> None:
    """Members of a group, addresses that do not overlap, and IPV6_V6ONLY."""

    def look() -> None:
        with group(*one), group(*other):
            assert [raised for _, raised in flags()] == [[], []]

    in_private_network(look)


def test_full() -> None:
    """More connections wait than the backlog: the next SYN is dropped."""

    def look() -> None:
        with _net.listen(("127.0.0.1", PORT), backlog=1):
            with clients(1):
                assert flags() == [("127.0.0.1:5000", ["ZOMBIE"])]
            with clients(1):
                until(lambda: waiting() == 2, "a full queue")
                assert flags() == [("127.0.0.1:5000", ["FULL", "ZOMBIE"])]

    in_private_network(look)


def test_migrate_mptcp(mptcp: None) -> None:
    """tcp_migrate_req=1 is a flag on MPTCP listeners only."""

    def look() -> None:
        try:
            with open("/proc/sys/net/ipv4/tcp_migrate_req", "w") as file:
                file.write("1")
        except OSError as error:
            raise Missing(f"tcp_migrate_req: {error}") from None
        with group("127.0.0.1", mptcp=True), group("127.0.0.2"):
            assert flags() == [("127.0.0.1:5000", ["MIGRATE+MPTCP"]), ("127.0.0.2:5000", [])]

    in_private_network(look)


def test_healthy_groups_raise_nothing() -> None:
    """Ten looks at four members that accept, under load."""

    def look() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(accepting(stack.enter_context(group())))
            stack.enter_context(calling())
            for _ in range(10):
                assert [raised for _, raised in flags(0.1)] == [[]] * 4

    in_private_network(look)


def test_watch_is_bounded_and_remembers() -> None:
    """A flag that was up at any look counts; a table is printed when it changed."""

    def look() -> tuple[int, str, float]:
        begun = time.monotonic()
        with group("0.0.0.0"):
            over = group("127.0.0.1")
            timer = threading.Timer(0.6, over.close)
            timer.start()
            code, out = who(str(PORT), "--watch", "1.2")
            timer.join()
        return code, out, time.monotonic() - begun

    code, out, seconds = in_private_network(look)
    assert code == 1
    assert seconds >= 1.2
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("address", "0.", "127."))] == [
        "address",
        "0.0.0.0:5000",
        "127.0.0.1:5000",
        "address",
        "0.0.0.0:5000",
    ]
    assert out.splitlines()[-1] == "WHO: FAIL: TCP port 5000: SHADOWED"


def test_long_addresses_stand_alone() -> None:
    """80 columns all the same."""
    listener = processes.Listener(
        int(V6),
        "2001:db8:1111:2222:3333:4444:5555:6666",
        65535,
        65536,
        65535,
        4294967294,
        9,
        9,
        0,
        True,
        True,
    )
    row = listeners.Row(
        listener,
        [processes.Owner(4194304, 1023, "x" * 15, 9, 4194304)],
        None,
        flags={"SHADOWED": "by " + "y " * 99},
    )
    lines = list(words.table([row]))
    assert lines[1] == "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0"], "'0' is not a port number (1 to 65535)"),
        (["65536"], "'65536' is not a port number (1 to 65535)"),
        (["http"], "'http' is not a port number (1 to 65535)"),
        (["80", "--watch", "3601"], "'3601' is not a number from 0 to 3600"),
        (["80", "--watch", "nan"], "'nan' is not a number from 0 to 3600"),
        (["80", "--window", "soon"], "'soon' is not a number from 0 to 3600"),
    ],
)
def test_usage(arguments: list[str], words: str) -> None:
    """Exit status 2, and what was wrong in words."""
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()) as err:
        who(*arguments)
    assert ended.value.code == 2
    assert words in err.getvalue()


def test_numbers_that_are_none_are_refused_in_words() -> None:
    """By the other commands that have a parser of their own, too."""
    for arguments in (["audit", "--port", "x"], ["serve", "--gen", "x"], ["serve", "--port", "x"]):
        with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as err:
            main(arguments)
        assert re.search(r"'x' is no|x is not", err.getvalue())
        assert "invalid" not in err.getvalue()
