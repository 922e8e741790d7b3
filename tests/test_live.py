# SPDX-License-Identifier: MIT
"""A subflow at every stage of its life, and what is counted then: the tables of docs/subflows.md."""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._tcp_info import LIVE_STATES

from .life import (
    Seen,
    additional_one_reset_with_data_unread,
    additional_one_with_a_failed_checksum,
    closed_with_data_queued,
    fast_open,
    full_window,
    our_fin_is_lost,
    reset_with_data_unread,
    seen,
)
from .support import (
    Missing,
    exchange,
    fallback_pair,
    full_listener,
    has_full_info,
    in_private_network,
    reset,
    tcp_pair,
    until,
)
from .test_subflows import paths

PAGE = (Path(__file__).parent.parent / "docs" / "subflows.md").read_text()
INET = socket.AF_INET

# ---------------------------------------------------------------------------------------- the stages


@contextlib.contextmanager
def joining() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """A connection with a join that is not answered: the listener's queue is full, so it drops the SYN.

    Both ends, and the listener: after an accept() it answers the SYN that comes again.
    """
    testing.set_limits(8, 8)
    with (
        mp.create_server(("127.0.0.1", 0), backlog=0, fallback=False) as server,
        mp.create_connection(server.getsockname(), source_address=("127.0.9.1", 0), fallback=False) as client,
    ):
        accepted, _ = server.accept()
        with accepted, socket.create_connection(server.getsockname()):
            exchange(client, accepted)
            testing.add_endpoint("127.0.9.2")
            until(lambda: len(mp.mptcp_tcpinfo(client)) == 2, "the join to begin")
            yield client, accepted, server


def fresh() -> Seen:
    with mp.create_socket(fallback=False) as sock:
        sock.bind(("127.0.0.1", 0))
        return seen(sock)


def listening() -> Seen:
    with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
        assert mp.snapshot(server).live_count == 0
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            assert seen(tcp) == seen(server)
        return seen(server)


def connecting() -> Seen:
    with full_listener(INET) as address, mp.create_socket(fallback=False) as sock:
        sock.setblocking(False)
        sock.connect_ex(address)
        assert mp.snapshot(sock).live_count == 0
        return seen(sock)


def connecting_without_mptcp() -> Seen:
    sysctl = Path("/proc/sys/net/mptcp/syn_retrans_before_tcp_fallback")
    if not sysctl.exists():
        raise Missing("a kernel that is told when to leave MPTCP out of a SYN")
    sysctl.write_text("1")
    with full_listener(INET) as address, mp.create_socket(fallback=False) as sock:
        sock.setblocking(False)
        tracker = mp.Tracker(sock)
        sock.connect_ex(address)
        assert not tracker.update().fell_back
        until(lambda: mp.status(sock) is not mp.Status.CONNECTING, "a SYN without MPTCP")
        update = tracker.update()
        assert (update.fell_back, update.snapshot.live_count) == (True, 0)
        assert not tracker.update().fell_back
        return seen(sock)


def join_not_answered() -> Seen:
    with joining() as (client, accepted, _):
        shot = mp.snapshot(client)
        assert [path.live for path in shot.subflows] == [True, False]
        assert shot.live_count == mp.snapshot(accepted).live_count == 1
        return seen(client)


def join_not_answered_and_no_other() -> Seen:
    with joining() as (client, accepted, server):
        testing.delete_initial_address("127.0.9.1")
        until(lambda: mp.status(accepted) is mp.Status.CLOSED, "the other end to lose its only subflow")
        found = seen(client)
        assert mp.snapshot(client).live_count == 0
        server.accept()[0].close()
        until(lambda: mp.snapshot(client).live_count == 1, "the join to be answered")
        until(lambda: mp.status(accepted) is mp.Status.MPTCP, "the other end to see it")
        exchange(client, accepted)
        return found


def join_refused_by_a_reset() -> Seen:
    with joining() as (client, _, server):
        server.close()  # nobody listens where the SYN comes again
        until(lambda: len(mp.mptcp_tcpinfo(client)) == 1, "the join to be refused")
        return refused(client)


def join_refused_by_the_limits() -> Seen:
    with joining() as (client, _, server):
        testing.set_limits(0, 0)
        server.accept()[0].close()
        until(lambda: len(mp.mptcp_tcpinfo(client)) == 1, "the join to be refused")
        return refused(client)


