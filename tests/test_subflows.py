# SPDX-License-Identifier: MIT
"""Connections of several subflows, each in a network namespace of its own, against what ss(8) says."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _sockopt, testing
from mptcp_sockopt._border import netlink
from mptcp_sockopt._border.netlink import attribute, nest, number

from .support import (
    LOOPBACK,
    Missing,
    connections,
    exchange,
    has_full_info,
    in_private_network,
    needs_full_info,
    run,
    until,
)

PREFIX = {socket.AF_INET: "127.0.9.", socket.AF_INET6: "fd00:9::"}


@contextlib.contextmanager
def paths(family: socket.AddressFamily, count: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Inside a private namespace: a connection of count subflows, each from an address of its own."""
    hosts = [f"{PREFIX[family]}{n}" for n in range(1, count + 1)]
    testing.set_limits(8, 8)
    for host in hosts:
        if family == socket.AF_INET6:
            testing.add_address(host)
    for host in hosts[1:]:
        testing.add_endpoint(host)
    with mp.create_server((LOOPBACK[family], 0), family=family, fallback=False) as server:
        address = server.getsockname()[:2]
        with mp.create_connection(address, timeout=5, source_address=(hosts[0], 0), fallback=False) as client:
            accepted, _ = server.accept()
            with accepted:
                exchange(client, accepted)
                until(lambda: mp.mptcp_info(client).subflows == count - 1, f"{count} subflows")
                until(lambda: mp.snapshot(accepted).live_count == count, f"{count} subflows at the server")
                yield client, accepted


def rows_of_ss(server: object) -> set[tuple[str, str]]:
    """(local, peer) of every MPTCP subflow to this address, as ss prints them.

    To its port alone: that could be a client's too, on another address.
    """
    if not shutil.which("ss"):
        raise Missing("ss(8) of iproute2")
    found = run("ss", "-tinHO", "state", "established", "dst", as_ss(server))
    assert found.returncode == 0, found.stderr
    return rows_in(found.stdout)


def rows_in(output: str) -> set[tuple[str, str]]:
    rows = [line.split() for line in output.splitlines() if "tcp-ulp-mptcp" in line]
    # ss names the device that an endpoint is bound to: 127.0.9.2%lo:1234.
    return {(row[2].replace("%lo", ""), row[3].replace("%lo", "")) for row in rows}


def as_ss(address: object) -> str:
    assert isinstance(address, tuple)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def live_rows(sock: socket.socket) -> set[tuple[str, str]]:
    """What ss should print of the subflows that are in use."""
    return {(as_ss(path.local), as_ss(path.remote)) for path in mp.snapshot(sock).subflows if path.live}


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_the_list_is_equal_to_that_of_ss(count: int, family: int) -> None:
    """With 1, 2, 4 and 9 subflows, and without the initial one."""

    def look() -> None:
        with paths(socket.AddressFamily(family), count) as (client, _):
            assert len(live_rows(client)) == count
            assert live_rows(client) == rows_of_ss(client.getpeername())
            if count > 1:
                testing.delete_initial_address(client.getsockname()[0])
                until(lambda: mp.snapshot(client).live_count == count - 1, "the initial subflow to go")
                assert live_rows(client) == rows_of_ss(client.getpeername())

    in_private_network(look)


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_the_list_is_complete(count: int, family: int) -> None:
    """With 1, 2, 4 and 9 subflows: all there, from their addresses; ids, from 6.5, stable and unique."""

    def look() -> None:
        with paths(socket.AddressFamily(family), count) as (client, accepted):
            shot = mp.snapshot(client)
            assert len(shot.subflows) == shot.live_count == count
            assert len(mp.mptcp_tcpinfo(client)) == len(mp.mptcp_subflow_addrs(client)) == count
            hosts = [path.local[0] for path in shot.subflows if path.local]
            assert sorted(hosts) == [f"{PREFIX[socket.AddressFamily(family)]}{n + 1}" for n in range(count)]
            ids = {path.local: path.id for path in shot.subflows}
            if has_full_info():
                full = mp.mptcp_full_info(client)
                assert full.num_subflows == full.live_count == count
                assert len(set(ids.values())) == count
                assert ids[client.getsockname()] == 1
            else:
                assert set(ids.values()) == {None}
            exchange(client, accepted)
            again = mp.snapshot(client)
            assert {path.local: path.id for path in again.subflows} == ids
            assert len(mp.snapshot(accepted).subflows) == count
            info = shot.info
            assert info is not None
            assert info.subflows == count - 1
            assert info.subflows_total in (count, None)
            assert [path.addrs for path in _sockopt._older_mptcp_subflows(client.fileno())[1]] == [
                path.addrs for path in again.subflows
            ]

    in_private_network(look)


