# SPDX-License-Identifier: MIT
"""mptcp-sockopt check: every cause by its class, no harm to others, and what cannot be told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason
from mptcp_sockopt.cli import _here, _peer

from ..boxes import Box, LoseAcksOfHandshakes, Segment
from ..causes import network, set_sysctl
from ..support import (
    full_listener,
    in_private_network,
    rounds,
)
from .commands import Outcome, attempt_of, fits, outcome

SYSCTLS = Path("/proc/sys/net/mptcp")
WAIT = ("--wait", "0.5")
#: By cause: exit code, result and class. Those that need data on a sound connection first are not made here.
FOUND: dict[str, tuple[int, str, FallbackReason | None]] = {
    "sound": (0, "mptcp", None),
    "tcp_listener": (1, "fallback", FallbackReason.NO_OPTION_IN_ANSWER),
    "syn_stripped": (1, "fallback", FallbackReason.NO_OPTION_IN_ANSWER),
    "synack_stripped": (1, "fallback", FallbackReason.NO_OPTION_IN_ANSWER),
    "syn_dropped": (1, "no_answer", FallbackReason.SYN_LOST_OR_CROSSED),
    "suspended": (1, "", FallbackReason.SUSPENDED),
    "client_stripped": (1, "unconfirmed", FallbackReason.FIRST_DATA),
    "server_stripped": (1, "fallback", FallbackReason.FIRST_DATA),
    "reset_before_data": (3, "reset_anyway", FallbackReason.RESET_BEFORE_DATA),
    "syn_refused": (3, "unreachable", None),
}
FAST = [cause for cause in FOUND if cause not in ("syn_dropped", "suspended")]  # tested below
SLOW = [(cause, socket.AF_INET6) for cause in FOUND] + [
    ("syn_dropped", socket.AF_INET),
    ("syn_dropped_unremembered", socket.AF_INET),
    ("synack_dropped", socket.AF_INET),
]
FOUND["syn_dropped_unremembered"] = FOUND["synack_dropped"] = FOUND["syn_dropped"]


def check(cause: str, *words: str, family: int = socket.AF_INET, box: Box | None = None) -> Outcome:
    """In a network in which connections fall back by this cause."""

    def look() -> Outcome:
        with network(cause, family, delay=0.005) as made:
            if box:
                made.paths.alter(0, box)
            with made.client:
                return outcome("check", *made.address, *words)

    return in_private_network(look)


def told(cause: str, family: int) -> None:
    code, result, reason = FOUND[cause]
    found = check(cause, *WAIT, "--json", family=family)
    attempts = found.json["peer"]["attempts"]
    assert (found.code, [attempt["result"] for attempt in attempts]) == (code, [result] * bool(result)), found
    assert found.json["fallback_reason"] == (reason and reason.value)
    assert {attempt["fallback_reason"] for attempt in attempts} <= {found.json["fallback_reason"]}
    assert found.json["verdict"] == ("yes", "no", "", "unknown")[code]


@pytest.mark.parametrize("cause", FAST)
def test_the_class_of_a_cause(cause: str, mptcp: None) -> None:
    """And the exit code."""
    told(cause, socket.AF_INET)


@pytest.mark.slow
@pytest.mark.parametrize(("cause", "family"), SLOW)
def test_the_class_of_a_cause_over_ipv6_and_of_slow_ones(cause: str, family: int, mptcp: None) -> None:
    """The same."""
    told(cause, family)


@pytest.mark.slow
@pytest.mark.parametrize("cause", [*FAST, "syn_dropped", "suspended"])
def test_the_class_of_a_cause_twenty_times(cause: str, mptcp: None) -> None:
    """The same each time."""
    for _ in range(rounds(20)):
        told(cause, socket.AF_INET)


@pytest.mark.parametrize("cause", ["sound", "tcp_listener", "server_stripped"])
def test_for_people(cause: str, mptcp: None) -> None:
    """The verdict comes first, then why, then what to do; at most 79 columns."""
    code, _, reason = FOUND[cause]
    found = check(cause, *WAIT)
    assert (found.code, found.err) == (code, "")
    lines = found.out.splitlines()
    assert (f"(reason: {reason and reason.value})" in found.out) is bool(reason)
    assert lines[0].startswith("MPTCP to 10.9.0.2 port ")
    assert lines[0].endswith(": no" if code else ": yes")
    assert lines[1].startswith("10.9.0.2: ")
    assert fits(found.out)
    assert ("What to do next: " in found.out) is bool(reason)
    if cause == "tcp_listener":
        text = " ".join(found.out.split())
        assert all(cause in text for cause in FallbackReason.NO_OPTION_IN_ANSWER.causes)
        assert "MPCapableFallbackSYNACK +1: " in text


@pytest.mark.parametrize(("lost", "code"), [(2, 0), (3, 1)])
def test_one_lost_packet_is_no_proof(lost: int, code: int, mptcp: None) -> None:
    """A "no" takes three connections that were not confirmed."""
    busy = Box(LoseAcksOfHandshakes(lost), to_server=True, syn=False)
    found = check("sound", *WAIT, "--json", box=busy)
    assert (found.code, attempt_of(found)["result"]) == (code, ["mptcp", "unconfirmed"][code])
    assert attempt_of(found)["counters"]["MPCapableSYNTX"] == 3


# ------------------------------------------------------------------------------------------------- no harm


def works_elsewhere() -> bool:
    """A connection over loopback is MPTCP: blackhole detection did not see anything."""
    with (
        mp.create_server(("127.0.0.1", 0), fallback=False) as server,
        mp.create_connection(server.getsockname(), timeout=5, fallback=False) as client,
    ):
        return mp.status(client) is mp.Status.MPTCP


def harmless(retransmissions: int) -> None:
    def look() -> None:
        with network("syn_dropped") as made, made.client:
            set_sysctl("syn_retrans_before_tcp_fallback", retransmissions)
            found = outcome("check", *made.address, "--json")
            assert attempt_of(found)["result"] == "no_answer"
            assert works_elsewhere()
            assert {"Blackhole", "MPCapableSYNTXDrop"} & attempt_of(found)["counters"].keys() == set()

    in_private_network(look)


def test_lost_syns_do_not_suspend_mptcp(mptcp: None) -> None:
    """Where a program's connect() does."""
    harmless(0)