def refused(sock: socket.socket) -> Seen:
    """It has left nothing but the number of endpoints that were tried."""
    shot = mp.snapshot(sock)
    assert shot.info is not None
    assert (len(shot.subflows), shot.live_count, shot.info.subflows) == (1, 1, 0)
    assert shot.info.local_addr_used in (1, None)
    return "not listed", False, shot.status.name


def established() -> Seen:
    with paths(INET, 2) as (client, accepted):
        assert seen(client) == seen(accepted)
        return seen(client)


def silent() -> Seen:
    with paths(INET, 1) as (client, accepted):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            down = struct.pack("16sh14x", b"lo", 0)
            fcntl.ioctl(any_socket, 0x8914, down)  # SIOCSIFFLAGS
        client.sendall(b"into the void")
        until(lambda: (mp.mptcp_tcpinfo(client)[0].backoff or 0) > 1, "two retransmissions")
        assert mp.snapshot(accepted).live_count == 1
        return seen(client)


def our_fin_waits() -> Seen:
    with tcp_pair(INET) as (client, _):
        full_window(client)
        client.shutdown(socket.SHUT_WR)
        return seen(client)


def our_fin_was_acknowledged() -> Seen:
    with fallback_pair(INET) as (client, server):
        exchange(client, server)
        client.shutdown(socket.SHUT_WR)
        until(lambda: seen(client)[0] == "FIN_WAIT2", "the FIN to be acknowledged")
        server.sendall(b"y")
        assert client.recv(1) == b"y"
        return seen(client)


def their_fin_came() -> Seen:
    with fallback_pair(INET) as (client, server):
        exchange(client, server)
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.sendall(b"y")
        assert server.recv(1) == b"y"
        return seen(client)


def both_fins_theirs_first() -> Seen:
    return closed_with_data_queued(tcp_pair(INET), ours_first=False)


def both_fins_ours_first() -> Seen:
    return closed_with_data_queued(tcp_pair(INET), ours_first=True)


def initial_one_removed() -> Seen:
    with paths(INET, 1) as (client, accepted):
        testing.delete_initial_address(client.getsockname()[0])
        until(lambda: mp.snapshot(accepted).live_count == 0, "it to go")
        assert seen(client) == seen(accepted)
        return seen(client)


def connection_reset() -> Seen:
    with paths(INET, 1) as (client, accepted):
        reset(accepted, client)
        return seen(client)


def additional_one_removed() -> Seen:
    with paths(INET, 2) as (client, accepted):
        testing.delete_endpoint(1)
        until(lambda: mp.snapshot(accepted).live_count == 1, "it to go")
        assert len(mp.snapshot(client).subflows) == 1
        return "not listed", False, mp.status(client).name


#: As the page calls them.
STAGES: dict[str, Callable[[], Seen]] = {
    "not connected, bound": fresh,
    "listener": listening,
    "`connect()` not answered": connecting,
    "the same, once a SYN went without MPTCP": connecting_without_mptcp,
    "Fast Open: data of the SYN came, the last ACK did not": fast_open,
    "join not answered": join_not_answered,
    "the same, and no other subflow": join_not_answered_and_no_other,
    "join refused by a reset": join_refused_by_a_reset,
    "join refused by the peer's limits": join_refused_by_the_limits,
    "established": established,
    "established, and nothing comes back": silent,
    "closing: our FIN is not acknowledged": our_fin_waits,
    "closing: MPTCP was closed at both ends, our FIN is lost": our_fin_is_lost,
    "closing: our FIN is acknowledged": our_fin_was_acknowledged,
    "closing: the peer's FIN came": their_fin_came,
    "closed, data queued: the peer's FIN, then ours": both_fins_theirs_first,
    "closed, data queued: our FIN, then the peer's": both_fins_ours_first,
    "dead: initial subflow, removed": initial_one_removed,
    "dead: connection reset by the peer": connection_reset,
    "dead: additional subflow, removed": additional_one_removed,
    "dead: additional subflow, reset, data unread": additional_one_reset_with_data_unread,
    "dead: additional subflow, checksum failed": additional_one_with_a_failed_checksum,
}


def rows(heading: str) -> dict[str, list[str]]:
    """The first table below a heading of the page: its rows by their first cell."""
    text = PAGE[PAGE.index(f"## {heading}\n") :]
    (table,) = re.findall(r"\n(\|.*?)\n\n", text[: text.index("\n\n", text.index("\n|"))] + "\n\n", re.DOTALL)
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


