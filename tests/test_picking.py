# SPDX-License-Identifier: MIT
"""ConnectionPicker gives a part of what asdict() gives, of every kind of connection, at each call."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .causes import fallen
from .support import connections, exchange, fallback_pair, in_private_network, mptcp_pair, until

INFO = ("token", "bytes_sent", "unacked_bytes", "last_data_sent", "last_ack_recv")
TCP_INFO = ("rtt", "bytes_acked", "snd_ssthresh", "min_rtt", "last_data_recv", "snd_wscale", "raw_276")
EVERY = ([*mp.MPTCPInfo.fields, "unacked_bytes"], [*mp.TCPInfo.fields])


def expected(found: mp.MPTCPConnections, info: Any, tcp_info: Any, subflow: Any = ()) -> list[dict[str, Any]]:
    """Of asdict(), only what a picker gives."""
    rows = []
    for row in found.asdict(clean=True)["connections"]:
        del row["live_count"]
        row["info"] = row["info"] and {name: row["info"][name] for name in info}
        for part in (row, *row["subflows"]):
            part["local"], part["remote"] = list(part["local"]), list(part["remote"])
        row["subflows"] = [
            {
                **{name: path[name] for name in ("id", "remote_id", "local", "remote", "opened_by", "flags")},
                **{name: path[name] for name in ("backup_local", "backup_remote", "state", "live", *subflow)},
                "tcp_info": path["tcp_info"] and {name: path["tcp_info"][name] for name in tcp_info},
            }
            for path in row["subflows"]
        ]
        rows.append(row)
    return rows


def same(picker: mp.ConnectionPicker, *fields: Any, **options: Any) -> mp.MPTCPConnections:
    """A dump, of which the picker gives what is expected."""
    found: mp.MPTCPConnections = mp.mptcp_diag(subflows=True, **options)
    assert picker(found) == expected(found, *fields)
    return found


@pytest.mark.parametrize(
    ("info", "tcp_info", "subflow"),
    [(INFO, TCP_INFO, ()), (*EVERY, ("map_seq", "rqueue")), ((), (), ())],
    ids=["some", "all", "none"],
)
def test_it_gives_what_asdict_gives(info: Any, tcp_info: Any, subflow: Any, mptcp: None) -> None:
    """Connections over both families, fallen back, half closed, listening; before and after data."""

    def look() -> None:
        picker = mp.ConnectionPicker(info, tcp_info, subflow)
        same(picker, info, tcp_info, subflow)
        with (
            mptcp_pair(socket.AF_INET) as ends,
            mptcp_pair(socket.AF_INET6) as others,
            fallback_pair(socket.AF_INET),
            mp.create_server(("127.0.0.1", 0), fallback=False),
        ):
            assert len(same(picker, info, tcp_info, subflow)) == 5
            exchange(*ends)
            others[0].shutdown(socket.SHUT_WR)
            assert len(same(picker, info, tcp_info, subflow, listening=True)) >= 6
            ends[0].close()
            same(picker, info, tcp_info, subflow)

    in_private_network(look)


def test_one_picker_tells_reasons_apart(mptcp: None) -> None:
    """Whatever it saw before: with the same flags of the connection, those of the path are others."""

    def look() -> None:
        picker, reasons = mp.ConnectionPicker(INFO), set()
        for cause in ("tcp_listener", "both_connect", "client_stripped", "stripped_later", "sound"):
            if cause == "sound":
                with mptcp_pair(socket.AF_INET):
                    same(picker, INFO, ())
            else:
                with fallen(cause):
                    reasons |= {row.fallback_reason for row in same(picker, INFO, ())}
        assert len(reasons - {None}) == 4

    in_private_network(look)


def test_paths_are_in_the_same_order(mptcp: None) -> None:
    """The initial one first; also at the second call, and after a path has gone."""

    def look() -> None:
        picker = mp.ConnectionPicker(INFO, TCP_INFO)
        with testing.Paths(3) as paths:
            with paths.server:
                server = mp.create_server(("0.0.0.0", 0), fallback=False)
            with server, paths.client:
                address = paths.server_addresses[0], server.getsockname()[1]
                with mp.create_connection(address, timeout=30, fallback=False) as client:
                    with contextlib.ExitStack() as stack:
                        accepted = stack.enter_context(server.accept()[0])
                        exchange(client, accepted)
                        until(lambda: mp.snapshot(client).live_count == 3, "three paths")
                        for _ in range(2):
                            (row,) = same(picker, INFO, TCP_INFO)
                            assert len(row.subflows) == 3
                        with paths.server:
                            same(mp.ConnectionPicker(INFO, TCP_INFO), INFO, TCP_INFO)
                    same(picker, INFO, TCP_INFO)

    in_private_network(look)


def test_addresses_are_known_from_the_last_call(mptcp: None) -> None:
    """The same lists again, as long as the connection is there."""

    def look() -> None:
        picker = mp.ConnectionPicker()
        with connections(3):
            one, two = (picker(mp.mptcp_diag(subflows=True)) for _ in range(2))
            assert all(a["local"] is b["local"] for a, b in zip(one, two, strict=True))
            assert one[0]["subflows"][0]["remote"] is two[0]["subflows"][0]["remote"]
        until(lambda: picker(mp.mptcp_diag(subflows=True)) == [], "the end of all")
        assert picker._ends == {}

    in_private_network(look)


def test_what_has_not_changed_may_be_shared(mptcp: None) -> None:
    """With shared, it is the same dict; but never an old one, whatever the field that changes."""

    def look() -> None:
        sharing = mp.ConnectionPicker(INFO[:2], shared=True)
        ageing = mp.ConnectionPicker(tcp_info=["last_data_sent"], shared=True)
        beside = mp.ConnectionPicker(subflow=["relwrite_seq"], shared=True)
        with mptcp_pair(socket.AF_INET) as (client, accepted):
            same(ageing, (), ["last_data_sent"])
            exchange(client, accepted)
            one, two = (sharing(mp.mptcp_diag(subflows=True)) for _ in range(2))
            assert all(a is b for a, b in zip(one, two, strict=True))
            until(lambda: mp.mptcp_tcpinfo(client)[0].last_data_sent > 5, "time passes")
            same(ageing, (), ["last_data_sent"])
            for _ in range(2):
                same(sharing, INFO[:2], ())
                same(beside, (), (), ["relwrite_seq"])
                exchange(client, accepted)
        until(lambda: sharing(mp.mptcp_diag(subflows=True)) == [], "the end of all")
        assert sharing._made == {}

    in_private_network(look)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mp.ConnectionPicker(info=["rtt"]),
        lambda: mp.ConnectionPicker(tcp_info=["token"]),
        lambda: mp.ConnectionPicker(subflow=["nonsense"]),
    ],
)
def test_an_unknown_field_is_a_mistake(make: Callable[[], object]) -> None:
    """It is told when the picker is made."""
    with pytest.raises(KeyError):
        make()