@pytest.mark.slow
def test_lost_syns_do_not_suspend_mptcp_twenty_times(mptcp: None) -> None:
    """With the default of three SYNs."""
    for _ in range(rounds(20)):
        harmless(2)


def test_suspended_is_told_without_asking_the_peer(mptcp: None) -> None:
    """Exit 1, and how to end it; no SYN leaves."""

    def look() -> tuple[Outcome, Outcome, bool]:
        with network("suspended") as made, made.client:
            return outcome("check", *made.address), outcome("check", "--json"), _here.is_suspended()

    peer, alone, suspended = in_private_network(look)
    assert (peer.code, alone.code, suspended) == (1, 1, True)
    text = " ".join(peer.out.split())
    assert "MPTCP is suspended in this network namespace" in text
    assert "sysctl -w net.mptcp.blackhole_timeout=3600" in text
    assert FallbackReason.SUSPENDED.next_step in text
    assert (alone.json["host"]["suspended"], alone.json["verdict"]) == (True, "no")
    assert alone.json["fallback_reason"] == "suspended"


def test_patience_is_shorter_than_the_kernels(mptcp: None) -> None:
    """Less than a second for each SYN, and three SYNs in all."""

    def look(retransmissions: int) -> tuple[float, int]:
        set_sysctl("syn_retrans_before_tcp_fallback", retransmissions)
        return _peer._patience(3)

    assert [in_private_network(lambda n=n: look(n)) for n in (0, 1, 2, 5)] == [  # type: ignore[misc]
        (0.5, 3),
        (1.5, 2),
        (2.5, 1),
        (3, 1),
    ]


# ------------------------------------------------------------------------------------------------ with data


def test_data_tells_more(mptcp: None) -> None:
    """Options removed from the client's packets become a fallback; data that is dropped is found."""
    stripped = check("client_stripped", "--send", "hello", *WAIT, "--json")
    assert (stripped.code, attempt_of(stripped)["result"]) == (1, "fallback")
    assert attempt_of(stripped)["fallback_reason"] == "first_data"
    without = check("data_dropped", *WAIT, "--json")
    assert (without.code, attempt_of(without)["result"]) == (0, "mptcp")
    dropped = check("data_dropped", "--http", *WAIT, "--json")
    assert (dropped.code, attempt_of(dropped)["result"]) == (1, "data_lost")
    assert check("sound", "--http").code == 0


@contextlib.contextmanager
def server_that_hears(heard: list[bytes]) -> Iterator[tuple[str, int]]:
    with mp.create_server(("127.0.0.1", 0), fallback=False) as server:

        def hear() -> None:
            with server.accept()[0] as accepted:
                accepted.settimeout(5)
                heard.append(accepted.recv(1000))

        thread = threading.Thread(target=hear, daemon=True)
        thread.start()
        yield server.getsockname()
        thread.join(10)