def test_the_page_has_a_row_for_every_stage() -> None:
    assert list(rows("Which subflow is live")) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_what_the_page_says(stage: str, mptcp: None) -> None:
    """State, live and status(), on real sockets."""
    state, live, status = in_private_network(STAGES[stage])
    assert [state, "yes" if live else "no", status] == rows("Which subflow is live")[stage]


@pytest.mark.parametrize("ours_first", [False, True], ids=["LAST_ACK", "CLOSING"])
def test_a_fallback_at_its_end_is_counted_on(ours_first: bool, mptcp: None) -> None:
    """As plain TCP is: what was queued is the connection's, though getpeername() knows no peer any more."""
    state = "CLOSING" if ours_first else "LAST_ACK"
    assert closed_with_data_queued(fallback_pair(INET), ours_first) == (state, False, "FALLBACK")


def test_four_states_are_live() -> None:
    """And no other number, known or to come; nor an answer that does not say."""
    assert {state.name for state in LIVE_STATES} == {"ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT"}
    addrs = mp.SubflowAddrs(bytes(256))
    live = [n for n in range(256) if mp.Subflow(1, addrs, mp.TCPInfo(bytes([n]) + bytes(279))).live]
    assert live == sorted(LIVE_STATES)
    assert not mp.Subflow(1, addrs, mp.TCPInfo(b"")).live


# ---------------------------------------------------------------------------------------- the counts


def counts(sock: socket.socket) -> list[str]:
    info, listed = mp.mptcp_info(sock), len(mp.mptcp_tcpinfo(sock))
    return [str(n) for n in (info.subflows, info.subflows_total, listed, mp.snapshot(sock).live_count)]


def one_path() -> list[str]:
    with paths(INET, 1) as (client, _):
        return counts(client)


def four_joined() -> list[str]:
    with paths(INET, 4) as (client, _):
        return counts(client)


def one_additional_gone() -> list[str]:
    with paths(INET, 4) as (client, accepted):
        testing.delete_endpoint(1)
        until(lambda: mp.mptcp_info(client).subflows == 2, "it to go")
        until(lambda: mp.snapshot(accepted).live_count == 3, "it to go at the other end")
        return counts(client)


def the_initial_one_gone() -> list[str]:
    with paths(INET, 4) as (client, _):
        testing.delete_initial_address(client.getsockname()[0])
        until(lambda: mp.snapshot(client).live_count == 3, "it to go")
        until(lambda: mp.mptcp_info(client).subflows_total in (3, None), "the kernel's count to follow")
        return counts(client)


def one_reset_with_data_unread() -> list[str]:
    with reset_with_data_unread() as (accepted, _):
        return counts(accepted)


def one_join_not_answered() -> list[str]:
    with joining() as (client, _, _):
        return counts(client)


@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_after_the_end_all_stay_listed_where_it_was_closed_first(first: int, mptcp: None) -> None:
    """In state CLOSE; the other end has the initial one alone. As seen on 6.18."""

    def look() -> list[tuple[int, int, int, str]]:
        with paths(INET, 3) as ends:
            one, other = ends[first], ends[1 - first]
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""
            other.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""
            until(lambda: not any(mp.snapshot(end).live_count for end in ends), "the end")
            if not has_full_info():
                raise Missing("a kernel newer than 6.5")
            shots = [mp.snapshot(one), mp.snapshot(other)]
            return [
                (
                    len(shot.subflows),
                    shot.live_count,
                    shot.info.subflows if shot.info else -1,
                    shot.status.name,
                )
                for shot in shots
            ]

    assert in_private_network(look) == [(3, 0, 2, "CLOSED"), (1, 0, 0, "CLOSED")]


COUNTS: dict[str, Callable[[], list[str]]] = {
    "one path": one_path,
    "four paths": four_joined,
    "four, one additional gone": one_additional_gone,
    "four, the initial one gone": the_initial_one_gone,
    "two, the additional one reset, data unread": one_reset_with_data_unread,
    "one, and a join that is not answered": one_join_not_answered,
}


def test_the_page_has_a_row_for_every_count() -> None:
    assert list(rows("Counting subflows")) == list(COUNTS)


@pytest.mark.parametrize("case", COUNTS)
def test_a_count_is_what_the_page_says(case: str, mptcp: None) -> None:
    """Of the three counts of the kernel, and of ours."""
    found, page = in_private_network(COUNTS[case]), rows("Counting subflows")[case]
    if found[1] == "None":  # before 6.8
        found[1] = page[1]
    assert found == page