def test_a_removed_initial_subflow_stays_listed(family: int) -> None:
    """Its address removed (id 0): not live, and the kernel's three counts say 4, 3 and 3."""

    def look() -> None:
        with paths(socket.AddressFamily(family), 4) as (client, accepted):
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: mp.snapshot(client).live_count == 3, "the initial subflow to go")
            until(lambda: mp.mptcp_info(client).subflows_total in (3, None), "the kernel's count to follow")
            shot = mp.snapshot(client)
            assert (len(shot.subflows), shot.live_count) == (4, 3)
            assert [path.live for path in shot.subflows] == [False, True, True, True]
            if has_full_info():
                full = mp.mptcp_full_info(client)
                assert (full.num_subflows, full.live_count) == (4, 3)
                # 6.5 forgets its number: it reads 0 then.
                assert [path.id for path in full.subflows if not path.live] in ([1], [0])
            assert shot.subflows[0].tcp_info.state == mp.TCPState.CLOSE
            assert shot.status is mp.status(client) is mp.Status.MPTCP
            exchange(client, accepted)
            until(lambda: mp.snapshot(accepted).live_count == 3, "the server to see it")

    in_private_network(look)


def test_rows_are_narrow_again_when_a_wide_connection_is_gone(mptcp: None) -> None:
    """Removed or closed: those that stay do not go on paying for it, and a wide one may come again."""

    def look() -> None:
        needs_full_info()
        # Of two families: the endpoints of one would bring paths to the connections that are to stay narrow.
        with connections(4) as ends, paths(socket.AF_INET6, 9) as (client, _):
            token = mp.mptcp_info(client).token
            sampler = mp.Sampler(ends, full=True)
            narrow = sampler.sample()._block.nbytes
            for gone in (sampler.remove, os.close):
                fd = os.dup(client.fileno())
                sampler.add(fd)
                wide = sampler.sample()
                row = wide[-1]
                assert isinstance(row, mp.MPTCPFullInfo)
                assert (row.info.token, row.live_count) == (token, 9)
                assert wide._block.nbytes > 3 * narrow
                gone(fd)
                sampler.sample()
                after = sampler.sample()
                assert after._block.nbytes <= 2 * narrow
                assert [type(row) for row in after[:8]] == [mp.MPTCPFullInfo] * 8

    in_private_network(look)


def test_families_may_differ_in_one_array(mptcp: None) -> None:
    """An IPv6 socket that talks IPv4: the initial subflow is v4-mapped, a further one plain IPv4. At an IPv6
    listener's end both are v4-mapped."""

    def look() -> list[list[str]]:
        testing.set_limits(8, 8)
        testing.add_endpoint("127.0.9.2")
        with mp.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False
        ) as server:
            client = mp.create_socket(socket.AF_INET6, fallback=False)
            with client:
                client.settimeout(5)
                client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
                accepted, _ = server.accept()
                with accepted:
                    exchange(client, accepted)
                    until(lambda: mp.mptcp_info(client).subflows == 1, "the second subflow")
                    until(lambda: mp.snapshot(accepted).live_count == 2, "it to be there at the server")
                    ours = [str(path.local and path.local[0]) for path in mp.snapshot(client).subflows]
                    return [
                        ours,
                        [str(path.remote and path.remote[0]) for path in mp.snapshot(accepted).subflows],
                    ]

    mapped = ["::ffff:127.0.0.1", "::ffff:127.0.9.2"]
    assert in_private_network(look) == [["::ffff:127.0.0.1", "127.0.9.2"], mapped]


def test_a_count_that_changes_is_no_error(mptcp: None) -> None:
    """Subflows come and go while they are read, and every answer is whole."""

    def come_and_go() -> None:
        for n in range(60):
            testing.add_endpoint(f"127.0.8.{n % 8 + 1}")
            if n % 8 == 7:
                testing.flush_endpoints()

    def look() -> set[int]:
        counts: set[int] = set()
        with paths(socket.AF_INET, 1) as (client, accepted):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    come_and_go()
                    code = 0
                except OSError:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            ended = (0, 0)
            while ended == (0, 0):
                ended = os.waitpid(pid, os.WNOHANG)
                full = mp.mptcp_full_info(client)
                counts.add(full.num_subflows)
                assert full.num_subflows == len(full.subflows)
                assert all(path.local for path in mp.mptcp_subflow_addrs(client))
                assert all(path.rtt >= 0 for path in mp.mptcp_tcpinfo(accepted))
                mp.snapshot(client)
            assert ended == (pid, 0)
        return counts

    assert len(in_private_network(look)) > 1


