# SPDX-License-Identifier: MIT
"""Blocks and totals: how connections look as text, from records."""

from __future__ import annotations

from typing import Any

import pytest

from mptcp_sockopt.cli._blocks import (
    block,
    duration,
    lines,
    printable,
    processes,
    rate,
    size_of,
    totals,
    troubled_first,
)

from .records import FELL_BACK, LONG, OVER_IPV6, connection, path

RATES = {"bytes_sent": 99.94e6, "bytes_acked": 99.94e6, "bytes_received": 99.94e6}


def test_a_block_names_the_peer_once_and_each_path_by_its_local_address() -> None:
    """In 79 columns, with IPv6 addresses in full."""
    assert block(OVER_IPV6) == [
        "MPTCP to [2001:db8:85a3:8d3:1319:8a2e:370:9999]:443  python/19913",
        "  0  2001:db8:85a3:8d3:1319:8a2e:370:7348     9.9 ms  68.1 kB   3.0 kB  ok",
        "  6  2001:db8:1234:5678:9abc:def0:1234:5678   6.7 ms  51.3 kB      0 B  ok",
    ]


def test_columns_stand_at_the_same_place_for_short_addresses() -> None:
    """And the interface is shown where there is room."""
    assert block(connection()) == [
        "MPTCP to 10.9.0.2:443  python/19913",
        "  1  10.9.0.1  path0                          9.9 ms  68.1 kB   3.0 kB  ok",
    ]


def test_a_remote_address_is_repeated_where_it_differs() -> None:
    """On the line of the path if it fits, else on a line of its own; with its port if that differs."""
    other = path(local=["10.9.1.1", 40001], remote=["10.9.1.2", 443], interface=None)
    port = path(local=["10.9.1.1", 40001], remote=["10.9.0.2", 444], interface=None)
    long = path(**{**LONG, "remote": ["2001:db8:1111:2222:3333:4444:5555:6666", 443, 0, 0]})
    found = block(connection(subflows=[other, port, long]))
    assert found[1].startswith("  1  10.9.1.1 to 10.9.1.2  ")
    assert found[2].startswith("  1  10.9.1.1 to 10.9.0.2:444  ")
    assert found[3].startswith("  1  2001:db8:85a3:8d3:1319:8a2e:370:7348  ")
    assert found[4] == "     to 2001:db8:1111:2222:3333:4444:5555:6666"


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({}, "ok"),
        ({"stalled": False}, "ok"),
        ({"stalled": True, "backup_remote": True, "state": "CLOSE_WAIT"}, "stalled"),
        ({"backup_local": True}, "backup"),
        ({"backup_remote": True}, "backup"),
        ({"state": "FIN_WAIT2"}, "closing"),
        ({"state": "LAST_ACK", "live": False}, "closing"),
        ({"state": "SYN_SENT", "live": False}, "opening"),
        ({"state": "CLOSE", "live": False}, "dead"),
        ({"state": "77", "live": False}, "dead"),
    ],
)
def test_a_path_has_one_word(parts: dict[str, Any], word: str) -> None:
    """The worst that is known of it."""
    (_, line) = lines(connection(subflows=[path(**parts)]))
    assert (line.word, line.text.split()[-1]) == (word, word)


def test_the_syn_is_not_shown_as_data() -> None:
    """TCP counts it as an acknowledged byte, on the side that connected."""
    for opened_by, acked, sent in (("local", 501, "500 B"), ("remote", 500, "500 B"), ("local", 0, "0 B")):
        line = block(connection(subflows=[path(opened_by=opened_by, tcp_info={"bytes_acked": acked})]))[1]
        assert line.partition(" ms ")[2].strip().startswith(f"{sent} ")


def test_troubles_have_a_sentence() -> None:
    """Below the paths."""
    found = block(FELL_BACK)
    assert found[0] == "FALLBACK to 10.9.0.2:443  python/19913"
    assert len(found) > 2
    assert found[2].startswith("     ")
    dead = block(connection(troubles=["no_path"], subflows=[]))
    assert dead[1].startswith("     No path is left")
    resent = block(connection(troubles=["resending"]))
    assert "sent again and again" in " ".join(line.strip() for line in resent[2:])


def test_who_opened_it_is_in_the_first_line() -> None:
    """An accepted connection comes from its peer, to a port here; a listener has no peer."""
    accepted = connection(subflows=[path(opened_by="remote")])
    assert block(accepted)[0] == "MPTCP from 10.9.0.2:443 to :40000  python/19913"
    by_tcp = connection(status="tcp", subflows=[path(opened_by=None)])  # flags do not tell, the status does
    assert block(by_tcp)[0] == "TCP from 10.9.0.2:443 to :40000  python/19913"
    listener = connection(
        status="listening", state="LISTEN", local=["::", 443, 0, 0], remote=["::", 0, 0, 0], subflows=[]
    )
    assert block(listener) == ["LISTENING at [::]:443  python/19913"]


@pytest.mark.parametrize(
    ("owners", "shown"),
    [
        (None, ""),
        ([], "no process"),
        ([("a", 1, 3), ("a", 1, 4)], "a/1"),
        ([("a", 1, 3), ("a", 2, 3), ("b", 3, 3), ("b", 4, 3)], "a/1, a/2 and 2 more"),
        ([("\x1b[31m\n\u202e", 1, 3)], "\\x1b[31m\\n\\u202e/1"),
    ],
)
def test_processes_are_named_once(owners: list[tuple[str, int, int]] | None, shown: str) -> None:
    """Two, and how many more; what a process wrote is escaped."""
    found = [{"name": name, "pid": pid, "fd": fd} for name, pid, fd in owners or ()]
    assert processes(None if owners is None else found) == shown


