# SPDX-License-Identifier: MIT
"""who --bind against the kernel: random scenarios, and each kind of answer in words."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import io
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes
from reuseport import _net
from reuseport.__main__ import main
from reuseport.who import holders
from reuseport.who.rule import State

from ..support import Missing, in_private_network, rounds, until
from ..test_processes import only
from . import scenarios
from .test_who import PORT, V4, V6, another_process, become_nobody, group, needs_root

Reuse = _net.Reuse


def play(first: int, count: int, monkeypatch: pytest.MonkeyPatch) -> list[scenarios.Outcome]:
    def look() -> list[scenarios.Outcome]:
        only(monkeypatch, os.getpid())
        scenarios.prepare()
        uids, speaks_mptcp = scenarios.has_another_user(), bool(mp.is_supported())
        with scenarios.helper():
            return [
                scenarios.play(seed, 2000 + number, uids, speaks_mptcp)
                for number, seed in enumerate(range(first, first + count))
            ]

    return in_private_network(look, within=600)


def judge(found: list[scenarios.Outcome]) -> None:
    wrong = [outcome.wrong for outcome in found if outcome.wrong]
    assert not wrong, f"{len(wrong)} of {len(found)}:\n" + "\n\n".join(wrong[:3])
    said = collections.Counter(outcome.answer.binds for outcome in found)
    assert said[None] <= 0.2 * len(found)
    assert min(said[True], said[False]) >= 0.1 * len(found)


def test_the_rule_is_the_kernel_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 random sets of sockets: what it says, bind(), listen() and connections say."""
    judge(play(0, 150, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("first", [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000])
def test_the_rule_is_the_kernel_s_a_thousand_times(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of other seeds."""
    judge(play(first, rounds(1000), monkeypatch))


def who(*arguments: str) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = main(["who", *arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
    return code, " ".join(out.getvalue().split())


def bind(*arguments: str) -> tuple[int, str]:
    return who("--bind", *arguments)


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    yield


@contextlib.contextmanager
def listening(*options: Any, **named: Any) -> Iterator[None]:
    with _net.listen(*options, **named):
        yield


@contextlib.contextmanager
def time_wait(reuse: Reuse = Reuse.ADDR) -> Iterator[None]:
    """A connection that the server closed first, and the server has ended."""
    with (
        _net.listen(("127.0.0.1", PORT), reuse) as server,
        socket.create_connection(_net.name(server), 5) as client,
        server.accept()[0] as accepted,
    ):
        accepted.close()
        assert client.recv(1) == b""
    until(lambda: [x.state for x in processes.tcp_sockets(PORT)] == [mp.TCPState.TIME_WAIT], "TIME_WAIT")
    yield


@contextlib.contextmanager
def bound_and_time_wait() -> Iterator[None]:
    with time_wait(), _net.bind(("127.0.0.1", PORT), Reuse.ADDR):
        yield


@pytest.mark.parametrize(
    ("there", "arguments", "code", "words"),
    [
        (nothing, ["127.0.0.1:5000"], 0, "PASS: .* yes, and it gets all connections"),
        (nothing, ["192.0.2.1:5000"], 1, "EADDRNOTAVAIL: .* FAIL: .* no, EADDRNOTAVAIL"),
        (
            lambda: listening(("127.0.0.1", PORT)),
            ["*:5000"],
            1,
            r"in the way: 127.0.0.1:5000 listening \(no REUSEADDR or REUSEPORT, uid \d+\): pid \d+ \(\S+\) "
            "would work: bind with IPV6_V6ONLY "
            "would work: SO_REUSEPORT on it and on all in the way, set before they bind "
            r"would work: end pid \d+ \(\S+\) WHO: FAIL: bind TCP \[::\]:5000: no, EADDRINUSE",
        ),
        (
            time_wait,
            ["127.0.0.1:5000"],
            1,
            r"in the way: 1 in TIME_WAIT, for \d+ s more may work: bind with SO_REUSEADDR or SO_REUSEPORT, "
            r"if they had it, too would work: wait \d+ s WHO: FAIL: .* no, EADDRINUSE",
        ),
        (
            time_wait,
            ["127.0.0.1:5000", "--reuseaddr"],
            3,
            r"in doubt: 1 in TIME_WAIT, for \d+ s more: they must have had SO_REUSEADDR, too, which cannot "
            r"be read would work: wait \d+ s WHO: NOT PROVEN: bind TCP 127.0.0.1:5000: cannot tell",
        ),
        (
            lambda: listening(("0.0.0.0", PORT), Reuse.PORT),
            ["0.0.0.0:5000", "--reuseport", "--mptcp"],
            0,
            r"to all IPv4 addresses: shared with 0.0.0.0:5000 \(pid \d+ \(\S+\)\) "
            "note: the group would be mixed: .* PASS: .* and it gets a share, 1 of 2",
        ),
        (
            lambda: listening(("0.0.0.0", PORT), Reuse.PORT),
            ["[::]:5000", "--reuseport", "--no-v6only"],
            0,
            r"to all IPv4 addresses: all go to 0.0.0.0:5000 \(pid .* PASS: .* it gets some connections",
        ),
        (
            lambda: listening(("::", PORT), Reuse.PORT, family=V6, v6only=False),
            ["[::]:5000", "--reuseport", "--v6only"],
            1,
            r"FAIL: .* V6ONLY: yes, but it gets no connection",
        ),
        (
            lambda: listening(("0.0.0.0", PORT), Reuse.PORT),
            ["127.0.0.1:5000", "--reuseport"],
            0,
            "note: it would take connections from 0.0.0.0:5000 WHO: PASS: .* and it gets all connections",
        ),
        (
            lambda: listening(("127.0.0.1", PORT), Reuse.PORT),
            ["127.0.0.1:5000", "--reuseport", "--uid", "4242"],
            1,
            r"SO_REUSEPORT shares a port within one uid only: in the way is \d+ .* FAIL: .* no, EADDRINUSE",
        ),
        (
            bound_and_time_wait,
            ["127.0.0.1:5000"],
            1,
            r"may work: bind with SO_REUSEADDR, if what is not seen here has it, too "
            r"would work: end pid \d+ \(\S+\), then wait \d+ s WHO",
        ),
        (
            lambda: listening(("::1", PORT), Reuse.PORT, family=V6),
            ["[::1]:5000", "--reuseport"],
            0,
            r"to ::1: shared with \[::1\]:5000 .* PASS: .* it gets a share, 1 of 2",
        ),
        (nothing, ["127.0.0.1:80", "--uid", "4242"], 3, "EACCES: port 80 needs CAP_NET_BIND_SERVICE"),
        (nothing, ["127.0.0.1:80", "--uid", "0"], 0, "PASS: .* yes, and it gets all connections"),
    ],
)
def test_in_words(
    mptcp: None,
    there: Callable[[], contextlib.AbstractContextManager[None]],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    """Would it bind, would it get connections, who is in the way, and what would help."""

    def look() -> tuple[int, str]:
        with there():
            return bind(*arguments)

    found, out = in_private_network(look)
    assert re.search(words, out), out
    assert found == code
    assert out.count("WHO: ") == 1


def test_json_has_the_same_keys_whatever_the_answer() -> None:
    """Yes, no and not known."""

    def look() -> list[tuple[int, Any]]:
        found = [bind("127.0.0.1:5000", "--json")]
        with time_wait():
            found += [bind("127.0.0.1:5000", *flags, "--json") for flags in ([], ["--reuseaddr"])]
        return [(code, json.loads(text)) for code, text in found]

    yes, no, unknown = in_private_network(look)
    assert [code for code, _ in (yes, no, unknown)] == [0, 1, 3]
    assert [data["bind"]["binds"] for _, data in (yes, no, unknown)] == [True, False, None]
    keys = {frozenset(data) for _, data in (yes, no, unknown)}
    assert keys == {frozenset({"schema", "command", "verdict", "bind"})}
    assert len({frozenset(data["bind"]) for _, data in (yes, no, unknown)}) == 1
    assert yes[1]["bind"]["gets"] == "all"
    (closed,) = no[1]["bind"]["in_the_way"]
    assert (closed["kind"], closed["local"], 0 < closed["seconds"] <= 60) == (
        "closed",
        ["127.0.0.1", PORT],
        True,
    )
    assert unknown[1]["bind"]["in_doubt"] != []


@needs_root
def test_what_another_user_s_sockets_have_set_is_not_guessed() -> None:
    """A listener of root, to nobody: without SO_REUSEPORT it is in the way, with it nobody can tell."""

    def look() -> list[tuple[int, str]]:
        with another_process(group):
            become_nobody()
            return [bind("127.0.0.1:5000", *flags, "--uid", "0") for flags in ([], ["--reuseport"])]

    (no, in_the_way), (unknown, in_doubt) = in_private_network(look)
    assert no == 1
    assert "in the way: 127.0.0.1:5000 listening, its options are not seen: owner not seen" in in_the_way
    assert unknown == 3
    assert "in doubt: 127.0.0.1:5000 listening, its options are not seen: owner not seen" in in_doubt


def test_on_a_kernel_that_does_not_list_bound_sockets_nothing_is_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Linux 6.8: a "no" holds, a "yes" does not."""
    monkeypatch.setattr(holders, "bound_only_are_told", lambda: False)

    def look() -> list[tuple[int, str]]:
        found = [bind("127.0.0.1:5000")]
        with listening(("127.0.0.1", PORT)):
            return [*found, bind("127.0.0.1:5000")]

    (unknown, words), (no, _) = in_private_network(look)
    assert (unknown, no) == (3, 1)
    assert "before Linux 6.8, sockets that are only bound are not listed: one may be in the way" in words


def test_nothing_is_bound() -> None:
    """Neither to the port nor to another one: it only asks."""

    def look() -> tuple[int, int]:
        bind("127.0.0.1:5000")
        return len(processes.tcp_sockets(PORT)), len(processes.tcp_sockets(0))

    assert in_private_network(look) == (0, 0)


def test_an_interface_by_its_number() -> None:
    """As getaddrinfo(3) takes it."""

    def look() -> tuple[tuple[int, str], tuple[int, str]]:
        return bind("[fe80::1%1]:5000"), bind("[fe80::1%lo]:5000")

    by_number, by_name = in_private_network(look)
    assert by_number == by_name
    assert "[fe80::1]:5000%lo" in by_name[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bind", "127.0.0.1"], "'127.0.0.1' is not ADDRESS:PORT"),
        (["--bind", "::1:80"], r"'::1:80' is not ADDRESS:PORT (IPv6 in brackets: [::1]:80)"),
        (["--bind", "localhost:80"], "'localhost' is no IPv4 or IPv6 address"),
        (["--bind", "127.0.0.1%lo:80"], "an interface belongs to IPv6 only"),
        (["--bind", "[::1%]:80"], "an interface belongs to IPv6 only"),
        (["--bind", "127.0.0.1:0"], "'0' is not a port number (1 to 65535)"),
        (["--bind", "*:80", "80"], "not allowed with argument"),
        ([], "one of the arguments PORT --bind is required"),
        (["80", "--reuseport"], "--reuseport needs --bind"),
    ],
)
def test_usage(arguments: list[str], words: str) -> None:
    """Exit status 2, and what was wrong in words."""
    code, out = who(*arguments)
    assert code == 2
    assert words in out


def test_what_is_left_of_a_closed_connection_has_no_user() -> None:
    """In FIN_WAIT2, too: for bind() it is as in TIME_WAIT."""

    def look() -> tuple[Any, str]:
        with group() as server, socket.create_connection(_net.name(server), 5) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
            server.close()
            until(
                lambda: [x.state for x in processes.tcp_sockets(PORT)] == [mp.TCPState.FIN_WAIT2], "FIN_WAIT2"
            )
            (left,) = holders.look(PORT)
            return left.facts, who(str(PORT))[1]

    facts, out = in_private_network(look)
    assert (facts.state, facts.uid) == (State.STUB, None)
    assert "1 in FIN_WAIT2, for " in out


def test_a_user_who_is_not_mapped_may_be_anybody() -> None:
    """In a user namespace that does not know the owner's uid, the kernel tells another one."""

    def look() -> list[Any]:
        with group():
            known = [held.facts.uid for held in holders.look(PORT)]
            clone_newuser = 0x10000000
            if ctypes.CDLL(None, use_errno=True).unshare(clone_newuser):
                raise Missing(f"a user namespace: {os.strerror(ctypes.get_errno())}")
            holders.unmapped.cache_clear()
            return [*known, *(held.facts.uid for held in holders.look(PORT))]

    known, unknown = in_private_network(look)
    assert (known, unknown) == (0 if os.getuid() else os.getuid(), None)


def test_a_second_path_of_an_mptcp_connection_has_no_options(mptcp: None) -> None:
    """What the connection says of SO_REUSEADDR is true of its first path; the rest is not known."""

    def look() -> list[Any]:
        with group(mptcp=True) as server, _net.open_socket(V4, mptcp=True) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.connect(_net.name(server))
            port = client.getsockname()[1]
            (alone,) = holders.look(port)
            found = [alone.options and alone.options.reuseaddr]
            (second,) = holders.without_the_kernel_s_own_paths([alone], PORT)
            return [*found, second.options, second.unseen]

    flag, options, unseen = in_private_network(look)
    assert (flag, options) == (True, None)
    assert unseen == "options not seen: it may be a path that the kernel opened"