# Of iproute2 6.1, cut short in the middle: an initial subflow, one of an endpoint, a plain TCP connection.
RECORDED_ROWS = """\
0      0         127.0.9.1:38497 127.0.0.1:40155 bbr wscale:10,10 tcp-ulp-mptcp flags:Mmec token:0000(id:0)
0      0      127.0.9.2%lo:40333 127.0.0.1:40155 bbr wscale:10,10 tcp-ulp-mptcp flags:Jjec token:fefd9736
0      0      [fd00:9::2]%lo:42311     [::1]:41365 bbr wscale:10,10 tcp-ulp-mptcp flags:Jjec token:194aa6a3
0      0      127.0.0.1:39742 127.0.0.1:35971 bbr wscale:10,10 rto:204 rtt:0.008/0.004 mss:32741
"""


def test_ss_rows_would_be_seen_missing() -> None:
    """The comparison can fail: it parses rows of ss, and sees one that is not there."""
    rows = rows_in(RECORDED_ROWS)
    assert rows == {
        ("127.0.9.1:38497", "127.0.0.1:40155"),
        ("127.0.9.2:40333", "127.0.0.1:40155"),
        ("[fd00:9::2]:42311", "[::1]:41365"),
    }
    _, *rest = RECORDED_ROWS.splitlines()
    assert rows - rows_in("\n".join(rest)) == {("127.0.9.1:38497", "127.0.0.1:40155")}
    assert as_ss(("fd00:9::2", 42311, 0, 0)) == "[fd00:9::2]:42311"
    assert as_ss(("127.0.9.1", 38497)) == "127.0.9.1:38497"


@contextlib.contextmanager
def path_manager() -> Iterator[None]:
    """In user space: the kernel accepts joins as long as somebody listens to its events."""
    sysctl = Path("/proc/sys/net/mptcp/pm_type")
    if not sysctl.exists():
        raise Missing("a path manager in user space (Linux 5.19)")
    sysctl.write_text("1")
    generic, controller, name, groups, group_name, group_id = 16, 16, 2, 7, 1, 2
    with netlink.connected(generic) as events:
        request = struct.pack("=BBH", 3, 1, 0) + attribute(name, b"mptcp_pm\0")
        family = netlink.attributes(netlink.call(events, controller, request)[4:])
        found = map(netlink.attributes, netlink.attributes(family[groups]).values())
        ids = {group[group_name]: group[group_id] for group in found}
        sol_netlink, add_membership = 270, 1
        events.setsockopt(sol_netlink, add_membership, ids[b"mptcp_pm_events\0"])
        yield


def join(client: socket.socket, last: int) -> None:
    """What a path manager in user space asks for: MPTCP_PM_CMD_SUBFLOW_CREATE, from 127.1.0.last."""
    create, token, remote, local, local_id, port = 10, 4, 6, 1, 2, 5
    host, peer_port = client.getpeername()
    netlink.generic(
        "mptcp_pm",
        create,
        number(token, "I", mp.mptcp_info(client).token)
        + nest(local, netlink._address(f"127.1.0.{last}"), number(local_id, "B", last))
        + nest(remote, netlink._address(host), number(port, "H", peer_port)),
    )


def test_more_subflows_than_a_byte_counts(mptcp: None) -> None:
    """Every reader tells all of 261; the kernel's own count has wrapped, and says 4 besides the first."""

    def look() -> None:
        total = 261
        with path_manager(), connections(1) as (client, server):
            exchange(client, server)
            for nth in range(1, total):
                join(client, 1 + nth % 200)
                if nth % 20 == 0:  # a listener drops what is too much at a time
                    until(lambda n=nth: mp.snapshot(client).live_count > n, "joins")  # type: ignore[misc]
            for sock in (client, server):
                until(lambda sock=sock: mp.snapshot(sock).live_count == total, f"{total} subflows")  # type: ignore[misc]
                info = mp.mptcp_info(sock)
                assert (info.subflows, info.subflows_total) in ((4, 5), (4, None))
                assert len(mp.mptcp_tcpinfo(sock)) == len(mp.mptcp_subflow_addrs(sock)) == total
                assert mp.status(sock) is mp.Status.MPTCP
                full = mp.mptcp_full_info(sock)
                (row,) = mp.Sampler([sock], full=True).sample()
                assert isinstance(row, mp.MPTCPFullInfo)
                for answer in (full, row):
                    assert answer.num_subflows == len(answer.subflows) == answer.live_count == total
                assert mp.MPTCPFullInfo(full.raw) == full

    in_private_network(look)