def awkward() -> list[dict[str, Any]]:
    """Connections that take much room, or have nothing to show."""
    long = path(**{**LONG, "remote": ["2001:db8:1111:2222:3333:4444:5555:6666", 65535, 0, 0]}, stalled=True)
    many = [{"pid": 4_000_000 + n, "name": "a-name-of-15-by", "fd": 3} for n in range(9)]
    bare = path(id=None, tcp_info=None, opened_by=None, flags=None, interface=None)
    with_rates = path(
        **LONG, id=255, rates={"bytes_acked": 99.94e6, "bytes_received": None}, tcp_info={"rtt": 0}
    )
    return [
        OVER_IPV6,
        FELL_BACK,
        connection(subflows=[long] * 9, processes=many, remote=LONG["remote"]),
        connection(subflows=[bare], info=None, token=None, inode=None, processes=None),
        connection(subflows=[], troubles=["no_path", "resending"]),
        connection(subflows=[with_rates], rates=RATES),
        connection(subflows=[path(local=["fe80::1", 1, 0, 3], interface="\x1b[2J" * 9)], status="\x07new"),
        connection(status="closing", info=None, token=None),
    ]


@pytest.mark.parametrize("width", [1, 5, 8, 20, 40, 60, 79, 80, 200])
def test_every_width_can_be_drawn(width: int) -> None:
    """No line is longer, none ends with a space, and nothing is printed that moves the cursor."""
    for one in awkward():
        for text in block(one, width):
            assert len(text) <= width, text
            assert text == text.rstrip()
            assert text.isascii()
            assert text.isprintable()


def test_nothing_is_cut_off_in_79_columns() -> None:
    """Of the longest addresses, names and figures."""
    for one in awkward():
        whole = " ".join(block(one))
        for each in one["subflows"]:
            assert f"{each['local'][0]} " in whole or f"{each['local'][0]}%" in whole
            assert each["remote"][0] in whole
    stalled = block(awkward()[2])
    assert sum(line.endswith(" stalled") for line in stalled) == 9


def test_a_narrow_terminal_keeps_the_word() -> None:
    """20 columns: the word comes before the figures."""
    assert block(connection(subflows=[path(stalled=True)]), 20)[-2:] == [
        "  1  10.9.0.1",
        "     stalled 9.9 ms",
    ]


def test_rates_take_the_place_of_totals() -> None:
    """From the second look on."""
    rates = {"bytes_acked": 1_234_000.0, "bytes_received": 0.0}
    one = connection(subflows=[path(rates=rates)], rates={**rates, "bytes_sent": 1_200_000.0})
    assert block(one)[1] == "  1 10.9.0.1  path0                          9.9 ms  1.2 MB/s     0 B/s ok"
    assert totals([one]).endswith("; 1.2 MB/s sent, 0 B/s received")


def test_totals_count_what_there_is() -> None:
    """Connections by status, paths, stalled ones; what is not there is left out."""
    stalled = connection(subflows=[path(stalled=True), path()], troubles=["stalled"])
    dead = connection(subflows=[], troubles=["no_path"])
    assert totals([]) == "0 connections; 0 paths, 0 stalled"
    assert totals([connection()]) == "1 connection: 1 MPTCP; 1 path, 0 stalled"
    assert totals([OVER_IPV6, OVER_IPV6, OVER_IPV6, FELL_BACK]) == (
        "4 connections: 3 MPTCP, 1 fell back; 7 paths, 0 stalled"
    )
    assert totals([stalled, dead]) == "2 connections: 2 MPTCP; 2 paths, 1 stalled; 1 without a path"


def test_troubled_connections_come_first() -> None:
    """The worst before the others, which stay in their order."""
    healthy, other = connection(token=1), connection(token=2)
    stalled, resending = connection(troubles=["stalled"]), connection(troubles=["stalled", "resending"])
    dead = connection(troubles=["no_path"])
    given = [healthy, FELL_BACK, other, stalled, resending, dead]
    assert troubled_first(given) == [dead, resending, stalled, FELL_BACK, healthy, other]


def test_numbers_fit_their_columns() -> None:
    """Sizes and times in 7 columns, rates in 9, whatever the number."""
    shown = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 68_100: "68.1 kB", 99_949: "99.9 kB", 99_950: "100 kB"}
    shown |= {999_499: "999 kB", 999_500: "1.0 MB", 123_456_789: "123 MB", 2**64 - 1: "18.4 EB"}
    assert {number: size_of(number) for number in shown} == shown
    assert [duration(number) for number in (None, 27, 9900, 4_294_967_295)] == [
        "-",
        "27 us",
        "9.9 ms",
        "4.3 ks",
    ]
    for number in (7 * 10**power // 7 + extra for power in range(20) for extra in (-1, 0, 1)):
        assert len(size_of(number)) <= 7
        assert len(rate(number)) <= 9
        assert len(duration(number % 2**32)) <= 7


def test_what_others_wrote_is_escaped() -> None:
    """Control characters, and others that could change what is seen."""
    assert printable("eth0") == "eth0"
    assert printable("a\x1b[31m\r\n\x7f\x9b\u202eb") == "a\\x1b[31m\\r\\n\\x7f\\x9b\\u202eb"