@pytest.mark.parametrize(
    ("words", "data"),
    [
        ((), b""),
        (("--send", r"EHLO x\r\n\x00\\"), b"EHLO x\r\n\0\\"),
        (("--http",), b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"),
    ],
)
def test_the_server_hears_what_was_said(words: tuple[str, ...], data: bytes, mptcp: None) -> None:
    """Without words, the end of data."""
    heard: list[bytes] = []
    with server_that_hears(heard) as address:
        assert outcome("check", *address, *words).code == 0
    assert heard == [data]


# --------------------------------------------------------------------------------------------- cannot tell


def refuse_mptcp(segment: Segment) -> bool:
    """Turn the answer to a SYN with the option into a reset."""
    if [*segment.options()]:
        segment.frame[segment.at + 13] = 4 | 16
    return True


def test_a_firewall_that_refuses_the_option(mptcp: None) -> None:
    """connect() is refused with MPTCP and not without: no."""
    found = check("sound", "--json", box=Box(refuse_mptcp, to_server=False, syn=True))
    assert (found.code, attempt_of(found)["result"]) == (1, "refused")


def test_what_cannot_be_reached(mptcp: None) -> None:
    """Exit 3: nobody listens, no answer, no route, no such name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    refused = outcome("check", "127.0.0.1", free)
    assert (refused.code, refused.err) == (3, "")
    assert "It cannot be reached, not even with plain TCP: Connection refused." in " ".join(
        refused.out.split()
    )

    def nowhere() -> Outcome:
        return outcome("check", "10.1.2.3", 80, "--json")

    found = in_private_network(nowhere)
    assert (found.code, attempt_of(found)["error"]) == (3, "Network is unreachable")
    unknown = outcome("check", "nobody.invalid", 80)
    assert (unknown.code, unknown.out) == (3, "")
    assert unknown.err.startswith("mptcp-sockopt: cannot run here: no address of nobody.invalid: ")
    longer = outcome("check", "x" * 70, 80)
    assert (longer.code, longer.out) == (3, "")
    assert longer.err.startswith("mptcp-sockopt: cannot run here: no address of xxx")


@pytest.mark.slow
def test_an_ipv6_address_may_be_in_brackets(mptcp: None) -> None:
    """As `show` prints it."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        found = outcome("check", "[::1]", server.getsockname()[1], "--json")
    assert (found.code, attempt_of(found)["address"]) == (1, "::1")


def test_a_server_that_is_too_far_away(mptcp: None) -> None:
    """Its answer takes longer than a SYN may wait: cannot tell."""

    def look() -> Outcome:
        with network("sound", delay=0.35) as made, made.client:
            set_sysctl("syn_retrans_before_tcp_fallback", 0)
            return outcome("check", *made.address, "--json")

    found = in_private_network(look)
    assert (found.code, attempt_of(found)["result"]) == (3, "slow")
    assert attempt_of(found)["seconds"] >= 0.7


@pytest.mark.slow
def test_no_answer_at_all(mptcp: None) -> None:
    """Neither to MPTCP nor to TCP."""
    with full_listener(socket.AF_INET) as address:
        found = outcome("check", *address, "--json")
    assert (found.code, attempt_of(found)["result"]) == (3, "unreachable")


def test_the_addresses_are_tried_in_turn(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one answers, as socket.create_connection() does it."""
    with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
        port = server.getsockname()[1]

        def resolved(*_: object, **__: object) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, 1, 6, "", (f"127.0.0.{last}", port)) for last in (2, 1, 3)]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        found = outcome("check", "name", port)
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == f"MPTCP to name port {port}: yes"
    assert [line.split(":")[0] for line in lines if line.startswith("127.")] == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize(
    "words",
    [
        ["127.0.0.1"],
        ["127.0.0.1", "0"],
        ["127.0.0.1", "http"],
        ["", "80"],
        ["a b", "80"],
        ["a\x1b[2J", "80"],
        ["--http"],
        ["-6"],
        ["127.0.0.1", "80", "--send", ""],
        ["127.0.0.1", "80", "--send", r"\x"],
        ["127.0.0.1", "80", "--send", "x", "--http"],
        ["127.0.0.1", "80", "-4", "-6"],
        ["127.0.0.1", "80", "--wait", "0"],
        ["127.0.0.1", "80", "more"],
    ],
    ids=repr,
)
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, and one sentence without control characters."""
    found = outcome("check", *words)
    assert (found.code, found.out) == (2, "")
    assert found.err.splitlines()[-1].startswith("mptcp-sockopt check: error: ")
    assert found.err.replace("\n", "").isprintable()
