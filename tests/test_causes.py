# SPDX-License-Identifier: MIT
"""Every cause of a fallback, made: the class that the client's row tells, and what the page says of it."""

from __future__ import annotations

import contextlib
import socket

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason, testing

from .causes import CAUSES, fallen, network, set_sysctl
from .support import DEADLINE, in_private_network, inode, rounds, until
from .test_stalls import connected

INET, INET6 = socket.AF_INET, socket.AF_INET6
#: One second each, for a SYN that is lost.
PATIENT = {
    name for name, cause in CAUSES.items() if cause.sysctls.keys() & {"syn_retrans_before_tcp_fallback"}
}


def connection_of(sock: socket.socket) -> mp.MPTCPConnection:
    """Its row, with its paths."""
    (row,) = [row for row in mp.mptcp_diag(subflows=True) if row.inode == inode(sock)]
    return row


def reason_when_it_falls_back(name: str, family: int) -> FallbackReason | None:
    with fallen(name, family) as (client, _, _):
        until(lambda: connection_of(client).fallback_reason, "a reason")
        return connection_of(client).fallback_reason


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_in_its_class(name: str, mptcp: None) -> None:
    """By the client's row alone."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET)) is CAUSES[name].reason


@pytest.mark.parametrize("name", sorted(CAUSES.keys() - PATIENT))
def test_a_cause_is_in_its_class_over_ipv6(name: str, mptcp: None) -> None:
    """The same flags."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET6)) is CAUSES[name].reason


def test_a_server_that_speaks_tcp_over_loopback(fallback_ends: tuple[socket.socket, socket.socket]) -> None:
    """Where no path can be made."""
    client, _ = fallback_ends
    row = mp.mptcp_lookup(client.getsockname(), client.getpeername())
    assert row is not None
    assert row.fallback_reason is FallbackReason.NO_OPTION_IN_ANSWER


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_always_in_its_class(name: str, family: int) -> None:
    """20 of 20."""
    found = [in_private_network(lambda: reason_when_it_falls_back(name, family)) for _ in range(rounds(20))]
    assert set(found) == {CAUSES[name].reason}


# --------------------------------------------------------------------------------------- what is no fallback


def test_a_syn_that_is_refused_because_of_the_option(family: int) -> None:
    """connect() fails at once, and there is no connection that could have fallen back."""

    def look() -> None:
        with network("syn_refused", family) as made, made.client:
            with pytest.raises(ConnectionRefusedError):
                mp.create_connection(made.address, timeout=DEADLINE / 2, fallback=False)
            assert len(mp.mptcp_diag(subflows=True)) == 0

    in_private_network(look)


def test_an_answer_that_is_lost_because_of_the_option(mptcp: None) -> None:
    """The connection goes on connecting: as long as the kernel tries MPTCP, it is no fallback."""

    def look() -> None:
        with network("synack_dropped") as made, made.client, mp.create_socket(fallback=False) as client:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.connect(made.address)
            row = connection_of(client)
            assert (row.status, row.state) == (mp.Status.CONNECTING, mp.TCPState.SYN_SENT)
            assert row.fallback_reason is None

    in_private_network(look)


def test_data_that_is_lost_because_of_the_option(family: int) -> None:
    """connect() succeeds and nothing arrives: MPTCP, and the flags lack FULLY_ESTABLISHED."""

    def look() -> None:
        with network("data_dropped", family) as made, made.client, mp.create_socket(family) as client:
            client.settimeout(DEADLINE / 2)
            client.connect(made.address)
            client.sendall(b"hello")
            row = connection_of(client)
            assert (row.status, row.fallback_reason) == (mp.Status.MPTCP, None)
            (path,) = row.subflows
            assert path.flags is not None
            assert not path.flags & mp.SubflowFlag.FULLY_ESTABLISHED

    in_private_network(look)


@pytest.mark.parametrize("name", ["stripped_later", "payload_altered"])
def test_two_paths_do_not_fall_back(name: str, mptcp: None) -> None:
    """Altered options make the ends reset both: a connection without a path, and no reason."""

    def look() -> None:
        cause = CAUSES[name]
        with testing.Paths(2) as paths:
            for side in (paths.client, paths.server):
                with side:
                    for sysctl, value in cause.sysctls.items():
                        set_sysctl(sysctl, value)
            with connected(paths, 2) as (client, accepted), paths.client:
                for path in range(2):
                    paths.alter(path, cause.later)

                def both_talk() -> bool:
                    for end in (client, accepted):
                        with contextlib.suppress(OSError):
                            end.send(b"x" * 100)
                    return mp.status(client) is mp.Status.CLOSED

                until(both_talk, "the end of both paths")
                row = connection_of(client)
                assert (row.dead, row.subflows, row.fallback_reason) == (True, (), None)

    in_private_network(look)


def test_a_connection_that_fell_back_and_ended(mptcp: None) -> None:
    """Once it has ended, nothing tells why it fell back."""

    def look() -> None:
        with fallen("stripped_later") as (client, accepted, _):
            for end in (client, accepted):
                end.shutdown(socket.SHUT_WR)
            until(lambda: connection_of(client).state == mp.TCPState.CLOSE, "its end")
            row = connection_of(client)
            assert (row.status, row.fallback_reason) == (mp.Status.FALLBACK, None)

    in_private_network(look)
